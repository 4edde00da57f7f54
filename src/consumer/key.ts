/** Where the HMAC key of an http consumer comes from: the one field behind a reference, read anew at each call. */
import { RotatedError } from '../errors.ts';
import type { Secret } from '../secret/secret.ts';
import { keyBytesLeast } from './signature.ts';
import type { ConsumerContext } from './target.ts';

/** `policy-invalid` where the item has several fields and the reference names none, or the key is too short. */
export async function hmacKey(
  reference: string,
  context: Pick<ConsumerContext, 'resolveReference' | 'redactor'>,
  signal: AbortSignal,
): Promise<Secret> {
  const fields = Object.entries(await context.resolveReference(reference, signal));
  const [first, ...others] = fields;
  if (first === undefined || others.length > 0) {
    throw new RotatedError(
      'policy-invalid',
      `The key ${reference} has ${fields.length} fields where one is expected.`,
      { next: 'Name the field: scheme://path#field.' },
    );
  }
  const [, key] = first;
  context.redactor.add(key);
  if (Buffer.byteLength(key.reveal()) < keyBytesLeast) {
    throw new RotatedError(
      'policy-invalid',
      `The key ${reference} is shorter than ${keyBytesLeast} bytes.`,
      { next: 'Make a longer one: openssl rand -hex 32.' },
    );
  }
  return key;
}
