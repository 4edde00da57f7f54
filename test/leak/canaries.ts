/** Values that exist nowhere else, and every way in which one of them, or twelve characters of it, may be written. */
import { createHash } from 'node:crypto';

export interface Canary {
  /** Where the value came from; names it in a report, which never shows the value itself. */
  readonly source: string;
  readonly bytes: Buffer;
}

export interface Canaries {
  /** The same for the same seed and source; printable ASCII that each encoding has to escape. */
  make(source: string): string;
  /** A value that somebody else made and this run got to know. Known already: nothing. */
  learn(source: string, value: string | Uint8Array): void;
  readonly all: readonly Canary[];
}

/** Shorter pieces of a value occur by chance, or tell nobody anything. */
export const windowLength = 12;

export function createCanaries(seed: number): Canaries {
  const bySource = new Map<string, Canary>();
  const learn = (source: string, value: string | Uint8Array): void => {
    const bytes = Buffer.from(value);
    if (bytes.length < windowLength) throw new Error(`The canary of ${source} is too short.`);
    const known = [...bySource.values()].some((one) => one.bytes.equals(bytes));
    if (!known) bySource.set(`${source}#${bySource.size}`, { source, bytes });
  };
  return {
    make(source) {
      const text = createHash('sha256').update(`${seed}:${source}`).digest('base64url');
      const value = `${text.slice(0, 16)}"/\\+%&=${text.slice(16, 32)}`;
      learn(source, value);
      return value;
    },
    learn,
    get all() {
      return [...bySource.values()];
    },
  };
}

export interface Needle {
  readonly source: string;
  readonly form: string;
  readonly bytes: Buffer;
}

/** One for each form of each window of twelve bytes: whatever holds more of the value holds one of these. */
export function needlesOf({ source, bytes }: Canary): readonly Needle[] {
  const needles: Needle[] = [];
  for (let at = 0; at + windowLength <= bytes.length; at++) {
    const window = bytes.subarray(at, at + windowLength);
    for (const [form, text] of formsOf(window)) {
      needles.push({ source, form, bytes: Buffer.from(text, 'latin1') });
    }
  }
  return needles;
}

/** Each form as text of one byte a character; those that read like an earlier one are left out. */
function formsOf(window: Buffer): readonly (readonly [form: string, text: string])[] {
  const raw = window.toString('latin1');
  const hex = window.toString('hex');
  const url = [...window].map((byte) => urlByte(byte)).join('');
  const json = JSON.stringify(raw).slice(1, -1);
  const forms: [form: string, text: string][] = [
    ['raw', raw],
    ['json', json],
    ['json in json', JSON.stringify(json).slice(1, -1)],
    ['url', url],
    ['url in lower case', url.replaceAll(/%../g, (escape) => escape.toLowerCase())],
    ['form', url.replaceAll('%20', '+')],
    ['hex', hex],
    ['hex in upper case', hex.toUpperCase()],
    ...[0, 1, 2].flatMap((offset) =>
      (['base64', 'base64url'] as const).map((form): [string, string] => [
        form,
        insideBase64(window, offset, form),
      ]),
    ),
  ];
  const texts = forms.map(([, text]) => text);
  return forms.filter(([, text], index) => texts.indexOf(text) === index);
}

/** As encodeURIComponent does it, for bytes that need not be UTF-8. */
function urlByte(byte: number): string {
  const character = String.fromCharCode(byte);
  if (/[A-Za-z0-9\-_.!~*'()]/.test(character)) return character;
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

/** What the bytes read in the base64 of something longer, `offset` bytes (modulo 3) from its begin. */
function insideBase64(bytes: Buffer, offset: number, form: 'base64' | 'base64url'): string {
  const shifted = Buffer.concat([Buffer.alloc(offset), bytes]);
  const from = Math.ceil((offset * 8) / 6);
  return shifted.toString(form).slice(from, Math.floor((shifted.length * 8) / 6));
}
