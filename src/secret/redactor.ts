/** Removes secret values from whatever is about to be printed: by value, in each form that a value is written in. */
import { formLengthLeast as prefixLength, formsOf, redacted } from './forms.ts';
import { type Fields, Secret } from './secret.ts';

export interface Redactor {
  /** From now on these values are removed. Values shorter than 4 characters are not: they occur everywhere. */
  add(what: Fields | Secret): void;
  redact(text: string): string;
  /** A copy for a log line: plain data, errors as `{ type, message, stack, … }`, boxes and bytes not shown. */
  redact(value: unknown): unknown;
}

/** The newest values are kept: more than a deployment of 10,000 secrets touches at once. */
const valuesMost = 10_000;
const depthMost = 12;

export function createRedactor({ most = valuesMost }: { readonly most?: number } = {}): Redactor {
  const needles = createNeedles();
  const values = new Map<string, readonly string[]>();

  function addValue(value: string): void {
    if (value.length < prefixLength) return;
    const forms = values.get(value) ?? formsOf(value);
    if (!values.delete(value)) for (const form of forms) needles.add(form);
    values.set(value, forms);
    for (const [oldest, dropped] of values) {
      if (values.size <= most) break;
      values.delete(oldest);
      for (const form of dropped) needles.remove(form);
    }
  }

  function redact(text: string): string;
  function redact(value: unknown): unknown;
  function redact(value: unknown): unknown {
    return typeof value === 'string' ? needles.cut(value) : copy(value, needles.cut, 0, new Set());
  }
  return {
    add(what) {
      const secrets = what instanceof Secret ? [what] : Object.values(what);
      for (const secret of secrets) addValue(secret.reveal());
    },
    redact,
  };
}

interface Needles {
  add(needle: string): void;
  remove(needle: string): void;
  cut(text: string): string;
}

/** Found by their first four characters, then by length: the cost of a search hardly grows with the number of needles. */
function createNeedles(): Needles {
  const byPrefix = new Map<string, Map<number, Map<string, number>>>();

  function cut(text: string): string {
    if (byPrefix.size === 0) return text;
    let out = '';
    let copied = 0;
    let cutFrom = -1;
    let cutTo = -1;
    for (let at = 0; at + prefixLength <= text.length; at++) {
      const lengths = byPrefix.get(text.slice(at, at + prefixLength));
      if (lengths === undefined) continue;
      const end = longestAt(text, at, lengths);
      if (end < 0) continue;
      // Overlapping finds are one cut: a value's tail must not survive because another value began before it.
      if (cutFrom >= 0 && at < cutTo) {
        cutTo = Math.max(cutTo, end);
        continue;
      }
      if (cutFrom >= 0) {
        out += text.slice(copied, cutFrom) + redacted;
        copied = cutTo;
      }
      cutFrom = at;
      cutTo = end;
    }
    if (cutFrom < 0) return text;
    return out + text.slice(copied, cutFrom) + redacted + text.slice(cutTo);
  }

  return {
    add(needle) {
      const prefix = needle.slice(0, prefixLength);
      const lengths = byPrefix.get(prefix) ?? new Map<number, Map<string, number>>();
      byPrefix.set(prefix, lengths);
      const counts = lengths.get(needle.length) ?? new Map<string, number>();
      lengths.set(needle.length, counts);
      counts.set(needle, (counts.get(needle) ?? 0) + 1);
    },
    remove(needle) {
      const prefix = needle.slice(0, prefixLength);
      const lengths = byPrefix.get(prefix);
      const counts = lengths?.get(needle.length);
      const count = counts?.get(needle) ?? 0;
      if (count > 1) counts?.set(needle, count - 1);
      else counts?.delete(needle);
      if (counts?.size === 0) lengths?.delete(needle.length);
      if (lengths?.size === 0) byPrefix.delete(prefix);
    },
    cut,
  };
}

/** The end of the longest needle that begins at `at`; -1 where none does. */
function longestAt(text: string, at: number, lengths: Map<number, Map<string, number>>): number {
  let end = -1;
  for (const [length, needles] of lengths) {
    if (at + length > end && needles.has(text.slice(at, at + length))) end = at + length;
  }
  return end;
}

function copy(
  value: unknown,
  cut: (text: string) => string,
  depth: number,
  above: Set<object>,
): unknown {
  if (typeof value === 'string') return cut(value);
  if (typeof value === 'bigint' || typeof value === 'symbol') return cut(String(value));
  if (typeof value === 'number') return cut(String(value)) === String(value) ? value : redacted;
  if (typeof value === 'function') return '[function]';
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Secret) return value.toString();
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof URL || value instanceof RegExp) return cut(String(value));
  if (above.has(value)) return '[circular]';
  if (depth >= depthMost) return '[deep]';
  const inside = (member: unknown): unknown => copy(member, cut, depth + 1, above);
  above.add(value);
  try {
    if (Array.isArray(value)) return value.map(inside);
    if (value instanceof Set) return [...value].map(inside);
    const entries =
      value instanceof Map
        ? [...value].map(([key, member]) => [String(key), member] as const)
        : entriesOf(value);
    return Object.fromEntries(entries.map(([key, member]) => [cut(key), inside(member)]));
  } finally {
    above.delete(value);
  }
}

function entriesOf(value: object): (readonly [string, unknown])[] {
  if (!(value instanceof Error)) return Object.entries(value);
  const { name, message, stack, cause } = value;
  const own = Object.entries(value).filter(([key]) => !['name', 'stack', 'cause'].includes(key));
  const known: Record<string, unknown> = { type: name, message, stack, cause };
  return [...Object.entries(known).filter(([, member]) => member !== undefined), ...own];
}
