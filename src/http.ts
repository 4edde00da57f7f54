/** How an HTTP call of ours is made: no redirect, a deadline, a bounded body, plain text only on this machine, errors without anything sent or received. */
import { type Effect, RotatedError } from './errors.ts';

export type Fetch = typeof globalThis.fetch;

export interface HttpRequest {
  readonly url: URL;
  readonly method: string;
  /** May hold secrets: no error carries them. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** A longer body is an `invalid-answer`. 0 or absent: the body is not read. */
  readonly bodyBytesMax?: number;
  /** Replaces the address in messages where the address itself is a secret (a webhook's). */
  readonly place?: string;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** UTF-8; may hold secrets. */
  readonly body: string;
  readonly retryAfterMs: number | undefined;
}

/** Nothing was sent where one of these ended the call. */
const neverSent = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * One call. Every status is an answer, redirects included: they are not followed, since what we send is meant for the
 * address that the policy names. Throws `timeout` (deadline or abort), `unavailable` (effect none where nothing was sent,
 * else unknown), `invalid-answer` (body too long or not UTF-8).
 */
export async function callHttp(fetch: Fetch, request: HttpRequest): Promise<HttpAnswer> {
  const place = request.place ?? placeOf(request.url);
  const signal = AbortSignal.any([
    request.signal,
    AbortSignal.timeout(Math.max(1, Math.ceil(request.timeoutMs))),
  ]);
  let response: Response;
  try {
    response = await fetch(request.url, {
      method: request.method,
      // A compressed body could be far longer than what was received.
      headers: { 'accept-encoding': 'identity', ...request.headers },
      ...(request.body === undefined ? {} : { body: request.body }),
      redirect: 'manual',
      signal,
    });
  } catch (error) {
    throw callFailed(error, signal, place);
  }
  const answer = {
    status: response.status,
    headers: response.headers,
    retryAfterMs: retryAfter(response.headers.get('retry-after')),
  };
  const bodyBytesMax = request.bodyBytesMax ?? 0;
  if (bodyBytesMax === 0) {
    // Cancelling frees the connection; whether the other side likes it is of no interest.
    await response.body?.cancel().catch(() => undefined);
    return { ...answer, body: '' };
  }
  let bytes: Buffer | null;
  try {
    bytes = await readBounded(response, bodyBytesMax);
  } catch (error) {
    throw callFailed(error, signal, place);
  }
  if (bytes === null) {
    throw new RotatedError('invalid-answer', `${place} answered with over ${bodyBytesMax} bytes.`, {
      effect: 'unknown',
      next: 'Check that the address is the one meant.',
    });
  }
  return { ...answer, body: decode(bytes, place) };
}

/** `host:port/path`, without query: what messages call an address. */
export function placeOf(url: URL): string {
  return `${url.host}${url.pathname}`;
}

/** Does this address lead nowhere but to this machine? By its form alone: no name but `localhost` is looked up. */
export function isLoopback(url: URL): boolean {
  const host = url.hostname;
  return host === 'localhost' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * An address from a policy. Throws `policy-invalid` where it is not an HTTP address or carries a login, and where
 * `plain` is `loopback` and it would cross a network unencrypted.
 */
export function checkedUrl(text: string, plain: 'loopback' | 'anywhere'): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new RotatedError('policy-invalid', 'An address of the policy is not an HTTP address.', {
      next: 'Write it like https://reports.example/reload.',
    });
  }
  if (url.username !== '' || url.password !== '') {
    throw new RotatedError('policy-invalid', `The address of ${url.host} carries a login.`, {
      next: 'Take the login out of the address: a policy file holds no secrets.',
    });
  }
  if (plain === 'loopback' && url.protocol === 'http:' && !isLoopback(url)) {
    throw new RotatedError(
      'policy-invalid',
      `${placeOf(url)} would be called unencrypted across a network.`,
      { next: 'Use https, or an address of this machine (127.0.0.1, [::1], localhost).' },
    );
  }
  url.hash = '';
  return url;
}

/** What a status that means "not now" is as an error; null for every other status. */
export function statusFailure(
  answer: Pick<HttpAnswer, 'status' | 'retryAfterMs'>,
  place: string,
  effect: Effect,
): RotatedError | null {
  const { status, retryAfterMs } = answer;
  if (status === 429) {
    return new RotatedError('throttled', `${place} asks to slow down.`, {
      effect: 'none',
      retryAfterMs,
      next: 'Nothing: it is tried again later.',
    });
  }
  if (status >= 500) {
    return new RotatedError('unavailable', `${place} answered with status ${status}.`, {
      effect,
      retryAfterMs,
      next: `Look at the log of ${place}.`,
    });
  }
  return null;
}

async function readBounded(response: Response, most: number): Promise<Buffer | null> {
  if (response.body === null) return Buffer.alloc(0);
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks);
    length += value.byteLength;
    if (length > most) {
      await reader.cancel().catch(() => undefined);
      return null;
    }
    chunks.push(value);
  }
}

function decode(bytes: Buffer, place: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new RotatedError('invalid-answer', `${place} answered with bytes that are not UTF-8.`, {
      effect: 'unknown',
      next: 'Check that the address is the one meant.',
    });
  }
}

/** What fetch throws quotes headers and addresses: only its system code is kept. */
function callFailed(error: unknown, signal: AbortSignal, place: string): RotatedError {
  if (signal.aborted) {
    return new RotatedError('timeout', `${place} did not answer within its deadline.`, {
      effect: 'unknown',
      next: `Check that ${place} is up and not overloaded.`,
    });
  }
  const code = systemCode(error);
  return new RotatedError(
    'unavailable',
    `${place} could not be reached${code === null ? '' : ` (${code})`}.`,
    {
      effect: code !== null && neverSent.has(code) ? 'none' : 'unknown',
      next: `Check that ${place} is up and can be reached from here.`,
    },
  );
}

function systemCode(error: unknown): string | null {
  let at = error;
  // fetch wraps: TypeError → cause, and for several addresses AggregateError → errors.
  for (let depth = 0; depth < 4 && typeof at === 'object' && at !== null; depth++) {
    const { code, cause, errors } = at as { code?: unknown; cause?: unknown; errors?: unknown };
    if (typeof code === 'string' && /^[A-Z0-9_]{2,40}$/.test(code)) return code;
    at = cause ?? (Array.isArray(errors) ? (errors as unknown[])[0] : null);
  }
  return null;
}

/** Only the form in seconds: a date would need the other side's clock. At most an hour. */
function retryAfter(header: string | null): number | undefined {
  if (header === null || !/^\d{1,6}$/.test(header)) return undefined;
  return Math.min(Number(header), 3_600) * 1_000;
}
