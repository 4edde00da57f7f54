/** What is signed in the report protocol, and how: the same bytes for the daemon and for a server that answers it. */
import { createHmac, timingSafeEqual } from 'node:crypto';

export const timestampHeader = 'rotated-timestamp';
export const signatureHeader = 'rotated-signature';

/** HMAC keys shorter than this could be guessed. */
export const keyBytesLeast = 16;

/**
 * A reload: HMAC-SHA-256 over `v1 \n reload \n timestamp \n body` (line feeds, no spaces).
 * The first lines tell the two kinds of message apart, so that neither can be replayed as the other.
 */
export function signReload(key: string, timestamp: string, body: string): string {
  return sign(key, ['reload', timestamp], body);
}

/** A report: over `v1 \n report \n nonce \n secret \n body`. The nonce makes it fresh, the name binds it to what was asked. */
export function signReport(key: string, nonce: string, secret: string, body: string): string {
  return sign(key, ['report', nonce, secret], body);
}

/** Compares in constant time; false for anything malformed. */
export function signatureMatches(given: string | null, expected: string): boolean {
  if (given === null) return false;
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** `v1=` and 64 hex digits. `parts` must hold no line feed: callers pass digits and checked names. */
function sign(key: string, parts: readonly string[], body: string): string {
  const hmac = createHmac('sha256', key);
  hmac.update(['v1', ...parts, ''].join('\n'));
  hmac.update(body);
  return `v1=${hmac.digest('hex')}`;
}
