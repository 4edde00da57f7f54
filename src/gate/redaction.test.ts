/** Redaction of bytes: no form of a value survives, what was JSON stays JSON, and nothing else changes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { redacted } from '../secret/forms.ts';
import { Secret } from '../secret/secret.ts';
import { createByteRedactor } from './redaction.ts';

function redactorOf(...values: readonly string[]) {
  const redactor = createByteRedactor();
  redactor.use(values.map((value) => new Secret(value)));
  return redactor;
}

function clean(text: string, ...values: readonly string[]): string {
  return redactorOf(...values)
    .cleanFrame(Buffer.from(`${text}\n`))
    .toString();
}

function percent(value: string, isEscape: (character: string) => boolean): string {
  return Array.from(value)
    .map((one) =>
      isEscape(one)
        ? [...Buffer.from(one)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
        : one,
    )
    .join('');
}

const upper = (text: string) => text.replaceAll(/%[0-9a-f]{2}/g, (escape) => escape.toUpperCase());
const isUnreserved = (one: string) => /[A-Za-z0-9._~-]/.test(one);

/** Every form that must not be left, by name. */
const forms: Readonly<Record<string, (value: string) => string>> = {
  raw: (value) => value,
  base64: (value) => Buffer.from(value).toString('base64'),
  base64url: (value) => Buffer.from(value).toString('base64url'),
  'base64 without padding': (value) => Buffer.from(value).toString('base64').replace(/=+$/, ''),
  'percent-encoded as a component': encodeURIComponent,
  'percent-encoded in lower case': (value) =>
    encodeURIComponent(value).replaceAll(/%../g, (escape) => escape.toLowerCase()),
  'percent-encoded by RFC 3986': (value) => upper(percent(value, (one) => !isUnreserved(one))),
  'form-encoded': (value) => new URLSearchParams({ a: value }).toString().slice(2),
  'JSON within a string': (value) => JSON.stringify(value).slice(1, -1),
};

/** Credentials as they are made: any printable characters, long enough to be told from ordinary words. */
const value = fc.oneof(
  fc.string({
    unit: fc.constantFrom(...Array.from('abcXYZ019+/=-_.~!*()\'"\\%&<> @:?#éü€𝒳')),
    minLength: 10,
    maxLength: 40,
  }),
  fc.base64String({ minLength: 12, maxLength: 60 }),
  fc.stringMatching(/^[a-z]{2}_[A-Za-z0-9]{20,40}$/),
);
/** What stands around it; no letters of a value's, so that what is left can be told apart. */
const around = fc.string({
  unit: fc.constantFrom(' ', ',', ';', '{', '|', '\n', '\t'),
  maxLength: 6,
});
const writers: Readonly<Record<string, (text: string) => string>> = {
  'JSON.stringify': (text) => JSON.stringify(text),
  'a writer of ASCII alone': (text) =>
    JSON.stringify(text).replaceAll(/[\u0080-\uffff]/g, (unit) => escaped(unit)),
  "Go's writer": (text) =>
    JSON.stringify(text).replaceAll(/[<>&\u2028\u2029]/g, (unit) => escaped(unit)),
  "PHP's writer": (text) =>
    JSON.stringify(text)
      .replaceAll('/', '\\/')
      .replaceAll(/[\u0080-\uffff]/g, (unit) => escaped(unit)),
};

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

