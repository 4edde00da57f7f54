/** What can be written beside `use: operator`. */
import { z } from 'zod';

const fieldName = z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, 'a field name');

/** The key must not travel in the clear; this machine itself may be asked without TLS. */
const url = z.url({ protocol: /^https?$/ }).refine((text) => {
  const parsed = URL.parse(text);
  if (parsed === null) return false;
  const isHere = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(parsed.hostname);
  return parsed.protocol === 'https:' || isHere;
}, 'an https:// address');

const link = z.url({ protocol: /^https?$/ });
const status = z.int().min(200).max(599);

const verify = z.strictObject({
  url,
  /** `${field}` stands for a field of the new credential. Not in the url: addresses end up in logs. */
  headers: z
    .record(z.string().regex(/^[A-Za-z0-9-]{1,64}$/, 'a header name'), z.string().max(1_024))
    .default({}),
  /** Accepted. */
  expect: z.array(status).min(1).default([200]),
  /** Not accepted at all. */
  reject: z.array(status).min(1).default([401]),
  /** Known, but not allowed to do what it must. */
  restricted: z.array(status).default([403]),
  /** How long a new key may still be refused. */
  settleSeconds: z.int().min(0).max(3_600).default(0),
});

export const optionsSchema = z
  .strictObject({
    /** What to do at the issuer, step by step. */
    instructions: z.string().min(1).max(2_000),
    /** Where to do it. */
    link: link.optional(),
    /** How to end a key, and where; `instructions` and `link` stand in for them. */
    revokeInstructions: z.string().min(1).max(2_000).optional(),
    revokeLink: link.optional(),
    /** What the person hands in. */
    fields: z.array(fieldName).min(1).max(16).default(['value']),
    /** A GET that only a working key gets through. */
    verify: verify.optional(),
    /** Where the issuer allows only so many keys. */
    liveMax: z.int().min(1).optional(),
  })
  .superRefine(({ fields, verify }, context) => {
    for (const [header, value] of Object.entries(verify?.headers ?? {})) {
      for (const [, name] of value.matchAll(/\$\{([^}]*)\}/g)) {
        if (name !== undefined && fields.includes(name)) continue;
        context.addIssue({
          code: 'custom',
          path: ['verify', 'headers', header],
          message: `there is no field ${String(name)}: the fields are ${fields.join(', ')}`,
        });
      }
    }
  });

export type OperatorOptions = z.infer<typeof optionsSchema>;
