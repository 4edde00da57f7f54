/** A key-encryption key that this process holds as bytes: how it wraps data keys and derives keys for other purposes. */
import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync } from 'node:crypto';
import type { Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { KeyEncryptionKey } from './sealing.ts';

export const keyBytes = 32;
const ivBytes = 12;
const tagBytes = 16;

/** `material`: 32 random bytes. The id names it for ever: 16 hex digits that tell nothing of the key (HKDF, RFC 5869). */
export function localKey(material: Uint8Array, random: Random): KeyEncryptionKey {
  if (material.length !== keyBytes) {
    throw new RotatedError('key-missing', `A key has ${keyBytes} bytes, not ${material.length}.`);
  }
  const root = Buffer.from(material);
  const id = expand(root, 'key id').toString('hex').slice(0, 16);
  const wrapKey = createSecretKey(expand(root, 'wrap'));
  const aad = Buffer.from(`rotated wrapped data key ${id}`);
  return {
    id,
    wrap: async (dataKey) => {
      const iv = random.bytes(ivBytes);
      const cipher = createCipheriv('aes-256-gcm', wrapKey, iv).setAAD(aad);
      const sealed = Buffer.concat([cipher.update(dataKey), cipher.final()]);
      return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64');
    },
    unwrap: async (wrapped) => {
      const bytes = Buffer.from(wrapped, 'base64');
      try {
        const decipher = createDecipheriv('aes-256-gcm', wrapKey, bytes.subarray(0, ivBytes), {
          authTagLength: tagBytes,
        })
          .setAAD(aad)
          .setAuthTag(bytes.subarray(ivBytes, ivBytes + tagBytes));
        const opened = decipher.update(bytes.subarray(ivBytes + tagBytes));
        return Buffer.concat([opened, decipher.final()]);
      } catch {
        throw new RotatedError('seal-broken', `A data key wrapped by key ${id} does not open.`, {
          next: 'Restore the state directory from a backup: the record was changed.',
        });
      }
    },
    derive: async (purpose) => expand(root, `derive ${purpose}`),
  };
}

function expand(root: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', root, '', `rotated ${purpose}`, keyBytes));
}
