/**
 * The other side of the report protocol: what a server puts in front of its own reload; exported as `rotated/consumer`.
 *
 * A reload is a POST of `{"changes":[{"secret","generation","stage"}]}`, signed over timestamp and body. A report is a
 * GET with `?secret=…&nonce=…`, answered with `{"instances":[{"id","generation","state"}]}`, signed over nonce, secret
 * and body. `docs/consumers.md` has the protocol byte by byte, for servers in other languages.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import { type Clock, systemClock } from '../clock.ts';
import type { Change, InstanceState } from './consumer.ts';
import {
  keyBytesLeast,
  signatureHeader,
  signatureMatches,
  signReload,
  signReport,
  timestampHeader,
} from './signature.ts';

export type { Change, InstanceState } from './consumer.ts';

export interface ServedInstance {
  /** 1 to 200 printable ASCII characters, not beginning with a space; stable for the life of the instance. */
  readonly id: string;
  /** The generation it serves; null before it has loaded any. */
  readonly generation: number | null;
  readonly state: InstanceState;
}

export interface ReloadHandlerOptions {
  /** The HMAC key that the policy's `key:` names: at least 16 bytes. */
  readonly key: string;
  /**
   * Read the secret anew and use it. May be called again with the same changes, and never while another call of it runs.
   * Rejecting answers 500: the daemon tries again.
   */
  onReload(changes: readonly Change[]): void | Promise<void>;
  /** Which generation of `secret` each instance uses now. A live instance that is left out may lose its credential. */
  report(secret: string): readonly ServedInstance[] | Promise<readonly ServedInstance[]>;
  /** How far a reload's timestamp may be from this machine's clock, in seconds; 300 where absent. */
  readonly freshnessSeconds?: number;
  readonly clock?: Pick<Clock, 'now'>;
}

export interface ReloadHandler {
  /** For servers that speak web `Request` and `Response`. */
  fetch(request: Request): Promise<Response>;
  /** For `node:http`: `createServer(handler.node)`. Never throws. */
  node(request: IncomingMessage, response: ServerResponse): void;
}

const bodyBytesMax = 1_048_576;
const nonceForm = /^[A-Za-z0-9_-]{16,128}$/;
const secretForm = /^[\x21-\x7e]{1,256}$/;

const bodySchema = z.object({
  changes: z.array(
    z.object({
      secret: z.string(),
      generation: z.number().int().nonnegative(),
      stage: z.enum(['pending', 'current', 'retired']),
    }),
  ),
});

/** Throws a TypeError where the key is too short to protect anything. */
export function createReloadHandler(options: ReloadHandlerOptions): ReloadHandler {
  const { key, onReload, report, freshnessSeconds = 300, clock = systemClock() } = options;
  if (typeof key !== 'string' || Buffer.byteLength(key) < keyBytesLeast) {
    throw new TypeError(`The key must have at least ${keyBytesLeast} bytes.`);
  }
  let last: Promise<unknown> = Promise.resolve();

  /** One at a time, in the order they came: a reload that the daemon repeats may meet the one it gave up on. */
  function inTurn(changes: readonly Change[]): Promise<void> {
    const turn = last.then(() => onReload(changes));
    last = turn.catch(() => undefined);
    return turn;
  }

  async function reload(asked: Asked): Promise<Answered> {
    const timestamp = asked.timestamp ?? '';
    if (!/^\d{1,12}$/.test(timestamp)) return refusal(401, 'no timestamp');
    if (!signatureMatches(asked.signature, signReload(key, timestamp, asked.body))) {
      return refusal(401, 'wrong signature');
    }
    // After the signature, so that a stranger learns nothing about this machine's clock.
    if (Math.abs(clock.now() / 1_000 - Number(timestamp)) > freshnessSeconds) {
      return refusal(401, 'stale timestamp');
    }
    const parsed = bodySchema.safeParse(parseJson(asked.body));
    if (!parsed.success) return refusal(400, 'not a list of changes');
    await inTurn(parsed.data.changes);
    return { status: 204, body: null, signature: null };
  }

  async function answerReport(query: URLSearchParams): Promise<Answered> {
    const [secret, nonce] = [query.get('secret') ?? '', query.get('nonce') ?? ''];
    if (!secretForm.test(secret)) return refusal(400, 'no secret');
    if (!nonceForm.test(nonce)) return refusal(400, 'no nonce');
    const body = JSON.stringify({ instances: await report(secret) });
    return { status: 200, body, signature: signReport(key, nonce, secret, body) };
  }

  async function answer(asked: Asked): Promise<Answered> {
    try {
      switch (asked.method) {
        case 'POST':
          return await reload(asked);
        case 'GET':
          return await answerReport(asked.query);
        case 'HEAD':
          // The daemon's probe: is anybody there?
          return { status: 200, body: null, signature: null };
        default:
          return refusal(405, 'not POST or GET');
      }
    } catch {
      // What the server's own code threw is for the server's log, not for whoever asked.
      return refusal(500, 'the server failed');
    }
  }

  return {
    async fetch(request) {
      const body = request.method === 'POST' ? await bounded(request.body) : '';
      const answered =
        body === null
          ? refusal(413, 'too long')
          : await answer({
              method: request.method,
              query: new URL(request.url).searchParams,
              timestamp: request.headers.get(timestampHeader),
              signature: request.headers.get(signatureHeader),
              body,
            });
      return new Response(answered.body, { status: answered.status, headers: headersOf(answered) });
    },
    node(request, response) {
      void answerNode(request, response, answer);
    },
  };
}

interface Asked {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly timestamp: string | null;
  readonly signature: string | null;
  readonly body: string;
}

interface Answered {
  readonly status: number;
  readonly body: string | null;
  readonly signature: string | null;
}

async function answerNode(
  request: IncomingMessage,
  response: ServerResponse,
  answer: (asked: Asked) => Promise<Answered>,
): Promise<void> {
  try {
    const body = request.method === 'POST' ? await bounded(request) : '';
    const answered =
      body === null
        ? refusal(413, 'too long')
        : await answer({
            method: request.method ?? '',
            query: new URL(request.url ?? '/', 'http://server').searchParams,
            timestamp: single(request.headers[timestampHeader]),
            signature: single(request.headers[signatureHeader]),
            body,
          });
    response.writeHead(answered.status, headersOf(answered)).end(answered.body ?? undefined);
  } catch {
    // The caller went away, or its address or body cannot be read: nobody is left to answer.
    response.destroy();
  }
}

/** null where it is longer than any reload of ours. */
async function bounded(body: AsyncIterable<Uint8Array> | null): Promise<string | null> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    length += chunk.byteLength;
    if (length > bodyBytesMax) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function headersOf(answered: Answered): Record<string, string> {
  return {
    'cache-control': 'no-store',
    ...(answered.body === null ? {} : { 'content-type': 'application/json' }),
    ...(answered.signature === null ? {} : { [signatureHeader]: answered.signature }),
  };
}

function refusal(status: number, error: string): Answered {
  return { status, body: JSON.stringify({ error }), signature: null };
}

function single(header: string | readonly string[] | undefined): string | null {
  return typeof header === 'string' ? header : null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
