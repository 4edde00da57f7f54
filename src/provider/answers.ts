/** What a provider may answer: every answer is checked and re-boxed here before anything else sees it. */
import { z } from 'zod';
import { RotatedError } from '../errors.ts';
import type { Finding, Verdict } from '../finding.ts';
import { type Fields, Secret } from '../secret/secret.ts';
import type { CredentialInfo, Minted, Prepared, Ref } from './provider.ts';

/**
 * Fields that are not secret in themselves: they may stand in a ref or a log line. All other fields are secret.
 * Fixed names, so that a provider cannot declare its way around redaction.
 */
export const publicFieldNames: ReadonlySet<string> = new Set([
  'username',
  'host',
  'port',
  'database',
  'kid',
  'publicKey',
  'publicJwk',
]);

/** The part of a credential that must never be printed. */
export function secretFields(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !publicFieldNames.has(name)));
}

// Bounds: far above anything an issuer hands out, far below what could fill a journal or a log.
export const valueBytesMax = 65_536;
const fieldsMax = 32;
const textMax = 500;
export const refLengthMax = 256;
const scopesMax = 512;
const findingsMax = 100;
/** Shorter values occur by chance in a ref or an owner. */
const tellingLengthMin = 6;
/** Beyond the year 9999, `Date` and every log reader disagree. */
const instantMax = 253_402_300_800_000;

/** One line of printable characters: what may stand in a log, a journal row and a terminal. */
const printable = /^[\p{L}\p{N}\p{P}\p{S}][\p{L}\p{N}\p{P}\p{S} ]*$/u;
const label = z.string().max(refLengthMax).regex(printable);
const refSchema = z
  .string()
  .max(refLengthMax)
  .regex(/^[\x21-\x7e]+( [\x21-\x7e]+)*$/);
const instant = z.number().min(0).max(instantMax);
const scopes = z.array(label).max(scopesMax);
const fieldName = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;
const forbiddenNames: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

const rightsShape = {
  scopes: scopes.optional(),
  owner: label.optional(),
  expiresAt: instant.optional(),
};

const mintedSchema = z.object({ ref: refSchema, ...rightsShape });

const infoSchema = z.object({
  ref: refSchema,
  name: label.optional(),
  createdAt: instant.optional(),
  lastUsedAt: instant.optional(),
  enabled: z.boolean(),
  ...rightsShape,
});

const verdictSchema = z.discriminatedUnion('ok', [
  z.object({
    ok: z.literal(true),
    identity: label.optional(),
    scopes: scopes.optional(),
    expiresAt: instant.optional(),
  }),
  z.object({
    ok: z.literal(false),
    kind: z.enum(['rejected', 'restricted']),
    reason: z.string(),
  }),
]);

const findingsSchema = z
  .array(
    z.object({
      name: z.string().regex(/^[a-z][a-z0-9-]{0,63}$/),
      level: z.enum(['red', 'amber', 'green']),
      message: z.string(),
      place: z.string().optional(),
      why: z.string().optional(),
      mend: z.string().optional(),
    }),
  )
  .max(findingsMax);

/** Why an answer is refused: a text of ours that quotes nothing of the answer. The wrapper turns it into `invalid-answer`. */
export class UnusableAnswer extends Error {
  override readonly name = 'UnusableAnswer';
}

export function parseMinted(answer: unknown, sent: readonly Fields[]): Minted {
  const fields = parseFields(answer);
  const { ref, scopes, owner, expiresAt } = parse(mintedSchema, answer);
  refuseSecretIn([ref, owner, ...(scopes ?? [])], [fields, ...sent]);
  return { ref, fields, ...present({ scopes, owner, expiresAt }) };
}

export function parsePrepared(answer: unknown, sent: readonly Fields[]): Prepared {
  const { ref, fields } = parseMinted(answer, sent);
  return { ref, fields };
}

export function parseInfo(answer: unknown): CredentialInfo {
  const { ref, enabled, ...rest } = parse(infoSchema, answer);
  return { ref, enabled, ...present(rest) };
}

export function parseRef(answer: unknown, sent: readonly Fields[]): Ref | null {
  if (answer === null) return null;
  const ref = parse(refSchema, answer);
  refuseSecretIn([ref], sent);
  return ref;
}

export function parseVerdict(answer: unknown, clean: (text: string) => string): Verdict {
  const verdict = parse(verdictSchema, answer);
  if (!verdict.ok) return { ok: false, kind: verdict.kind, reason: oneLine(clean(verdict.reason)) };
  const { identity, scopes, expiresAt } = verdict;
  return {
    ok: true,
    ...present({
      identity: identity === undefined ? undefined : clean(identity),
      scopes,
      expiresAt,
    }),
  };
}

