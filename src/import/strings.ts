/** The keys in one string: as a whole, in a URL, behind a word such as Bearer, or as one token among others. */
import { isReference } from '../gate/entry.ts';
import { Secret } from '../secret/secret.ts';
import { issuerByForm } from './issuers.ts';
import type { FoundKey, Passed } from './model.ts';
import { canBeSecret, hasKeyForm, isPath, looksRandom, nameSays, upperSnake } from './shapes.ts';
import { indirectionOf } from './variables.ts';

export interface StringFindings {
  readonly keys: readonly FoundKey[];
  /** Why what looked like the place of a key holds none. */
  readonly passed: Passed['why'] | null;
}

const nothing: StringFindings = { keys: [], passed: null };
const fieldLengthMax = 64;

/** The value of a variable, a header or an option that is called `name`; '' for an argument without a name. */
export function keysIn(text: string, name: string): StringFindings {
  if (isReference(text.trim())) return { keys: [], passed: 'reference' };
  if (/^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(text.trim())) return keysInUrl(text, name);
  const indirection = indirectionOf(text);
  if (indirection !== null) {
    // A key may stand beside a variable.
    const beside = indirection === 'variable' ? keysByForm(text, name, false) : nothing;
    if (beside.keys.length > 0) return beside;
    const isWorthSaying = nameSays(name) === 'secret' && indirection !== 'empty';
    return isWorthSaying ? { keys: [], passed: indirection } : nothing;
  }
  const says = nameSays(name);
  if (says === 'secret' && isPath(text)) return { keys: [], passed: 'file' };
  const scheme = /^\s*(?:Bearer|Token|Basic|Bot|ApiKey|Api-Key|Key)\s+(?=\S)/i.exec(text)?.[0];
  if (scheme !== undefined && (says === 'secret' || says === 'maybe')) {
    const rest = text.slice(scheme.length);
    const hidden = indirectionOf(rest);
    if (hidden !== null) return { keys: [], passed: hidden === 'empty' ? null : hidden };
    return { keys: [key(scheme.length, rest.trimEnd(), fieldOf(name))], passed: null };
  }
  if (/^\s*[{[]/.test(text)) return keysInJson(text, name);
  if (says === 'secret' && canBeSecret(text)) return whole(text, name);
  if (says === 'maybe' && (looksRandom(text.trim()) || hasKeyForm(text.trim()))) {
    return whole(text, name);
  }
  return keysByForm(text, name, says !== 'identifier');
}

/** A name and what stands after it: `--api-key=x`, `KEY=x`, `Authorization: Bearer x`. */
export function keysInPair(text: string, separator: RegExp): StringFindings | null {
  const match = separator.exec(text);
  if (match === null) return null;
  const [head, name = ''] = match;
  const found = keysIn(text.slice(head.length), name);
  return { ...found, keys: found.keys.map((one) => moved(one, head.length)) };
}

function whole(text: string, name: string): StringFindings {
  const start = text.length - text.trimStart().length;
  return { keys: [key(start, text.trim(), fieldOf(name))], passed: null };
}

/** Some servers take their headers, or all of their settings, as JSON in one variable. */
function keysInJson(text: string, name: string): StringFindings {
  const keys: FoundKey[] = [];
  for (const match of text.matchAll(/"([\w-]+)"(\s*:\s*")([^"\\]+)"/g)) {
    const [, inner = '', sign = '', value = ''] = match;
    if (nameSays(inner) !== 'secret' && nameSays(inner) !== 'maybe') continue;
    const start = match.index + inner.length + 2 + sign.length;
    keys.push(...keysIn(value, inner).keys.map((one) => moved(one, start)));
  }
  const others = keysByForm(text, name, false).keys.filter(
    (one) => !keys.some(({ start, end }) => one.start < end && one.end > start),
  );
  return { keys: [...keys, ...others], passed: null };
}

/** Password, query, and parts of the path that are keys by their form. */
function keysInUrl(written: string, name: string): StringFindings {
  const text = opaque(written);
  const keys: FoundKey[] = [];
  const passed: Passed['why'][] = [];
  const add = (start: number, raw: string, field: string) => {
    const hidden = hiddenIn(raw) ?? indirectionOf(raw, 'url');
    if (hidden === null) keys.push(urlKey(start, raw, field));
    else if (hidden !== 'empty') passed.push(hidden);
  };
  const base = name === '' ? '' : `${fieldOf(name)}_`;
  const [head = '', scheme = ''] = /^\s*([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text) ?? [];
  const hashAt = text.indexOf('#', head.length);
  const end = hashAt === -1 ? text.length : hashAt;
  const queryAt = text.slice(0, end).indexOf('?', head.length);
  const pathEnd = queryAt === -1 ? end : queryAt;
  const slashAt = text.slice(0, pathEnd).indexOf('/', head.length);
  const authorityEnd = slashAt === -1 ? pathEnd : slashAt;
  const authority = text.slice(head.length, authorityEnd);
  const atSign = authority.lastIndexOf('@');
  if (atSign !== -1) {
    const user = authority.slice(0, atSign);
    const colon = user.indexOf(':');
    // `https://TOKEN@host`: a lone user that is long and random is the credential.
    if (colon !== -1) add(head.length + colon + 1, user.slice(colon + 1), `${base}PASSWORD`);
    else if (hasKeyForm(user) || looksRandom(user)) add(head.length, user, `${base}USER`);
  }
  if (/^(?:https?|wss?|sse)$/i.test(scheme)) {
    for (const { start, text: segment } of pieces(text, authorityEnd, pathEnd, '/')) {
      if (hasKeyForm(segment) || looksRandom(segment)) add(start, segment, `${base}PATH_KEY`);
    }
  }
  if (queryAt !== -1) {
    for (const { start, text: pair } of pieces(text, queryAt + 1, end, '&')) {
      const equals = pair.indexOf('=');
      if (equals === -1) continue;
      const [parameter, value] = [pair.slice(0, equals), pair.slice(equals + 1)];
      const says = nameSays(parameter);
      const isKey =
        (says === 'secret' && (canBeSecret(value) || indirectionOf(value) !== null)) ||
        (says === 'maybe' && value.length >= 8) ||
        hasKeyForm(value) ||
        (says === 'nothing' && looksRandom(value));
      if (isKey) add(start + equals + 1, value, `${base}${fieldOf(parameter)}`);
    }
  }
  return { keys, passed: keys.length === 0 ? (passed[0] ?? null) : null };
}

const asReference = '\u0000';
const asVariable = '\u0001';

/** What a client or a gate fills in may hold every sign that parts a URL: as long as before, and without any. */
function opaque(text: string): string {
  return text
    .replaceAll(/\{\{[^{}]*\}\}/g, (part) => asReference.repeat(part.length))
    .replaceAll(/\$\{[^}]*\}/g, (part) => asVariable.repeat(part.length));
}

function hiddenIn(raw: string): 'reference' | 'variable' | null {
  if (raw.includes(asReference)) return 'reference';
  return raw.includes(asVariable) ? 'variable' : null;
}

/** Tokens of a longer text that are keys whatever stands around them. */
function keysByForm(text: string, name: string, random: boolean): StringFindings {
  if (random && looksRandom(text.trim())) return whole(text, name);
  const keys: FoundKey[] = [];
  for (const match of text.matchAll(/[^\s"'`,;:=&?<>(){}[\]|\\]+/g)) {
    const [token] = match;
    if (!hasKeyForm(token)) continue;
    keys.push(key(match.index, token, name === '' ? 'KEY' : fieldOf(name)));
  }
  if (/\s/.test(text.trim())) {
    for (const one of keysInWords(text)) {
      if (!keys.some(({ start, end }) => one.start < end && one.end > start)) keys.push(one);
    }
  }
  return { keys, passed: null };
}

/** A command line in one string: `API_KEY=x node server.js --token y`. */
function keysInWords(text: string): readonly FoundKey[] {
  const words =
    /(?:^|[\s"';&|(])(?:--?)?([A-Za-z_][\w-]*)(=|\s+)(["']?)([^\s"';&|<>()-][^\s"';&|<>()]*)/g;
  return [...text.matchAll(words)].flatMap((match) => {
    const [all, name = '', sign = '', , value = ''] = match;
    // `the token is` is a sentence, `--token is` an option.
    const isNamed = sign === '=' || /^.?--?/.test(all.trimStart());
    if (!isNamed || nameSays(name) !== 'secret') return [];
    if (indirectionOf(value) !== null || !canBeSecret(value) || isPath(value)) return [];
    return [key(match.index + all.length - value.length, value, fieldOf(name))];
  });
}

function pieces(text: string, from: number, to: number, separator: string) {
  const found: { start: number; text: string }[] = [];
  let start = from;
  for (const piece of text.slice(from, to).split(separator)) {
    if (piece !== '') found.push({ start, text: piece });
    start += piece.length + separator.length;
  }
  return found;
}

function key(start: number, value: string, field: string): FoundKey {
  return {
    start,
    end: start + value.length,
    field,
    url: false,
    value: new Secret(value),
    length: value.length,
    issuer: issuerByForm(value),
  };
}

/** Kept decoded, so that the next value may be any text: it is encoded again when it is filled in. */
function urlKey(start: number, raw: string, field: string): FoundKey {
  const decoded = decodeOrNull(raw);
  return decoded === null
    ? key(start, raw, field)
    : { ...key(start, raw, field), ...boxed(decoded) };
}

function boxed(value: string) {
  return { url: true, value: new Secret(value), length: value.length, issuer: issuerByForm(value) };
}

function decodeOrNull(raw: string): string | null {
  try {
    return decodeURIComponent(raw);
  } catch {
    return null;
  }
}

function moved(one: FoundKey, by: number): FoundKey {
  return { ...one, start: one.start + by, end: one.end + by };
}

/** The name of a field for what is called `name`. */
function fieldOf(name: string): string {
  const upper = upperSnake(name).slice(0, fieldLengthMax);
  return upper === ''
    ? 'KEY'
    : /^[0-9]/.test(upper)
      ? `K_${upper}`.slice(0, fieldLengthMax)
      : upper;
}
