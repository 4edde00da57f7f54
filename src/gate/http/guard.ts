/** Who may speak to the gate: the right name in Host, no page of another site, the token. Pure. */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { RotatedError } from '../../errors.ts';
import type { Secret } from '../../secret/secret.ts';

export interface Guard {
  /** The clients' token; null where they need none: on this machine alone. */
  readonly token: Buffer | null;
  /** Names besides those of this machine by which clients call the gate, in lower case and without a port. */
  readonly hosts: ReadonlySet<string>;
}

export type Admission =
  | { readonly in: true; readonly forGate: ReadonlySet<string> }
  | { readonly in: false; readonly status: 401 | 403; readonly why: string };

/** For clients whose `Authorization` is meant for the server behind the gate. */
export const tokenHeader = 'x-rotated-token';

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]']);
const both: ReadonlySet<string> = new Set(['authorization', tokenHeader]);
const own: ReadonlySet<string> = new Set([tokenHeader]);

/**
 * A page in a browser can reach this port, by its own name once that name's address is changed to this machine's: its Host
 * and its Origin still tell.
 */
export function admit(headers: IncomingHttpHeaders, guard: Guard): Admission {
  if (!isOurs(hostName(headers.host ?? ''), guard)) {
    return { in: false, status: 403, why: 'The Host header names another machine.' };
  }
  const { origin } = headers;
  if (origin !== undefined && !isOurs(originName(origin), guard)) {
    return { in: false, status: 403, why: 'The Origin header names another site.' };
  }
  const bearer = /^bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1] ?? null;
  if (guard.token === null) return { in: true, forGate: own };
  if (bearer !== null && isToken(bearer, guard.token)) return { in: true, forGate: both };
  const aside = headers[tokenHeader];
  if (typeof aside === 'string' && isToken(aside, guard.token)) return { in: true, forGate: own };
  return { in: false, status: 401, why: 'The token of the gate is missing or wrong.' };
}

/** `host`: what is listened on, which clients may then call by that name. Throws `refused` as `requireSafe` does. */
export function guardOf(host: string, token: Secret | null, hosts: readonly string[]): Guard {
  requireSafe(host, token);
  const names = [host.includes(':') ? `[${host}]` : host, ...hosts];
  return {
    token: token === null ? null : Buffer.from(token.reveal()),
    hosts: new Set(names.map((name) => name.toLowerCase())),
  };
}

/** Throws `refused` where other machines could come in without a token. */
function requireSafe(host: string, token: Secret | null): void {
  if (token !== null || isLoopbackAddress(host)) return;
  throw new RotatedError(
    'refused',
    `The gate would serve ${host} without a token: whoever reaches it could call every server.`,
    { next: 'Leave out --no-token, or listen on this machine alone: --listen 127.0.0.1:7331.' },
  );
}

function isLoopbackAddress(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** In time that does not depend on where they differ; how long it is is no secret. */
function isToken(given: string, token: Buffer): boolean {
  const bytes = Buffer.from(given);
  return bytes.length === token.length && timingSafeEqual(bytes, token);
}

function isOurs(name: string | null, { hosts }: Guard): boolean {
  return name !== null && (loopbackNames.has(name) || hosts.has(name));
}

function hostName(host: string): string | null {
  return /^(\[[0-9a-f:.]+\]|[^:[\]/@\s]+)(?::\d{1,5})?$/i.exec(host)?.[1]?.toLowerCase() ?? null;
}

function originName(origin: string): string | null {
  const match = /^https?:\/\/(.+)$/i.exec(origin);
  return match === null ? null : hostName(match[1] as string);
}
