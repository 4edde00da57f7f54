/** Which call of the test issuer an HTTP request is. */
import type { Call } from './issuer.ts';

/** `/p/PRINCIPAL/…`: what an issuer's customers see. */
export function callOf(
  method: string,
  path: readonly string[],
  authorization: string | undefined,
  body: Readonly<Record<string, unknown>>,
): Call | null {
  const [root, principal, noun, ref, verb] = path;
  if (root !== 'p' || principal === undefined) return null;
  const bearer = authorization?.startsWith('Bearer ') === true ? authorization.slice(7) : null;
  const base = { principal, adminKey: bearer };
  const what = [method, noun, ref === undefined ? null : ':ref', verb]
    .filter((part) => part != null)
    .join(' ');
  switch (what) {
    case 'GET check':
      return { ...base, operation: 'check' };
    case 'POST keys':
      return { ...base, operation: 'mint', mint: body };
    case 'GET keys':
      return { ...base, operation: 'list' };
    case 'POST resolve':
      return { ...base, operation: 'resolve', value: String(body['value']) };
    case 'DELETE keys :ref':
      return { ...base, operation: 'revoke', ref: ref as string };
    case 'POST keys :ref disable':
      return { ...base, operation: 'disable', ref: ref as string };
    case 'POST keys :ref enable':
      return { ...base, operation: 'enable', ref: ref as string };
    case 'GET use':
      return { ...base, operation: 'use', value: bearer ?? '' };
    case 'GET verify':
      return { ...base, operation: 'verify', value: bearer ?? '' };
    default:
      return null;
  }
}
