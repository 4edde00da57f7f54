/** Redaction by value: each form a value is written in, in each place it hides, and nothing else. */
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRedactor } from './redactor.ts';
import { Secret } from './secret.ts';

const value = 'p@ss w"rd/ü+\\7f3a=';
const redactorOf = (...values: string[]) => {
  const redactor = createRedactor();
  redactor.add(Object.fromEntries(values.map((one, index) => [`f${index}`, new Secret(one)])));
  return redactor;
};

const forms: readonly (readonly [string, string])[] = [
  ['raw', value],
  ['base64', Buffer.from(value).toString('base64')],
  ['base64 without padding', Buffer.from(value).toString('base64').replaceAll('=', '')],
  ['base64url', Buffer.from(value).toString('base64url')],
  ['URL-encoded', encodeURIComponent(value)],
  [
    'URL-encoded in lower case',
    encodeURIComponent(value).replaceAll(/%../g, (escape) => escape.toLowerCase()),
  ],
  ['form-encoded', new URLSearchParams({ a: value }).toString().slice(2)],
  ['JSON-escaped', JSON.stringify({ a: value }).slice(6, -2)],
];

describe('text', () => {
  test.each(forms)('the value is removed where it stands as %s', (_, form) => {
    expect(redactorOf(value).redact(`before ${form} after`)).toBe('before [redacted] after');
  });

  test.each(['a', 'ab', 'abc'])(
    'the value is removed from a Basic header whose user is %j',
    (user) => {
      const header = Buffer.from(`${user}:${value}`).toString('base64');
      const left = redactorOf(value).redact(`Basic ${header}`);
      expect(left).toContain('[redacted]');
      const rest = left.replaceAll(/Basic |\[redacted\]/g, '');
      expect(rest.length).toBeLessThan(header.length - Math.floor((value.length * 8) / 6) + 4);
    },
  );

  test('values that overlap are removed to the end of the last one', () => {
    expect(redactorOf('abcdefgh', 'fghijklm').redact('x abcdefghijklm y')).toBe('x [redacted] y');
    expect(redactorOf('secret', 'secret-and-more').redact('secret-and-more secret')).toBe(
      '[redacted] [redacted]',
    );
    expect(redactorOf('secret-and-more', 'and').redact('secret-and-more')).toBe('[redacted]');
    expect(redactorOf('abab').redact('ababab!')).toBe('[redacted]!');
  });

  test('the lines of a longer value are removed where they stand alone, its headings are not', () => {
    const pem = `-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1b\nbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n`;
    const text = '  bY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----BEGIN PRIVATE KEY-----';
    expect(redactorOf(pem).redact(text)).toBe('  [redacted]\n-----BEGIN PRIVATE KEY-----');
  });

  test('values shorter than four characters are left, since they occur everywhere', () => {
    expect(redactorOf('abc', '1', '').redact('abc 1 5432')).toBe('abc 1 5432');
  });

  test('a text without a value is the same text', () => {
    expect(redactorOf(value).redact('nothing to see: p@ss')).toBe('nothing to see: p@ss');
    expect(createRedactor().redact('anything')).toBe('anything');
  });

  test('no value survives in any text, whatever stands around it', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string({ minLength: 4, maxLength: 12, unit: fc.constantFrom('a', 'b', 'c', 'd') }),
          { minLength: 1, maxLength: 4 },
        ),
        fc.string({ maxLength: 60, unit: fc.constantFrom('a', 'b', 'c', 'd') }),
        fc.nat(),
        (values, around, at) => {
          const place = at % (around.length + 1);
          const text = around.slice(0, place) + (values[0] ?? '') + around.slice(place);
          const left = redactorOf(...values).redact(text);
          for (const one of values)
            expect(left.split('[redacted]').some((part) => part.includes(one))).toBe(false);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('structures', () => {
  const redactor = redactorOf(value, '5432167');

  test('values are removed from every depth, keys, maps, sets and numbers included', () => {
    const log = {
      list: [value, { deep: `x${value}` }],
      [value]: 1,
      map: new Map([[value, value]]),
      set: new Set([value]),
      url: new URL(`http://host/?q=${encodeURIComponent(value)}`),
      number: 5_432_167,
      big: 5_432_167n,
      plain: 7,
      none: null,
      box: new Secret(value),
      bytes: Buffer.from(value),
      date: new Date(0),
    };
    const cut = redactor.redact(log);
    expect(inspect(cut, { depth: 9 })).not.toContain(value);
    expect(cut).toEqual({
      list: ['[redacted]', { deep: 'x[redacted]' }],
      '[redacted]': 1,
      map: { '[redacted]': '[redacted]' },
      set: ['[redacted]'],
      url: 'http://host/?q=[redacted]',
      number: '[redacted]',
      big: '[redacted]',
      plain: 7,
      none: null,
      box: '[secret]',
      bytes: `[${Buffer.byteLength(value)} bytes]`,
      date: '1970-01-01T00:00:00.000Z',
    });
    expect(log.list[0]).toBe(value);
  });

  test('errors become plain data without the value: message, stack, cause, own members', () => {
    const error = Object.assign(
      new TypeError(`failed with ${value}`, { cause: new Error(value) }),
      {
        code: 'E',
        request: { headers: { authorization: `Bearer ${value}` } },
      },
    );
    const cut = redactor.redact(error) as Record<string, unknown>;
    expect(inspect(cut, { depth: 9 })).not.toContain(value);
    expect(cut).toMatchObject({
      type: 'TypeError',
      message: 'failed with [redacted]',
      code: 'E',
      cause: { type: 'Error', message: '[redacted]' },
      request: { headers: { authorization: 'Bearer [redacted]' } },
    });
    expect(cut['stack']).toContain('redactor.test.ts');
  });

  test('circles and endless depth end', () => {
    const circle: Record<string, unknown> = { name: value };
    circle['self'] = circle;
    expect(redactor.redact(circle)).toEqual({ name: '[redacted]', self: '[circular]' });
    let deep: unknown = value;
    for (let level = 0; level < 50; level++) deep = { deep };
    expect(JSON.stringify(redactor.redact(deep))).toContain('[deep]');
  });
});

describe('memory', () => {
  test('the newest values are kept, whatever is added again counts as new', () => {
    const redactor = createRedactor({ most: 3 });
    for (const one of ['value-1', 'value-2', 'value-3', 'value-1', 'value-4'])
      redactor.add(new Secret(one));
    expect(redactor.redact('value-1 value-2 value-3 value-4')).toBe(
      '[redacted] value-2 [redacted] [redacted]',
    );
  });

  test('a form that two values share stays until both are forgotten', () => {
    const redactor = createRedactor({ most: 2 });
    const [one, two] = ['shared line of sixteen\nfirst', 'shared line of sixteen\nsecond'];
    for (const text of [one, two, 'third-value']) redactor.add(new Secret(text));
    expect(redactor.redact('shared line of sixteen')).toBe('[redacted]');
    redactor.add(new Secret('fourth-value'));
    expect(redactor.redact('shared line of sixteen')).toBe('shared line of sixteen');
  });
});