describe('a frame', () => {
  describe.each(Object.entries(forms))('with a value %s', (_, form) => {
    test.each(Object.entries(writers))('keeps nothing of it, as %s writes it', (__, write) => {
      fc.assert(
        fc.property(value, around, around, (secret, before, after) => {
          const text = `${before}${form(secret)}${after}`;
          const frame = `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":${write(text)}}]}}`;
          const left = JSON.parse(clean(frame, secret)) as {
            id: number;
            result: { content: { text: string }[] };
          };
          expect(left.id).toBe(1);
          // A form's padding may stay, and half of an escape: they say nothing.
          expect(left.result.content[0]?.text.replaceAll(/[=\\]/g, '')).toBe(
            `${before}${redacted}${after}`,
          );
        }),
      );
    });
  });

  test('keeps nothing but the ends of a value within longer base64, at each offset', () => {
    fc.assert(
      fc.property(value, fc.string(), fc.string(), fc.boolean(), (secret, before, after, isUrl) => {
        const encoding = isUrl ? 'base64url' : 'base64';
        const text = Buffer.from(before + secret + after).toString(encoding);
        const left = JSON.parse(clean(JSON.stringify({ a: text }), secret)) as { a: string };
        expect(left.a).toContain(redacted);
        const rest = left.a.split(redacted).map((part) => Buffer.from(part, encoding).toString());
        // The two characters at its ends share bits with what stands around it.
        const inner = secret.slice(2, -2);
        for (const part of rest) expect(part).not.toContain(inner);
        expect(rest.join('').length).toBeLessThanOrEqual(Buffer.byteLength(before + after) + 2 * 3);
      }),
    );
  });

  test('keeps nothing of a value in JSON within JSON, as tools write their results', () => {
    fc.assert(
      fc.property(value, (secret) => {
        const inner = JSON.stringify({ env: { KEY: secret } });
        const left = JSON.parse(clean(JSON.stringify({ text: inner }), secret)) as { text: string };
        expect(JSON.parse(left.text)).toEqual({ env: { KEY: redacted } });
      }),
    );
  });

  test('stays JSON, whatever the values are and wherever they stand', () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 4 }),
        fc.array(
          fc.oneof(
            value,
            fc.constantFrom('1234', '12345', 'true', 'null', '":{"', '},{', '[[[[', '"a":', '-1.5'),
          ),
          { maxLength: 4 },
        ),
        (json, values) => {
          const text = JSON.stringify({ json, values, more: [1234, 12345, -1.5, true, null] });
          const left = clean(text, ...values);
          expect(() => JSON.parse(left) as unknown).not.toThrow();
          expect(left.indexOf('\n')).toBe(left.length - 1);
        },
      ),
    );
  });

  test('with a value that is a number keeps its structure and all other numbers', () => {
    const frame =
      '{"jsonrpc":"2.0","id":7,"result":{"pin":48151623,"n":[1,48151623,2.5],"48151623":true}}';
    expect(JSON.parse(clean(frame, '48151623'))).toEqual({
      jsonrpc: '2.0',
      id: 7,
      result: { pin: redacted, n: [1, redacted, 2.5], [redacted]: true },
    });
  });

  test('is still the answer to its call where the id, or a word of the protocol, reads like a value', () => {
    const frame =
      '{"jsonrpc":"2.0","id":48151623,"result":{"content":[{"type":"text","text":"a"}]}}';
    const left = JSON.parse(clean(frame, '48151623', 'result', 'jsonrpc')) as object;
    expect(left).toMatchObject({ jsonrpc: '2.0', id: 48151623 });
    expect(left).toHaveProperty('result');
  });

  test('that overlapping values span loses them from the first to the last', () => {
    const frame = JSON.stringify({ a: 'x abcdefghijklm y', b: 'ababab', c: 'abcdefgh' });
    expect(JSON.parse(clean(frame, 'abcdefgh', 'fghijklm', 'abab'))).toEqual({
      a: `x ${redacted} y`,
      b: redacted,
      c: redacted,
    });
  });

  test('whose escape and what follows read like a value is left as it is', () => {
    const frame = JSON.stringify({ a: 'x\nabcdefghij', b: 'nabcdefghij' });
    expect(JSON.parse(clean(frame, 'nabcdefghij'))).toEqual({ a: 'x\nabcdefghij', b: redacted });
  });

  test('without a value is the same bytes', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        const frame = Buffer.from(`${JSON.stringify({ json }, null, 1).replaceAll('\n', ' ')}\n`);
        const redactor = redactorOf('sk_live_0123456789abcdef');
        expect(redactor.finds(frame)).toBe(false);
        expect(redactor.cleanFrame(frame)).toBe(frame);
      }),
    );
  });

  test('that is no JSON, and holds a value, is cleaned like text', () => {
    expect(clean('Listening, token sk_live_0123456789', 'sk_live_0123456789')).toBe(
      `Listening, token ${redacted}\n`,
    );
    expect(clean('{"a": sk_live_0123456789', 'sk_live_0123456789')).toBe(`{"a": ${redacted}\n`);
  });

  test('nested without end does not end the gate', () => {
    const deep = 100_000;
    const frame = `{"pin":48151623,"a":${'['.repeat(deep)}${']'.repeat(deep)}}`;
    expect(clean(frame, '48151623')).not.toContain('48151623');
  });
});

describe('finding', () => {
  test('says yes wherever cleaning would change anything', () => {
    fc.assert(
      fc.property(
        value,
        fc.constantFrom(...Object.values(forms)),
        fc.boolean(),
        (secret, form, has) => {
          const frame = Buffer.from(JSON.stringify({ a: has ? form(secret) : 'nothing' }));
          const redactor = redactorOf(secret);
          expect(redactor.finds(frame)).toBe(has);
          expect(redactor.cleanFrame(frame).equals(frame)).toBe(!has);
        },
      ),
    );
  });
});

describe('text for people', () => {
  test.each(Object.entries(forms))('keeps nothing of a value that stands there %s', (_, form) => {
    fc.assert(
      fc.property(value, around, around, (secret, before, after) => {
        const left = redactorOf(secret).cleanText(
          Buffer.from(`${before}${form(secret)}${after}\n`),
        );
        expect(left.toString().replace(/=+/, '')).toBe(
          `${before}${redacted}${after}\n`.replace(/=+/, ''),
        );
      }),
    );
  });
});

test('the values used last are the ones removed', () => {
  const redactor = redactorOf('first-value-1');
  redactor.use([new Secret('second-value-2')]);
  expect(redactor.cleanText(Buffer.from('first-value-1 second-value-2')).toString()).toBe(
    `first-value-1 ${redacted}`,
  );
  redactor.use([]);
  expect(redactor.cleanText(Buffer.from('second-value-2')).toString()).toBe('second-value-2');
});

test('a value is found however often it is escaped, since a frame that is not looked at leaks', () => {
  const value = 'p"a\\ss/word ü with-some+more';
  const redactor = createByteRedactor();
  redactor.use([new Secret(value)]);
  let said: unknown = { key: value };
  for (let depth = 0; depth < 6; depth++) {
    const frame = Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', id: 1, result: said })}\n`);
    expect(redactor.finds(frame), `escaped ${depth} times`).toBe(true);
    said = { body: JSON.stringify(said) };
  }
  expect(redactor.finds(Buffer.from('{"jsonrpc":"2.0","id":1,"result":{}}\n'))).toBe(false);
});
