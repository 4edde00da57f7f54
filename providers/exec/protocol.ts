/** The JSON that a command reads and writes, version 1; README.md describes it for authors in any language. */
import { z } from 'zod';
import { type Effect, type ErrorCode, RotatedError } from '../../src/errors.ts';
import { type Credential, type Fields, Secret } from '../../src/provider/provider.ts';

export const protocolVersion = 1;

export type Call =
  | 'check'
  | 'prepare'
  | 'mint'
  | 'verify'
  | 'disable'
  | 'enable'
  | 'revoke'
  | 'list'
  | 'resolve';

export const mutating: ReadonlySet<Call> = new Set(['mint', 'disable', 'enable', 'revoke']);

/** Errors that a command may name; anything else is its own affair and becomes `unexpected`. */
const errorCodes = [
  'denied',
  'unauthenticated',
  'limit-reached',
  'throttled',
  'unavailable',
  'timeout',
  'not-found',
  'conflict',
  'needs-person',
  'unsupported',
  'unexpected',
] as const satisfies readonly ErrorCode[];

const errorSchema = z.object({
  error: z.object({
    code: z.enum(errorCodes).catch('unexpected'),
    effect: z.enum(['none', 'applied', 'unknown']).optional(),
    retryAfterSeconds: z.number().min(0).max(86_400).optional(),
  }),
});

/** sysexits.h, where its meaning fits; all of these promise that nothing was changed. */
const exitCodes: Readonly<Record<number, ErrorCode>> = {
  64: 'unsupported',
  69: 'unavailable',
  75: 'throttled',
  77: 'denied',
};

/** What an answer says went wrong; null where it is a result. Never carries a text of the command. */
export function errorIn(answer: unknown, call: Call, program: string): RotatedError | null {
  const parsed = errorSchema.safeParse(answer);
  if (!parsed.success) return null;
  const { code, effect, retryAfterSeconds } = parsed.data.error;
  const retry = retryAfterSeconds === undefined ? {} : { retryAfterMs: retryAfterSeconds * 1_000 };
  return failure(call, program, code, effect ?? usualEffect(call, code), retry);
}

/** For a command that ended without an answer. */
export function errorOfExit(exitCode: number | null, call: Call, program: string): RotatedError {
  const code = exitCode === null ? undefined : exitCodes[exitCode];
  if (code !== undefined) return failure(call, program, code, 'none');
  const how = exitCode === null ? 'was ended by a signal' : `ended with code ${exitCode}`;
  return new RotatedError(
    'unexpected',
    `${call}: the command ${program} ${how} and gave no answer.`,
    {
      effect: mutating.has(call) ? 'unknown' : 'none',
      next: `Run ${program} by hand with the same request; what it prints is never kept.`,
    },
  );
}

export function unreadable(call: Call, program: string, why: string): RotatedError {
  return new RotatedError('invalid-answer', `${call}: the answer of ${program} ${why}.`, {
    effect: mutating.has(call) ? 'unknown' : 'none',
    next: 'Compare it with providers/exec/README.md.',
  });
}

/** Fields as the command sees them: plain text, on its stdin and nowhere else. */
export function plain(fields: Fields): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.reveal()]));
}

export function plainCredential({ ref, fields }: Credential): object {
  return { ref, fields: plain(fields) };
}

const credentialSchema = z.object({
  ref: z.string(),
  fields: z.record(z.string(), z.string()),
});

/** The rest (scopes, owner, times) is passed on as it came; the wrapper checks it as it checks every provider. */
export function readCredential(answer: unknown): { ref: string; fields: Fields } | null {
  const parsed = credentialSchema.loose().safeParse(answer);
  if (!parsed.success) return null;
  const { ref, fields, ...rest } = parsed.data;
  const boxed = Object.entries(fields).map(([name, value]) => [name, new Secret(value)] as const);
  return { ...rest, ref, fields: Object.fromEntries(boxed) };
}

/**
 * Takes every value that the command was given out of a text that it wrote: whoever is handed a secret may repeat it,
 * whole, encoded, or inside something longer.
 */
export function withhold(text: string, values: readonly string[]): string {
  const known = values
    .filter((value) => value.length >= 4)
    .flatMap((value) => [
      value,
      encodeURIComponent(value),
      Buffer.from(value).toString('base64').replace(/=+$/, ''),
      Buffer.from(value).toString('base64url'),
      Buffer.from(value).toString('hex'),
    ]);
  const longestFirst = known.sort((a, b) => b.length - a.length);
  return longestFirst.reduce((rest, value) => rest.replaceAll(value, '[withheld]'), text);
}

function failure(
  call: Call,
  program: string,
  code: ErrorCode,
  effect: Effect,
  detail: { retryAfterMs?: number } = {},
): RotatedError {
  return new RotatedError(code, `${call}: the command ${program} answered ${code}.`, {
    ...detail,
    effect: mutating.has(call) ? effect : 'none',
    next: nextStep(code, program),
  });
}

/** Where the command does not say: only what these codes mean by themselves. */
function usualEffect(call: Call, code: ErrorCode): Effect {
  const before: readonly ErrorCode[] = [
    'denied',
    'unauthenticated',
    'limit-reached',
    'throttled',
    'needs-person',
    'unsupported',
  ];
  return mutating.has(call) && !before.includes(code) ? 'unknown' : 'none';
}

function nextStep(code: ErrorCode, program: string): string {
  switch (code) {
    case 'denied':
    case 'unauthenticated':
      return 'Check the admin credential and its rights.';
    case 'limit-reached':
      return 'Let an older credential be revoked first.';
    case 'unsupported':
      return `Take from the policy's capabilities what ${program} does not do.`;
    default:
      return `Run ${program} by hand with the same request.`;
  }
}
