/** Our calls to servers that are reached by HTTP: connections kept alive, no redirect followed, errors without anything sent or received. */
import {
  type ClientRequest,
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
  readonly signal?: AbortSignal;
  /** Called at once with what ends the exchange when it is destroyed: for whoever makes thousands a second. */
  readonly onBegin?: (request: ClientRequest) => void;
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
    noDelay: true,
  } as const;
  const http = new HttpAgent(options);
  const https = new HttpsAgent(options);
  const places = new WeakMap<URL, RequestOptions>();
  const placeOf = (url: URL): RequestOptions => {
    const known = places.get(url);
    if (known !== undefined) return known;
    const { hostname, port, pathname, search } = url;
    const place = {
      hostname: hostname.replaceAll(/[[\]]/g, ''),
      ...(port === '' ? {} : { port }),
      path: `${pathname}${search}`,
    };
    places.set(url, place);
    return place;
  };
  return {
    send: ({ url, method, headers, body, signal, onBegin }) =>
      new Promise((resolve, reject) => {
        const isSecure = url.protocol === 'https:';
        const settings: RequestOptions = {
          ...placeOf(url),
          method,
          headers: [...headers],
          agent: isSecure ? https : http,
          ...(signal === undefined ? {} : { signal }),
        };
        const request = isSecure ? httpsRequest(settings) : httpRequest(settings);
        onBegin?.(request);
        request.on('error', (error) => reject(failed(error, url)));
        request.on('response', resolve);
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
