/** Removes the values of live credentials from bytes on their way to the client, in every form a value is written in. */
import { formsOf, redacted } from '../secret/forms.ts';
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
      needles = texts.map((text) => Buffer.from(text));
    },
    finds(bytes) {
      for (const needle of needles) if (bytes.includes(needle)) return true;
      return false;
    },
    cleanFrame(frame) {
      const text = frame.toString('utf8');
      const cleaned = cut(text);
      if (cleaned === text) return frame;
      if (isJson(cleaned)) return Buffer.from(cleaned);
      // A value that stood outside of a string, such as a number, took a part of the structure with it.
      return Buffer.from(`${JSON.stringify(deepCut(JSON.parse(text) as unknown, cut))}\n`);
    },
    cleanText: (bytes) => Buffer.from(cut(bytes.toString('utf8'))),
  };
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

function deepCut(value: unknown, cut: (text: string) => string): unknown {
  if (typeof value === 'string') return cut(value);
  if (typeof value === 'number') return cut(String(value)) === String(value) ? value : redacted;
  if (Array.isArray(value)) return value.map((member) => deepCut(member, cut));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [cut(key), deepCut(member, cut)]),
  );
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
