/** The keyed hash of a credential that logs and audit lines may show. */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { canonicalJson } from './canonical.ts';
import type { Fingerprinter } from './sealing.ts';
import type { Fields } from './secret.ts';

/** `key`: 32 bytes derived for fingerprints alone. 12 hex digits: 48 bits, enough to tell a deployment's values apart. */
export function createFingerprinter(key: Uint8Array): Fingerprinter {
  const keyObject = createSecretKey(key);
  return { of: (fields) => digestFields(keyObject, fields, '').slice(0, 12) };
}

/**
 * HMAC-SHA-256 in hex over the field names, values and `about`. Keyed, because an unkeyed hash of a weak password could
 * be guessed from whatever stores it.
 */
export function digestFields(key: KeyObject, fields: Fields, about: string): string {
  const values = Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, value.reveal()]),
  );
  return createHmac('sha256', key)
    .update(canonicalJson([about, values]))
    .digest('hex');
}
