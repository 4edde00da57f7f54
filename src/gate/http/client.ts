/** Our calls to servers that are reached by HTTP: connections kept alive, no redirect followed, errors without anything sent or received. */
import {
  Agent as HttpAgent,
  type IncomingMessage,
  request as httpRequest,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream';
import { RotatedError } from '../../errors.ts';

export interface Outgoing {
  readonly url: URL;
  readonly method: string;
  /** Name, value, name, value, …: may hold values of credentials. */
  readonly headers: readonly string[];
  readonly body: Buffer | Readable | null;
  /** Ends the exchange, also while its answer is read. */
  readonly signal: AbortSignal;
}

export interface HttpClient {
  /** Resolves with the head of the answer. Throws `unavailable`: effect none where nothing was sent, else unknown. */
  send(outgoing: Outgoing): Promise<IncomingMessage>;
  close(): void;
}

/** A connection that lay idle for longer may be closed by the server just as it is used again. */
const idleConnectionMs = 4_000;
const idleConnectionsMost = 256;

/** The error can have one of these only if the connection was never made. */
const neverSent = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

export function createHttpClient(): HttpClient {
  const options = {
    keepAlive: true,
    timeout: idleConnectionMs,
    maxFreeSockets: idleConnectionsMost,
    scheduling: 'lifo',
  } as const;
  const http = new HttpAgent(options);
  const https = new HttpsAgent(options);
  return {
    send: ({ url, method, headers, body, signal }) =>
      new Promise((resolve, reject) => {
        const isSecure = url.protocol === 'https:';
        const settings: RequestOptions = {
          method,
          headers: [...headers],
          agent: isSecure ? https : http,
          signal,
        };
        const request = isSecure ? httpsRequest(url, settings) : httpRequest(url, settings);
        request.on('error', (error) => reject(failed(error, url)));
        request.on('response', resolve);
        request.setNoDelay(true);
        if (body === null || Buffer.isBuffer(body)) request.end(body ?? undefined);
        else pipeline(body, request, () => undefined);
      }),
    close() {
      http.destroy();
      https.destroy();
    },
  };
}

function failed(error: NodeJS.ErrnoException, url: URL): RotatedError {
  const code = error.code !== undefined && /^[A-Z_]{2,40}$/.test(error.code) ? error.code : null;
  return new RotatedError(
    'unavailable',
    `${url.host} could not be reached${code === null ? '' : ` (${code})`}.`,
    {
      effect: code !== null && neverSent.has(code) ? 'none' : 'unknown',
      next: `Check that ${url.host} is up and can be reached from here.`,
    },
  );
}
