/** The forms in which a secret value is written: as it is, escaped, percent-encoded, in base64, also inside something longer. */

export const redacted = '[redacted]';
/** Shorter forms occur everywhere. */
export const formLengthLeast = 4;
/** Lines of a longer value (a PEM key) that are long enough to identify it. */
const lineLengthLeast = 16;

/** What any writer of JSON escapes. */
export const escapedBySome = /[^\w .~:|{}[\];?@#$%^*()!,-]/;

/** Every way a value commonly stands in a text. */
export function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const encoded = encodeUri(value);
  const forms = [
    value,
    encoded,
    encoded.replaceAll('%20', '+'),
    encoded.replaceAll(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase()),
    encoded.replaceAll(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`),
    new URLSearchParams({ v: value }).toString().slice(2),
    bytes.toString('base64'),
    bytes.toString('base64').replace(/=+$/, ''),
    bytes.toString('base64url'),
    ...[0, 1, 2].flatMap((offset) => insideBase64(bytes, offset)),
  ];
  if (value.includes('\n')) {
    const lines = value.split(/\r?\n/).map((line) => line.trim());
    forms.push(
      ...lines.filter((line) => line.length >= lineLengthLeast && !line.startsWith('-----')),
    );
  }
  return [...new Set(forms.flatMap(spellings))].filter((form) => form.length >= formLengthLeast);
}

/**
 * How JSON writers spell it inside a string, and inside a string of JSON in a string, as tools write their results. Most
 * credentials have nothing to escape, and one spelling.
 */
function spellings(form: string): string[] {
  if (!escapedBySome.test(form)) return [form];
  const plain = inString(form);
  const ascii = escapeUnits(plain, /[\u007f-\uffff]/g);
  const once = [
    plain,
    // Python.
    ascii,
    // PHP.
    ascii.replaceAll('/', String.raw`\/`),
    plain.replaceAll('/', String.raw`\/`),
    // Go.
    escapeUnits(plain, /[<>&\u2028\u2029]/g),
    // Gson.
    escapeUnits(plain, /[<>&='\u2028\u2029]/g),
    // .NET.
    escapeUnits(plain.replaceAll('\\"', '"'), /["<>&+'`\u007f-\uffff]/g).replaceAll(
      /\\u[0-9a-f]{4}/g,
      (escape) => `\\u${escape.slice(2).toUpperCase()}`,
    ),
  ];
  return [form, ...once, ...once.map(inString)];
}

function inString(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function escapeUnits(text: string, units: RegExp): string {
  return text.replaceAll(units, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** How the bytes read inside the base64 of something longer (`user:password`), by their offset modulo 3. */
function insideBase64(bytes: Buffer, offset: number): string[] {
  const shifted = Buffer.concat([Buffer.alloc(offset), bytes]);
  const whole = Math.floor((shifted.length * 8) / 6);
  const start = Math.ceil((offset * 8) / 6);
  // Shorter ones would match by chance.
  if (whole - start < 8) return [];
  return (['base64', 'base64url'] as const).map((form) =>
    shifted.toString(form).slice(start, whole),
  );
}

function encodeUri(value: string): string {
  try {
    return encodeURIComponent(value);
  } catch {
    // A lone surrogate has no URL form.
    return value;
  }
}
