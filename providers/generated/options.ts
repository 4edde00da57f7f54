/** What can be written beside `use: generated`, and the fields that each kind gives. */
import { z } from 'zod';

/** Below this a value can be guessed offline; NIST SP 800-131A asks for as much of a key. */
const bitsMin = 128;

const asciiAlphabet = z
  .string()
  .min(2)
  .max(94)
  .regex(/^[\x21-\x7e]+$/, 'only printable ASCII without spaces')
  .refine((text) => new Set(text).size === text.length, 'each character once');

const random = z
  .strictObject({
    kind: z.literal('random'),
    /** Bytes of randomness, or characters where `encoding` is `alphabet`. */
    length: z.int().min(1).max(1024).default(32),
    encoding: z.enum(['base64url', 'base64', 'hex', 'alphabet']).default('base64url'),
    alphabet: asciiAlphabet.optional(),
    /** Put before the value, so that scanners and people recognise it. */
    prefix: z
      .string()
      .max(32)
      .regex(/^[\x21-\x7e]*$/, 'only printable ASCII without spaces')
      .default(''),
  })
  .refine(
    ({ encoding, alphabet }) => (encoding === 'alphabet') === (alphabet !== undefined),
    'alphabet goes with `encoding: alphabet`, and only with it',
  )
  .refine(
    ({ length, encoding, alphabet }) =>
      length * (encoding === 'alphabet' ? Math.log2(alphabet?.length ?? 2) : 8) >= bitsMin,
    `too short: at least ${bitsMin} bits of randomness`,
  );

const hmac = z.strictObject({
  kind: z.literal('hmac'),
  /** The key is as long as the hash: RFC 7518, section 3.2. */
  algorithm: z.enum(['HS256', 'HS384', 'HS512']).default('HS256'),
  encoding: z.enum(['base64url', 'base64', 'hex']).default('base64url'),
});

const ed25519 = z.strictObject({ kind: z.literal('ed25519') });

const jwt = z.strictObject({
  kind: z.literal('jwt'),
  algorithm: z.enum(['EdDSA', 'ES256']).default('EdDSA'),
});

export const optionsSchema = z.discriminatedUnion('kind', [random, hmac, ed25519, jwt]);

export type GeneratedOptions = z.infer<typeof optionsSchema>;
