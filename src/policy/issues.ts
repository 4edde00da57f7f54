/** Turns what zod found into what a writer of policies understands: unions resolved, nearest keys, one sentence each. */
import type { z } from 'zod';
import type { Path } from './document.ts';
import { expectedAt } from './expected.ts';
import { nearest } from './nearest.ts';

export interface Mistake {
  readonly code: string;
  readonly path: Path;
  readonly at: 'key' | 'value';
  readonly message: string;
  /** null: from the table of examples. */
  readonly example: string | null;
}

type Issue = z.core.$ZodIssue;

/**
 * @param knownKeys the keys allowed in the map at a path, for suggestions.
 * @param code the code for a value that is wrong in itself; null: as the table of expectations says.
 */
export function toMistakes(
  issues: readonly Issue[],
  root: unknown,
  knownKeys: (path: Path) => readonly string[],
  code: string | null = null,
): readonly Mistake[] {
  return issues.flatMap((issue) => fromIssue(issue, [], root, knownKeys, code));
}

function fromIssue(
  issue: Issue,
  above: Path,
  root: unknown,
  knownKeys: (path: Path) => readonly string[],
  code: string | null,
): readonly Mistake[] {
  const path: Path = [
    ...above,
    ...issue.path.map((part) => (typeof part === 'number' ? part : String(part))),
  ];
  const expected = expectedAt(path);
  const valueCode = code ?? expected.code;
  const missing = (more = ''): Mistake => {
    const key = path.at(-1);
    const isEntry = typeof key === 'number';
    const message = isEntry ? 'The list is empty.' : `The key ${String(key)} is missing${more}.`;
    return { code: isEntry ? valueCode : 'missing', path, at: 'value', message, example: null };
  };
  const wrongType = (): Mistake => ({
    code: valueCode,
    path,
    at: 'value',
    message: `Here belongs ${code === null ? expected.what : expectedType(issue)}, not ${kindOf(valueAt(root, path))}.`,
    example: null,
  });
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(key, path, knownKeys(path)));
    case 'invalid_union':
      if (issue.errors.length === 0 && 'options' in issue) {
        return [oneOf(issue.options.map(String), valueAt(root, path), missing, wrongType)];
      }
      return (
        pickBranch(issue, path, root, knownKeys, code) ?? [
          valueAt(root, path) === undefined ? missing() : wrongType(),
        ]
      );
    case 'invalid_key':
      return [
        {
          code: 'bad-name',
          path,
          at: 'key',
          message: 'This name is not allowed here.',
          example: null,
        },
      ];
    case 'invalid_type':
      return [valueAt(root, path) === undefined ? missing() : wrongType()];
    case 'invalid_value':
      return [oneOf(issue.values.map(String), valueAt(root, path), missing, wrongType)];
    case 'too_big':
    case 'too_small':
      return [{ code: valueCode, path, at: 'value', message: bounds(issue), example: null }];
    case 'invalid_element':
    case 'invalid_format':
    case 'not_multiple_of':
    case 'custom':
      return [
        { code: valueCode, path, at: 'value', message: sentence(issue.message), example: null },
      ];
    default:
      return issue satisfies never;
  }
}

/** A word that is none of those allowed. */
function oneOf(
  values: readonly string[],
  seen: unknown,
  missing: (more: string) => Mistake,
  wrongType: () => Mistake,
): Mistake {
  if (seen === undefined) return missing(`: one of ${values.join(', ')}`);
  if (typeof seen === 'object') return wrongType();
  const near = typeof seen === 'string' ? nearest(seen, values) : null;
  const hint = near === null ? '' : ` Did you mean ${near}?`;
  // Where one word is allowed there is a longer form as well, and both are described together.
  const message =
    values.length === 1 ? wrongType().message : `Here belongs one of ${values.join(', ')}.`;
  return { ...wrongType(), message: message + hint };
}

