/** What a shim may say on the feed, checked: it is a program of the same account, but not of this process. */
import { z } from 'zod';
import { isServerName, parseInstance } from '../gate/feed/identity.ts';
import { referencesMost, type ShimMessage } from '../gate/feed/protocol.ts';

/**
 * For people, and journalled: nothing in it could forge a line, or read otherwise than it is (control characters, marks
 * that turn the direction of text). Mended rather than refused: a message is worth having.
 */
const printable = z
  .string()
  .transform((text) => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '?').slice(0, 1_000));
const generations = z
  .record(z.string().max(100), z.int().nonnegative())
  .refine((all) => Object.keys(all).length <= referencesMost);

const status = z.strictObject({
  state: z.enum(['serving', 'idle']),
  generations,
  problem: z
    .strictObject({ code: z.string().regex(/^[a-z-]{1,40}$/), message: printable })
    .nullable(),
});

const message = z.discriminatedUnion('type', [
  z
    .strictObject({
      type: z.literal('hello'),
      feed: z.int(),
      instance: z.string().max(200),
      server: z.string().refine(isServerName),
      hash: z.string().regex(/^[\w-]{43}$/),
      what: printable,
      references: z.array(z.string().max(2_048)).max(referencesMost),
      held: generations.nullable(),
      status: status.nullable(),
    })
    .refine(({ instance, server }) => parseInstance(instance)?.server === server),
  z.strictObject({ type: z.literal('resolve'), id: z.int().nonnegative() }),
  z.strictObject({ type: z.literal('status'), status }),
  z.strictObject({ type: z.literal('alive') }),
  z.strictObject({ type: z.literal('bye') }),
]);

/** The version that a hello names, where the rest of it may mean something else. */
const anyHello = z.looseObject({ type: z.literal('hello'), feed: z.int() });

export type Incoming =
  | { readonly kind: 'message'; readonly message: ShimMessage }
  | { readonly kind: 'hello-of'; readonly feed: number }
  | { readonly kind: 'broken' };

export function parseIncoming(line: string, feed: number): Incoming {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return { kind: 'broken' };
  }
  const hello = anyHello.safeParse(json);
  if (hello.success && hello.data.feed !== feed) return { kind: 'hello-of', feed: hello.data.feed };
  const parsed = message.safeParse(json);
  return parsed.success ? { kind: 'message', message: parsed.data } : { kind: 'broken' };
}
