/** Finds the parts of a JSON text by their bytes, so that a message can be routed and changed without being written anew. */

/** Where a value stands: `start` its first byte, `end` after its last. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

/**
 * Calls `visit` for each member of the object at `range`: the key's text, and where its value stands. False where the
 * bytes are no object, or hold anything else. It checks what it walks over, not the inside of values.
 */
export function eachMember(
  bytes: Buffer,
  range: Range,
  visit: (key: string, value: Range) => void,
): boolean {
  const members = membersOf(bytes, range.start, range.end);
  if (members === null) return false;
  for (let at = 0; at < members.length; at += 4) {
    const [keyStart = 0, keyEnd = 0, start = 0, end = 0] = members.slice(at, at + 4);
    const key = stringAt(bytes, { start: keyStart, end: keyEnd });
    if (key === null) return false;
    visit(key, { start, end });
  }
  return true;
}

/**
 * The same for whoever reads a hundred thousand a second: four numbers for each member, where its key begins and ends,
 * quotes included, and where its value does. Null where the bytes are no object.
 */
export function membersOf(bytes: Buffer, from: number, to: number): readonly number[] | null {
  const found: number[] = [];
  let at = skipSpace(bytes, from, to);
  if (bytes[at] !== openBrace) return null;
  at = skipSpace(bytes, at + 1, to);
  if (bytes[at] === closeBrace) return skipSpace(bytes, at + 1, to) === to ? found : null;
  for (;;) {
    if (bytes[at] !== quote) return null;
    const keyEnd = skipString(bytes, at, to);
    if (keyEnd === -1) return null;
    const keyStart = at;
    at = skipSpace(bytes, keyEnd, to);
    if (bytes[at] !== colon) return null;
    const start = skipSpace(bytes, at + 1, to);
    const end = skipValue(bytes, start, to);
    if (end === -1) return null;
    found.push(keyStart, keyEnd, start, end);
    at = skipSpace(bytes, end, to);
    if (bytes[at] === closeBrace) return skipSpace(bytes, at + 1, to) === to ? found : null;
    if (bytes[at] !== comma) return null;
    at = skipSpace(bytes, at + 1, to);
  }
}

/** Where the elements of the array at `range` stand; null where it is none. */
export function elementsOf(bytes: Buffer, range: Range): readonly Range[] | null {
  let at = skipSpace(bytes, range.start, range.end);
  if (bytes[at] !== openBracket) return null;
  const elements: Range[] = [];
  at = skipSpace(bytes, at + 1, range.end);
  if (bytes[at] === closeBracket) return elements;
  for (;;) {
    const end = skipValue(bytes, at, range.end);
    if (end === -1) return null;
    elements.push({ start: at, end });
    at = skipSpace(bytes, end, range.end);
    if (bytes[at] === closeBracket) return elements;
    if (bytes[at] !== comma) return null;
    at = skipSpace(bytes, at + 1, range.end);
  }
}

/** The value below these keys; null where there is none. The last of equal keys counts, as for JSON.parse. */
export function valueAt(
  bytes: Buffer,
  range: Range | null,
  ...keys: readonly string[]
): Range | null {
  let here = range;
  for (const wanted of keys) {
    if (here === null) return null;
    let found: Range | null = null;
    const isObject = eachMember(bytes, here, (key, value) => {
      if (key === wanted) found = value;
    });
    if (!isObject) return null;
    here = found;
  }
  return here;
}

/** The text of the string at `range`; null where it is no string. */
export function stringAt(bytes: Buffer, range: Range | null): string | null {
  if (range === null || bytes[range.start] !== quote) return null;
  for (let at = range.start + 1; at < range.end - 1; at++) {
    const byte = bytes[at] as number;
    if (byte === backslash || byte >= 0x80) {
      const text: unknown = parsed(bytes.toString('utf8', range.start, range.end));
      return typeof text === 'string' ? text : null;
    }
  }
  return bytes.toString('latin1', range.start + 1, range.end - 1);
}