export function parseFindings(answer: unknown, clean: (text: string) => string): Finding[] {
  const tidy = (text: string | undefined): string | undefined =>
    text === undefined ? undefined : oneLine(clean(text));
  return parse(findingsSchema, answer).map(({ name, level, message, place, why, mend }) => ({
    name,
    level,
    message: oneLine(clean(message)),
    ...present({ place: tidy(place), why: tidy(why), mend: tidy(mend) }),
  }));
}

/** Control characters could rewrite a terminal or forge a log line. */
export function oneLine(text: string): string {
  const line = text.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]+/gu, ' ').trim();
  return line.length > textMax ? `${line.slice(0, textMax - 1)}…` : line;
}

/** Re-boxed, so that what the rest of the program holds is our own `Secret`, whatever a plugin's class does. */
function parseFields(answer: unknown): Fields {
  const given = (answer as { fields?: unknown } | null)?.fields;
  if (typeof given !== 'object' || given === null)
    throw new UnusableAnswer('the fields are missing');
  const names = Object.getOwnPropertyNames(given);
  if (names.length === 0) throw new UnusableAnswer('there are no fields');
  if (names.length > fieldsMax) throw new UnusableAnswer(`there are more than ${fieldsMax} fields`);
  return Object.fromEntries(
    names.map((name) => {
      if (!fieldName.test(name) || forbiddenNames.has(name)) {
        throw new UnusableAnswer('a field has a name that is not allowed');
      }
      return [name, parseValue((given as Record<string, unknown>)[name])];
    }),
  );
}

/** Whatever can be read of an answer's fields, however wrong the rest is: for the redactor. */
export function readableFields(answer: unknown): Fields {
  const read: Record<string, Secret> = {};
  try {
    const given = (answer as { fields?: Record<string, unknown> } | null)?.fields ?? {};
    for (const name of Object.getOwnPropertyNames(given).slice(0, fieldsMax)) {
      try {
        if (!forbiddenNames.has(name)) read[name] = parseValue(given[name]);
      } catch {
        // The next one may be readable.
      }
    }
  } catch {
    // A getter that throws: nothing to read.
  }
  return read;
}

function parseValue(given: unknown): Secret {
  const reveal = (given as { reveal?: unknown } | null)?.reveal;
  if (typeof reveal !== 'function') throw new UnusableAnswer('a field is not a Secret');
  const value: unknown = reveal.call(given);
  if (typeof value !== 'string') throw new UnusableAnswer('a field is not text');
  if (value === '') throw new UnusableAnswer('a field is empty');
  if (Buffer.byteLength(value) > valueBytesMax) throw new UnusableAnswer('a field is too large');
  if (value.includes('\0')) throw new UnusableAnswer('a field holds a NUL character');
  return new Secret(value);
}

function refuseSecretIn(texts: readonly (string | undefined)[], all: readonly Fields[]): void {
  const values = all
    .flatMap((fields) => Object.values(secretFields(fields)))
    .map((value) => value.reveal())
    .filter((value) => value.length >= tellingLengthMin);
  for (const text of texts) {
    if (text !== undefined && values.some((value) => text.includes(value))) {
      throw new UnusableAnswer('its ref, owner or scopes hold a secret value');
    }
  }
}

/** zod's own message may quote what it saw: only the place is kept. */
function parse<T>(schema: z.ZodType<T>, answer: unknown): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  const path = result.error.issues[0]?.path.filter((part) => typeof part !== 'symbol').join('.');
  throw new UnusableAnswer(
    path === undefined || path === '' ? 'it has the wrong shape' : `bad ${path}`,
  );
}

/** Optional keys are left out rather than set to undefined. */
function present<T extends object>(given: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/** `effect` is `unknown` where the call may have changed something: a bad answer says nothing about that. */
export function invalidAnswer(
  call: string,
  reason: string,
  detail: { readonly effect: 'none' | 'unknown'; readonly secret: string },
): RotatedError {
  return new RotatedError(
    'invalid-answer',
    `The provider's answer to ${call} cannot be used: ${reason}.`,
    {
      ...detail,
      next:
        detail.effect === 'unknown'
          ? 'Look at the issuer for a credential that carries our name; the rotation reconciles by itself where the issuer can list.'
          : 'Check the provider and its issuer.',
    },
  );
}
