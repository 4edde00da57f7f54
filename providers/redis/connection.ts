/** One connection to Redis: ends with its signal, and throws only RotatedErrors that quote nothing the server said. */
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { type ErrorCode, RotatedError } from '../../src/errors.ts';
import type { Fields } from '../../src/provider/provider.ts';
import type { RedisOptions } from './options.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly tls: { readonly ca?: string } | false;
}

export interface Login {
  /** null: the default user, authenticated by password alone. */
  readonly username: string | null;
  readonly password: string | null;
}

export interface Connection extends AsyncDisposable {
  /** One command, never retried. `effect` is what a lost answer leaves open. */
  send(command: readonly string[], effect: 'none' | 'unknown'): Promise<unknown>;
}

/** `unauthenticated` and `unavailable` have effect none: nothing was sent yet. */
export async function connect(
  { host, port, tls }: Endpoint,
  { username, password }: Login,
  signal: AbortSignal,
): Promise<Connection> {
  // Inside, so that a deployment without this issuer never loads the client.
  const { createClient } = await import('@redis/client');
  signal.throwIfAborted();
  const client = createClient({
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    // The plain protocol: no HELLO, no CLIENT SETINFO, so a user with few rights can log in too.
    RESP: 2,
    disableClientInfo: true,
    // A command sent twice behind our back would make its effect unknowable.
    disableOfflineQueue: true,
    socket: {
      host,
      port,
      reconnectStrategy: false,
      ...(tls === false ? {} : { tls: true, servername: net.isIP(host) === 0 ? host : '', ...tls }),
    },
  });
  // Every failure also rejects the call it belongs to.
  client.on('error', () => undefined);
  const destroy = (): void => {
    try {
      client.destroy();
    } catch {
      // Thrown where it is closed already.
    }
  };
  const aborted = new Promise<never>((_resolve, reject) => {
    const stop = (): void => {
      destroy();
      reject(new Error('aborted'));
    };
    signal.addEventListener('abort', stop, { once: true });
  });
  // Only ever of use inside a race.
  aborted.catch(() => undefined);
  try {
    await Promise.race([client.connect(), aborted]);
  } catch (error) {
    destroy();
    throw sanitized(error, signal, 'none');
  }
  return {
    async send(command, effect) {
      try {
        return await Promise.race([client.sendCommand([...command]), aborted]);
      } catch (error) {
        throw sanitized(error, signal, effect);
      }
    },
    async [Symbol.asyncDispose]() {
      destroy();
    },
  };
}

/** Throws `provider-options` where the url cannot be read; the values are never quoted. */
export async function adminAccess(
  admin: Fields,
  options: RedisOptions,
  directory: string,
): Promise<{ readonly endpoint: Endpoint; readonly login: Login }> {
  const url = parseUrl(admin['url']?.reveal());
  const text = (name: string): string | undefined => admin[name]?.reveal();
  const host = text('host') ?? decoded(url?.hostname) ?? options.host ?? '127.0.0.1';
  return {
    login: {
      username: text('username') ?? decoded(url?.username) ?? null,
      password: text('password') ?? decoded(url?.password) ?? null,
    },
    endpoint: {
      host,
      port: Number(text('port') ?? decoded(url?.port) ?? options.port ?? 6379),
      tls: await tlsOf(options, host, url?.protocol === 'rediss:', directory),
    },
  };
}

/** Where users of the minted password connect: as the options say, else where the admin does. */
export async function userEndpoint(
  options: RedisOptions,
  admin: Endpoint,
  directory: string,
): Promise<Endpoint> {
  const host = options.host ?? admin.host;
  const tls = host === admin.host ? admin.tls : await tlsOf(options, host, false, directory);
  return { host, port: options.port ?? admin.port, tls };
}

/** The first word of an error reply, https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors. */
const words: Readonly<Record<string, ErrorCode>> = {
  WRONGPASS: 'unauthenticated',
  NOAUTH: 'unauthenticated',
  NOPERM: 'denied',
  LOADING: 'unavailable',
  BUSY: 'unavailable',
  MASTERDOWN: 'unavailable',
  READONLY: 'unavailable',
  OOM: 'unavailable',
};

/** Replies may quote the command that failed, and so a password's hash; only their first word is kept. */
function sanitized(error: unknown, signal: AbortSignal, effect: 'none' | 'unknown'): RotatedError {
  if (error instanceof RotatedError) return error;
  if (signal.aborted) {
    return new RotatedError('timeout', 'The call to Redis was ended at its deadline.', { effect });
  }
  if (isErrorReply(error)) {
    const word = /^-?([A-Z]{3,16})\b/.exec(error.message)?.[1] ?? 'ERR';
    const code = words[word] ?? 'unexpected';
    // The server answered that it did not do it.
    return new RotatedError(code, `Redis refused with ${word}.`, {
      effect: 'none',
      next: nextStep(code),
    });
  }
  const code = (error as { code?: unknown }).code;
  const system = typeof code === 'string' && /^E[A-Z]{3,15}$/.test(code) ? ` (${code})` : '';
  return new RotatedError('unavailable', `The connection to Redis failed${system}.`, {
    effect,
    next: 'Check host, port and TLS settings, and that the server runs.',
  });
}

function isErrorReply(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  // By name: importing the class here would load the client on every path.
  const names = ['ErrorReply', 'SimpleError', 'BlobError'];
  return names.includes(error.constructor.name);
}

function nextStep(code: ErrorCode): string {
  if (code === 'denied')
    return 'Give the admin user the commands that providers/redis/README.md lists.';
  if (code === 'unauthenticated') return 'Check the admin credential that the policy names.';
  return "See the server's log.";
}

async function tlsOf(
  { tls, ca }: RedisOptions,
  host: string,
  isRediss: boolean,
  directory: string,
): Promise<{ readonly ca?: string } | false> {
  const isHere = host.startsWith('/') || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
  if (tls === 'off' || (tls === 'auto' && !isRediss && isHere)) return false;
  if (ca === undefined) return {};
  const file = path.resolve(directory, ca);
  try {
    return { ca: await readFile(file, 'utf8') };
  } catch {
    throw new RotatedError(
      'provider-options',
      `The file of certificate authorities ${file} cannot be read.`,
      {
        next: 'Correct `ca` in the policy, or make the file readable.',
      },
    );
  }
}

function parseUrl(text: string | undefined): URL | null {
  if (text === undefined) return null;
  const url = URL.parse(text);
  if (url !== null && /^rediss?:$/.test(url.protocol)) return url;
  throw new RotatedError(
    'provider-options',
    'The url of the Redis admin credential cannot be read.',
    {
      next: 'Write redis://USER:PASSWORD@HOST:PORT (rediss:// for TLS), with special characters percent-encoded.',
    },
  );
}

function decoded(part: string | undefined): string | undefined {
  if (part === undefined || part === '') return undefined;
  try {
    return decodeURIComponent(part.replace(/^\[|\]$/g, ''));
  } catch {
    return part;
  }
}