/** The same text for every way to write the same number or string. Null where it is neither. */
export function canonicalId(bytes: Buffer, range: Range): string | null {
  const first = bytes[range.start] as number;
  if (first === quote) {
    const text = stringAt(bytes, range);
    return text === null ? null : `"${text}`;
  }
  const count = smallNumber(bytes, range);
  if (count !== null) return String(count);
  const text = bytes.toString('latin1', range.start, range.end);
  const value: unknown = parsed(text);
  if (typeof value !== 'number') return null;
  // Beyond what a double holds, several numbers would become one.
  return /^-?\d+$/.test(text) && !Number.isSafeInteger(value) ? text : String(value);
}

/** What nearly every id is: a whole number of few digits. Null where it is anything else. */
function smallNumber(bytes: Buffer, { start, end }: Range): number | null {
  if (end - start > 9 || (bytes[start] === 0x30 && end - start > 1)) return null;
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - 0x30;
    if (digit < 0 || digit > 9) return null;
    value = value * 10 + digit;
  }
  return value;
}

/** Whether the string at this place, quotes included, is `text`; plain ASCII, as it is nearly always written. */
export function isPlainText(bytes: Buffer, start: number, end: number, text: string): boolean {
  if (end - start !== text.length + 2) return false;
  for (let at = 0; at < text.length; at++) {
    if (bytes[start + 1 + at] !== text.charCodeAt(at)) return false;
  }
  return true;
}

/** Whether the string at this place is written with an escape. */
export function hasEscape(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) if (bytes[at] === backslash) return true;
  return false;
}

/** The bytes with each range replaced; ranges in order, not overlapping. */
export function splice(
  bytes: Buffer,
  changes: readonly { readonly range: Range; readonly by: string }[],
): Buffer {
  const parts: Buffer[] = [];
  let from = 0;
  for (const { range, by } of changes) {
    parts.push(bytes.subarray(from, range.start), Buffer.from(by));
    from = range.end;
  }
  parts.push(bytes.subarray(from));
  return Buffer.concat(parts);
}

export function skipSpace(bytes: Buffer, from: number, to: number): number {
  let at = from;
  while (at < to) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break;
    at++;
  }
  return at;
}

/** After the string that begins at `at`; -1 where it does not end. */
function skipString(bytes: Buffer, at: number, to: number): number {
  let from = at + 1;
  // Short ones, nearly all, are walked; a long one is left to the library's search.
  const walked = Math.min(to, from + 64);
  for (; from < walked; from++) {
    const byte = bytes[from];
    if (byte === quote) return from + 1;
    if (byte === backslash) from++;
  }
  for (;;) {
    const end = bytes.indexOf(quote, from);
    if (end === -1 || end >= to) return -1;
    let slashes = 0;
    while (end - 1 - slashes >= from && bytes[end - 1 - slashes] === backslash) slashes++;
    if (slashes % 2 === 0) return end + 1;
    from = end + 1;
  }
}

function skipValue(bytes: Buffer, start: number, to: number): number {
  const first = bytes[start];
  if (first === quote) return skipString(bytes, start, to);
  if (first !== openBrace && first !== openBracket) {
    let at = start;
    while (at < to && !endsScalar(bytes[at] as number)) at++;
    return at === start ? -1 : at;
  }
  let depth = 0;
  for (let at = start; at < to; at++) {
    switch (bytes[at]) {
      case quote: {
        const end = skipString(bytes, at, to);
        if (end === -1) return -1;
        at = end - 1;
        break;
      }
      case openBrace:
      case openBracket:
        depth++;
        break;
      case closeBrace:
      case closeBracket:
        depth--;
        if (depth === 0) return at + 1;
        break;
      default:
    }
  }
  return -1;
}

function endsScalar(byte: number): boolean {
  return byte === comma || byte === closeBrace || byte === closeBracket || byte <= 0x20;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
