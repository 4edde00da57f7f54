/** Removes the values of live credentials from bytes on their way to the client, in every form a value is written in. */
import { escapedBySome, formLengthLeast, formsOf, redacted } from '../secret/forms.ts';
import type { Secret } from '../secret/secret.ts';

export interface ByteRedactor {
  /** The values of every generation that is live now; replaces those before. */
  use(values: readonly Secret[]): void;
  /** Whether any value stands in these bytes: asked once for many frames. */
  finds(bytes: Buffer): boolean;
  /** One JSON frame without them, still JSON. */
  cleanFrame(frame: Buffer): Buffer;
  /** Text for people without them. */
  cleanText(bytes: Buffer): Buffer;
}

export function createByteRedactor(): ByteRedactor {
  let needles: readonly Buffer[] = [];
  let texts: readonly string[] = [];

  const cut = (text: string) => cutOut(text, texts);
  return {
    use(values) {
      const forms = new Set(values.flatMap((value) => formsOf(value.reveal())));
      // Longest first: a form that holds another one goes whole.
      texts = [...forms].sort((a, b) => b.length - a.length);
      const runs = [...new Set(texts.map(unescapedRun))];
      // One that holds another one is found by that.
      needles = runs
        .filter((text) => !runs.some((other) => other !== text && text.includes(other)))
        .map((text) => Buffer.from(text));
    },
    finds(bytes) {
      for (const needle of needles) if (bytes.includes(needle)) return true;
      return false;
    },
    cleanFrame(frame) {
      const text = frame.toString('utf8');
      const cleaned = isJson(text) ? cleanJson(text, cut) : cut(text);
      return cleaned === text ? frame : Buffer.from(cleaned);
    },
    cleanText: (bytes) => Buffer.from(cut(bytes.toString('utf8'))),
  };
}

/**
 * The longest part of a form that reads the same however often it is escaped, as in JSON in JSON in JSON. A frame that holds
 * this and not the whole costs a second look, and one that is missed would cost the value.
 */
function unescapedRun(text: string): string {
  const [longest = ''] = text.split(escapedBySome).sort((a, b) => b.length - a.length);
  return longest.length >= formLengthLeast ? longest : text;
}

function cutOut(text: string, needles: readonly string[]): string {
  const spans: { from: number; to: number }[] = [];
  for (const needle of needles) {
    for (let at = text.indexOf(needle); at !== -1; at = text.indexOf(needle, at + 1)) {
      spans.push({ from: at, to: at + needle.length });
    }
  }
  if (spans.length === 0) return text;
  spans.sort((a, b) => a.from - b.from);
  let out = '';
  let copied = 0;
  for (const { from, to } of spans) {
    // Overlapping finds are one cut: no tail of a value survives.
    if (from >= copied) out += text.slice(copied, from) + redacted;
    copied = Math.max(copied, to);
  }
  return out + text.slice(copied);
}

/** What a client finds its answer by, is left as it is: the members' names, and these members. */
const kept = new Set(['"jsonrpc"', '"id"', '"method"']);

/**
 * Cuts within strings and scalars alone, so that JSON stays JSON, and all else stays as it is written. Does not call
 * itself: a server may nest as deep as it likes.
 */
function cleanJson(text: string, cut: (text: string) => string): string {
  let out = '';
  let copied = 0;
  let depth = 0;
  /** Of the outermost object, the member that it stands in. */
  let member = '';
  let isKey = true;
  const isObject = text.trimStart().startsWith('{');
  for (let at = 0; at < text.length; at++) {
    const first = text[at] as string;
    if (first === '{' || first === '[') depth++;
    else if (first === '}' || first === ']') depth--;
    else if (depth === 1 && first === ',') isKey = true;
    else if (depth === 1 && first === ':') isKey = false;
    if (' \t\r\n{}[],:'.includes(first)) continue;
    const end = first === '"' ? stringEnd(text, at) : scalarEnd(text, at);
    const token = text.slice(at, end);
    const isOutermost = depth === 1 && isObject;
    if (isOutermost && isKey) member = token;
    else if (!(isOutermost && kept.has(member))) {
      const cleaned = cleanToken(token, cut);
      if (cleaned !== token) {
        out += text.slice(copied, at) + cleaned;
        copied = end;
      }
    }
    at = end - 1;
  }
  return out + text.slice(copied);
}

function cleanToken(token: string, cut: (text: string) => string): string {
  const value = JSON.parse(token) as unknown;
  if (typeof value !== 'string') {
    const isHit = cut(token) !== token || cut(String(value)) !== String(value);
    return isHit ? JSON.stringify(redacted) : token;
  }
  const raw = `"${cut(token.slice(1, -1))}"`;
  // Where a cut falls into an escape, or a value is written in some other way, the text itself tells.
  const isWhole = isJson(raw);
  const decoded = isWhole ? (JSON.parse(raw) as string) : value;
  const cleaned = cut(decoded);
  return isWhole && cleaned === decoded ? raw : JSON.stringify(cleaned);
}

function stringEnd(text: string, at: number): number {
  for (let end = at + 1; ; end++) {
    if (text[end] === '\\') end++;
    else if (text[end] === '"') return end + 1;
  }
}

function scalarEnd(text: string, at: number): number {
  let end = at;
  while (end < text.length && !' \t\r\n,]}'.includes(text[end] as string)) end++;
  return end;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
