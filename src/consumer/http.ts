/** The http consumer and the http report: DESIGN's signed protocol from the daemon's side. */
import { asRotatedError, RotatedError } from '../errors.ts';
import {
  callHttp,
  checkedUrl,
  type Fetch,
  type HttpAnswer,
  placeOf,
  statusFailure,
} from '../http.ts';
import type { ConsumerSpec, ReportSpec } from '../policy/policy.ts';
import { answerBytesMax, parseAnswer } from './answer.ts';
import { consumerFailed } from './failures.ts';
import { hmacKey } from './key.ts';
import {
  signatureHeader,
  signatureMatches,
  signReload,
  signReport,
  timestampHeader,
} from './signature.ts';
import { changesBody, type ConsumerContext, type Reporter, type Target } from './target.ts';

export function httpTarget(
  spec: Extract<ConsumerSpec, { kind: 'http' }>,
  context: ConsumerContext,
): Target {
  const { key, timeoutMs } = spec;
  // With a key, a stranger on the way can neither forge nor use a reload: it holds names and numbers only.
  const url = checkedUrl(spec.url, key === null ? 'loopback' : 'anywhere');
  const place = `The consumer at ${placeOf(url)}`;
  const fetch = context.fetch ?? globalThis.fetch;
  const next = `Check that the server at ${url.host} runs and reloads at ${url.pathname}.`;

  async function send(request: SendRequest, signal: AbortSignal): Promise<HttpAnswer> {
    try {
      return await callHttp(fetch, { ...request, url, timeoutMs, signal });
    } catch (error) {
      const failure = asRotatedError(error, 'unknown');
      if (failure.code === 'timeout') throw failure;
      throw consumerFailed(
        place,
        'could not be reached',
        request.method === 'POST' ? failure.effect : 'none',
        next,
        failure,
      );
    }
  }

  return {
    id: `${url.protocol}${url.host}${url.pathname}${url.search}`,
    async probe(signal) {
      if (key !== null) await hmacKey(key, context, signal);
      // HEAD reloads nothing; any answer, even "method not allowed", shows that somebody is there.
      const answer = await send({ method: 'HEAD' }, signal);
      const failure = statusFailure(answer, placeOf(url), 'none');
      if (failure !== null) {
        throw consumerFailed(place, `answers with status ${answer.status}`, 'none', next, failure);
      }
    },
    async reload(changes, signal) {
      const body = changesBody(changes);
      const headers: Record<string, string> = { 'content-type': 'application/json' };
      if (key !== null) {
        const timestamp = Math.floor(context.clock.now() / 1_000).toString();
        const secret = await hmacKey(key, context, signal);
        headers[timestampHeader] = timestamp;
        headers[signatureHeader] = signReload(secret.reveal(), timestamp, body);
      }
      const answer = await send({ method: 'POST', headers, body }, signal);
      if (answer.status >= 200 && answer.status < 300) return;
      throw consumerFailed(
        place,
        `answered the reload with status ${answer.status}`,
        answer.status >= 500 ? 'unknown' : 'none',
        reloadNext(answer.status, next),
        statusFailure(answer, placeOf(url), 'unknown') ?? undefined,
      );
    },
  };
}

interface SendRequest {
  readonly method: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

function reloadNext(status: number, otherwise: string): string {
  if (status === 401 || status === 403) {
    return 'Check that both sides have the same key and the same time of day.';
  }
  if (status >= 300 && status < 400) {
    return 'Write the address it redirects to into the policy: redirects are not followed.';
  }
  return otherwise;
}

/**
 * Believed only where it cannot be forged: signed, or from a server that TLS proves. An unsigned answer over plain HTTP
 * could come from any process that got hold of the port, and would end a credential in use: it counts as unknown.
 */
export function httpReporter(
  spec: Extract<ReportSpec, { kind: 'http' }>,
  timeoutMs: number,
  context: ConsumerContext,
): Reporter | null {
  const { key } = spec;
  const base = checkedUrl(spec.url, key === null ? 'loopback' : 'anywhere');
  if (key === null && base.protocol === 'http:') return null;
  const fetch: Fetch = context.fetch ?? globalThis.fetch;
  const place = placeOf(base);

  return async (secret, signal) => {
    const nonce = context.random.bytes(24).toString('base64url');
    const url = new URL(base);
    url.searchParams.set('secret', secret);
    url.searchParams.set('nonce', nonce);
    const hmac = key === null ? null : await hmacKey(key, context, signal);
    const answer = await callHttp(fetch, {
      url,
      method: 'GET',
      headers: { accept: 'application/json' },
      timeoutMs,
      signal,
      bodyBytesMax: answerBytesMax,
    });
    checkAnswer(answer, place, secret);
    if (hmac !== null) {
      const expected = signReport(hmac.reveal(), nonce, secret, answer.body);
      if (!signatureMatches(answer.headers.get(signatureHeader), expected)) {
        throw new RotatedError(
          'report-unsigned',
          `The report of ${place} carries no valid signature.`,
          {
            secret,
            next: 'Check that both sides have the same key, and that nothing else listens there.',
          },
        );
      }
    }
    return parseAnswer(answer.body, { secret, place, mixed: false });
  };
}

function checkAnswer(answer: HttpAnswer, place: string, secret: string): void {
  const failure = statusFailure(answer, place, 'none');
  if (failure !== null) throw failure;
  if (answer.status === 401 || answer.status === 403) {
    throw new RotatedError('denied', `${place} refuses to report (status ${answer.status}).`, {
      secret,
      next: 'Let the daemon ask for reports there.',
    });
  }
  const type = (answer.headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase();
  if (answer.status !== 200 || type !== 'application/json') {
    const what = answer.status === 200 ? 'not with JSON' : `with status ${answer.status}`;
    throw new RotatedError('invalid-answer', `${place} answered ${what} when asked to report.`, {
      secret,
      next: 'Check that the address is the one meant: redirects are not followed.',
    });
  }
}
