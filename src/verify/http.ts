/** The http check: one call with the credential in headers or body, judged by its status alone. */
import { callHttp, checkedUrl, type Fetch, placeOf, statusFailure } from '../http.ts';
import {
  cannotTell,
  type CheckSpec,
  fieldOf,
  policyMistake,
  type VerifierContext,
} from './check.ts';
import type { Candidate, Verifier } from './verifier.ts';

/**
 * `expectStatus` means it works; 401 rejected; 403 restricted. Anything else cannot tell and throws: a redirect, a wrong
 * path or a server in trouble says nothing about the credential. The body of the answer is not read.
 */
export function httpVerifier(
  spec: Extract<CheckSpec, { kind: 'http' }>,
  context: VerifierContext,
): Verifier {
  const { call, expectStatus, timeoutMs } = spec;
  // What is sent is the credential itself: never in plain text across a network.
  const url = checkedUrl(call.url, 'loopback');
  const place = placeOf(url);
  const fetch: Fetch = context.fetch ?? globalThis.fetch;
  return {
    id: `http:${call.method} ${place}`,
    async verify(candidate, signal) {
      const headers = Object.fromEntries(
        Object.entries(call.headers).map(([name, text]) => [
          name,
          fill(text, candidate, `The header ${name}`, (value) =>
            headerValue(value, candidate, name),
          ),
        ]),
      );
      const escape = bodyEscape(headers);
      const body = call.body === null ? null : fill(call.body, candidate, 'The body', escape);
      const answer = await callHttp(fetch, {
        url,
        method: call.method,
        headers,
        ...(body === null ? {} : { body }),
        timeoutMs,
        signal,
      });
      const { status } = answer;
      if (expectStatus.includes(status)) return { ok: true };
      if (status === 401 || status === 403) {
        const kind = status === 401 ? 'rejected' : 'restricted';
        return { ok: false, kind, reason: `${place} answered with status ${status}` };
      }
      throw (
        statusFailure(answer, place, 'none') ??
        cannotTell(
          candidate,
          'invalid-answer',
          `${place} answered with status ${status}`,
          `Expect ${status} in the policy if it is right, or correct the address; redirects are not followed.`,
        )
      );
    },
  };
}

/** `${field}` stands for a field of the item; everything else is literal. */
function fill(
  text: string,
  candidate: Candidate,
  place: string,
  escape: (value: string) => string,
): string {
  return text.replaceAll(/\$\{([^}]*)\}/g, (_, name: string) =>
    escape(fieldOf(candidate, name, place).reveal()),
  );
}

/** fetch refuses such a value too, with a message that quotes it. */
function headerValue(value: string, candidate: Candidate, name: string): string {
  if (/^[\x20-\x7e]*$/.test(value)) return value;
  throw policyMistake(
    candidate,
    `The header ${name} cannot carry the field: it holds other than printable ASCII characters`,
    'Send it in the body.',
  );
}

/** A quote in a password must not end the JSON string it stands in. */
function bodyEscape(headers: Readonly<Record<string, string>>): (value: string) => string {
  const entry = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type');
  const type = entry?.[1].split(';')[0]?.trim().toLowerCase() ?? '';
  if (type === 'application/json' || type.endsWith('+json')) {
    return (value) => JSON.stringify(value).slice(1, -1);
  }
  if (type === 'application/x-www-form-urlencoded') return encodeURIComponent;
  return (value) => value;
}