/** The branch that the writer meant: the one whose kind of value (text, list, map) stands there; null where none does. */
function pickBranch(
  issue: z.core.$ZodIssueInvalidUnion,
  path: Path,
  root: unknown,
  knownKeys: (path: Path) => readonly string[],
  code: string | null,
): readonly Mistake[] | null {
  const seen = valueAt(root, path);
  const isAtRoot = (inner: Issue) => inner.path.length === 0;
  const fits = issue.errors.filter(
    (branch) => !branch.some((inner) => isAtRoot(inner) && isOtherKind(inner, seen)),
  );
  const mistakes = fits.map((branch) =>
    branch.flatMap((inner) => fromIssue(inner, path, root, knownKeys, code)),
  );
  return mistakes.sort((a, b) => a.length - b.length)[0] ?? null;
}

function isOtherKind(issue: Issue, seen: unknown): boolean {
  if (issue.code === 'invalid_type') return true;
  if (issue.code === 'invalid_value') return typeof seen === 'object';
  if (issue.code !== 'invalid_union') return false;
  return issue.errors.every((branch) =>
    branch.some((inner) => inner.path.length === 0 && isOtherKind(inner, seen)),
  );
}

function unknownKey(key: string, path: Path, known: readonly string[]): Mistake {
  const near = nearest(key, known);
  const home = near === null && Object.hasOwn(homes, key) ? homes[key] : undefined;
  const hint =
    near !== null
      ? ` Did you mean ${near}?`
      : home !== undefined
        ? ` It belongs under ${home.split(':')[0]}.`
        : known.length > 0
          ? ` Known keys: ${known.join(', ')}.`
          : '';
  const name = /^[\w.-]{1,40}$/.test(key) ? `"${key}" ` : '';
  const example = near === null ? (home ?? null) : expectedAt([...path, near]).example;
  return {
    code: 'unknown-key',
    path: [...path, key],
    at: 'key',
    message: `The key ${name}is not known here.${hint}`,
    example,
  };
}

/** Keys that are often written one level too high, and where they belong. */
const homes: Readonly<Record<string, string>> = {
  cron: 'schedule: { cron: "0 3 * * 0" }',
  timezone: 'schedule: { cron: "0 3 * * 0", timezone: Europe/Berlin }',
  splay: 'schedule: { every: 30d, splay: 10m }',
  window: 'schedule: { every: 30d, window: { from: "01:00", to: "06:00" } }',
  freeze: 'schedule: { every: 30d, freeze: [{ from: 2026-12-20, to: 2027-01-04 }] }',
  missed: 'schedule: { every: 30d, missed: skip }',
  ageMin: 'schedule: { cron: "0 3 * * 0", ageMin: 5d }',
  ageMax: 'schedule: { cron: "0 3 * * 0", ageMax: 90d }',
  admin: 'provider: { use: postgres, admin: local://admin/postgres }',
  fields: 'backend: { ref: local://mcp/reports-db, fields: { PGPASSWORD: password } }',
  mode: 'emergency: { mode: contain }',
  attempts: 'failure: { attempts: 5 }',
  pauseAfter: 'failure: { pauseAfter: 3 }',
  '<<': 'every: 30d',
};

function bounds(issue: z.core.$ZodIssueTooBig | z.core.$ZodIssueTooSmall): string {
  const most = issue.code === 'too_big';
  const limit = most ? issue.maximum : issue.minimum;
  const unit =
    issue.origin === 'string' ? ' characters' : issue.origin === 'array' ? ' entries' : '';
  return `Here belong${issue.origin === 'array' || issue.origin === 'string' ? '' : 's'} at ${most ? 'most' : 'least'} ${limit}${unit}.`;
}

function expectedType(issue: Issue): string {
  if (issue.code !== 'invalid_type') return 'something else';
  const words: Readonly<Record<string, string>> = {
    string: 'a text',
    number: 'a number',
    int: 'a whole number',
    boolean: 'true or false',
    object: 'a map',
    record: 'a map',
    array: 'a list',
    tuple: 'a list',
  };
  return words[issue.expected] ?? issue.expected;
}

export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  if (typeof value === 'string') return value === '' ? 'an empty text' : 'this text';
  if (typeof value === 'number') return 'a bare number';
  return typeof value === 'boolean' ? `the word ${String(value)}` : 'this';
}

export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Object.hasOwn(value, part)
      ? (value as Record<string | number, unknown>)[part]
      : undefined;
  }
  return value;
}

function sentence(text: string): string {
  const trimmed = text.trim();
  const upper = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.?!]$/.test(upper) ? upper : `${upper}.`;
}
