/** What can be written beside `use: exec`: the command, and what it declares that it can do. */
import { z } from 'zod';

const environmentName = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const text = z.string().regex(/^[^\0]*$/, 'no NUL character');

/** What the program may be asked beside mint, verify and revoke. */
const capabilities = z.strictObject({
  list: z.boolean().default(false),
  disable: z.boolean().default(false),
  lastUsed: z.boolean().default(false),
  tag: z.boolean().default(false),
  resolve: z.boolean().default(false),
  /** It answers `check`: which rights the admin credential has. */
  check: z.boolean().default(false),
  proof: z.enum(['safe', 'harmful', 'none']).default('safe'),
});

const limits = z.strictObject({
  liveMax: z.int().min(1).optional(),
  lifetimeSecondsMax: z.int().min(1).optional(),
  settleSeconds: z.int().min(0).max(3_600).default(0),
});

export const optionsSchema = z
  .strictObject({
    /** Program and arguments, without a shell. `./…` counts from the policy file's folder. */
    command: z.tuple([text.min(1)], text),
    strategy: z
      .enum(['overlap', 'alternate', 'roll-grace', 'roll-hard', 'ephemeral'])
      .default('overlap'),
    /** What can be known after a mint whose answer was lost: see the README. */
    crashClass: z.enum(['chosen', 'token', 'listable', 'blind']),
    revokeScope: z.enum(['key', 'family']).default('key'),
    capabilities: capabilities.prefault({}),
    limits: limits.prefault({}),
    /** Literal environment values: nothing secret, since a policy is not sealed. */
    env: z.record(z.string().regex(environmentName), text).default({}),
    /** Names of variables that the command gets from the daemon's own environment. */
    passEnv: z.array(z.string().regex(environmentName)).default([]),
    /** For each call. */
    timeout: z
      .string()
      .regex(/^[1-9]\d{0,5}(ms|s|m)$/, 'a duration such as 20s')
      .default('20s'),
    /** Shown to the operator: what the admin credential must be allowed to do. */
    leastPrivilege: z.string().max(500).default('What the command needs; ask its author.'),
  })
  .refine(({ crashClass, capabilities }) => crashClass !== 'listable' || capabilities.list, {
    path: ['capabilities', 'list'],
    message: 'crashClass listable needs the capability list',
  })
  .refine(({ crashClass, capabilities }) => crashClass !== 'listable' || capabilities.tag, {
    path: ['capabilities', 'tag'],
    message:
      'crashClass listable needs the capability tag: else nobody knows which of the listed are ours',
  });

export type ExecOptions = z.infer<typeof optionsSchema>;

export function timeoutMsOf({ timeout }: ExecOptions): number {
  const [, count, unit] = /^(\d+)(ms|s|m)$/.exec(timeout) ?? [];
  return Number(count) * { ms: 1, s: 1_000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
}
