/** The gate's port: one path for each server, for clients of this machine that hold the token. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { asRotatedError, RotatedError } from '../../errors.ts';
import type { Secret } from '../../secret/secret.ts';
import { answerError, answerFailure, rpcErrors } from './answers.ts';
import type { Around, Backend } from './backend.ts';
import { admit, guardOf } from './guard.ts';

export interface FrontOptions extends Around {
  readonly host: string;
  readonly port: number;
  /** Null: none is asked for; only on this machine. */
  readonly token: Secret | null;
  /** Names besides the machine's own by which clients call the gate. */
  readonly hosts: readonly string[];
  /** By name, as it stands in the path. */
  readonly backends: ReadonlyMap<string, Backend>;
}

export interface Front {
  /** As bound: `http://127.0.0.1:7331`. */
  readonly address: string;
  /** Ends every stream and every server behind. */
  close(): Promise<void>;
}

/** Longer than clients keep an idle connection, so that it is they who close it. */
const idleConnectionMs = 75_000;
const connectionsMost = 4_096;
/** After the servers behind have ended, so long for what is still being written. */
const closeWithinMs = 1_000;

/** Throws `refused` where the address is not safe, or not free. */
export async function openFront(options: FrontOptions): Promise<Front> {
  const { host, port, backends, log } = options;
  const guard = guardOf(host, options.token, options.hosts);
  const server = createServer({ noDelay: true }, (request, response) => {
    response.on('error', () => undefined);
    handle(request, response).catch((error: unknown) => {
      log.warn({ ...asRotatedError(error, 'unknown').toJSON() }, 'a request failed');
      answerFailure(response, error);
    });
  });
  server.keepAliveTimeout = idleConnectionMs;
  server.maxConnections = connectionsMost;

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const admission = admit(request.headers, guard);
    if (!admission.in) {
      log.warn({ status: admission.status, why: admission.why }, 'a request was refused');
      const headers: Record<string, string> = { connection: 'close' };
      if (admission.status === 401) headers['www-authenticate'] = 'Bearer realm="rotated gate"';
      const error = { code: rpcErrors.transport, message: admission.why };
      answerError(response, admission.status, error, { headers });
      return;
    }
    const backend = backends.get(nameIn(request.url ?? '/') ?? '');
    if (backend === undefined) {
      const names = [...backends.keys()].map((name) => `/${name}/mcp`).join(', ');
      const message = `No server has this path. There are: ${names}.`;
      answerError(response, 404, { code: rpcErrors.transport, message });
      return;
    }
    await backend.handle({ request, response, forGate: admission.forGate });
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const code = error.code ?? 'unknown';
      reject(
        new RotatedError('refused', `The gate cannot listen on ${host}:${port} (${code}).`, {
          next: 'Name a free address of this machine: --listen 127.0.0.1:PORT.',
        }),
      );
    });
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: `http://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await Promise.all([...backends.values()].map((backend) => backend.close()));
      server.closeIdleConnections();
      const late = setTimeout(() => server.closeAllConnections(), closeWithinMs);
      await closed;
      clearTimeout(late);
    },
  };
}

/** `/NAME/mcp`, `/NAME`. */
function nameIn(url: string): string | null {
  const match = /^\/([^/?]+)(?:\/(?:mcp\/?)?)?(?:\?|$)/.exec(url);
  if (match === null) return null;
  try {
    return decodeURIComponent(match[1] as string);
  } catch {
    return null;
  }
}
