/** Scanning by bytes agrees with JSON.parse, and a splice changes what it says and nothing else. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalId, eachMember, elementsOf, splice, stringAt, valueAt } from './scan.ts';
import { jsonText, writtenValue } from './testing/json.ts';

function whole(bytes: Buffer) {
  return { start: 0, end: bytes.length };
}

function parse(bytes: Buffer, range: { start: number; end: number }): unknown {
  return JSON.parse(bytes.toString('utf8', range.start, range.end)) as unknown;
}

/** Members as JSON.parse sees them: the last of equal keys. */
function membersOf(bytes: Buffer): Record<string, unknown> | null {
  const found = Object.create(null) as Record<string, unknown>;
  return eachMember(bytes, whole(bytes), (key, range) => {
    found[key] = parse(bytes, range);
  })
    ? found
    : null;
}

function sameMembers(found: Record<string, unknown> | null, expected: object): void {
  expect(found).not.toBeNull();
  expect(Object.entries(found ?? {}).sort(byKey)).toEqual(Object.entries(expected).sort(byKey));
}

function byKey([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

describe('eachMember', () => {
  test('finds what JSON.parse finds, in any way to write it', () => {
    fc.assert(
      fc.property(jsonText('object'), (text) => {
        sameMembers(membersOf(Buffer.from(text)), JSON.parse(text) as object);
      }),
      { numRuns: 500 },
    );
  });

  test('finds the same within a larger buffer', () => {
    fc.assert(
      fc.property(jsonText('object'), fc.string(), fc.string(), (text, before, after) => {
        const [head, body] = [Buffer.from(before), Buffer.from(text)];
        const bytes = Buffer.concat([head, body, Buffer.from(after)]);
        const range = { start: head.length, end: head.length + body.length };
        const found = Object.create(null) as Record<string, unknown>;
        expect(
          eachMember(bytes, range, (key, value) => {
            found[key] = parse(bytes, value);
          }),
        ).toBe(true);
        sameMembers(found, JSON.parse(text) as object);
      }),
    );
  });

  test('refuses what is cut off anywhere', () => {
    fc.assert(
      fc.property(jsonText('object'), fc.nat(), (text, at) => {
        const bytes = Buffer.from(text.trim());
        const cut = bytes.subarray(0, at % bytes.length);
        expect(eachMember(cut, whole(cut), () => undefined)).toBe(false);
      }),
    );
  });

  test.each([
    '',
    ' ',
    '[]',
    '"a"',
    '1',
    'null',
    '{',
    '{"a"',
    '{"a":',
    '{"a":1',
    '{"a":1,',
    '{"a":1,}',
    '{,}',
    '{a:1}',
    '{"a":}',
    '{"a" 1}',
    '{"a":1 "b":2}',
    '{"a":1}}',
    '{"a":1}x',
    '{"a":1}{"b":2}',
    '{"a":"x}',
    '{"a":"x\\"}',
    '{"a":[1}',
    '{"\\x":1}',
    '\u{feff}{"a":1}',
  ])('refuses %j', (text) => {
    const bytes = Buffer.from(text);
    expect(eachMember(bytes, whole(bytes), () => undefined)).toBe(false);
  });

  test('walks strings past its short walk: quotes and backslashes around the 64th byte', () => {
    for (let length = 55; length < 75; length++) {
      for (const tail of ['', '\\', '\\\\', '"', '\\"', '\\\\"', '}', '\n', 'é', '\\u0022']) {
        const value = `${'x'.repeat(length)}${tail}${tail}`;
        const bytes = Buffer.from(JSON.stringify({ [value]: value, id: value }));
        sameMembers(membersOf(bytes), { [value]: value, id: value });
      }
    }
  });

  test('does not call itself: deep nesting is no deep stack', () => {
    const deep = 200_000;
    const bytes = Buffer.from(`{"a":${'['.repeat(deep)}${']'.repeat(deep)},"id":7}`);
    expect(parse(bytes, valueAt(bytes, whole(bytes), 'id') as never)).toBe(7);
    const open = Buffer.from(`{"a":${'{"a":'.repeat(deep)}`);
    expect(eachMember(open, whole(open), () => undefined)).toBe(false);
  });

  test('passes over a huge string in one go', () => {
    const huge = 'x'.repeat(8 << 20);
    const bytes = Buffer.from(`{"a":"${huge}","b":"${huge}\\\\","id":"q"}`);
    expect(stringAt(bytes, valueAt(bytes, whole(bytes), 'id'))).toBe('q');
  });
});

describe('elementsOf', () => {
  test('finds what JSON.parse finds', () => {
    fc.assert(
      fc.property(jsonText('array'), (text) => {
        const bytes = Buffer.from(text);
        expect(elementsOf(bytes, whole(bytes))?.map((range) => parse(bytes, range))).toEqual(
          JSON.parse(text),
        );
      }),
    );
  });

  test.each(['', '{}', '[', '[1', '[1,', '[1,]', '[,]', '[1 2]', '["a]'])('refuses %j', (text) => {
    const bytes = Buffer.from(text);
    expect(elementsOf(bytes, whole(bytes))).toBeNull();
  });
});

test('what stands behind a range does not end a string within it', () => {
  for (const length of [3, 200]) {
    const inner = Buffer.from(`["${'x'.repeat(length)}`);
    const bytes = Buffer.concat([inner, Buffer.from('"]')]);
    expect(elementsOf(bytes, whole(inner))).toBeNull();
    expect(elementsOf(bytes, whole(bytes))).toHaveLength(1);
  }
});

describe('valueAt', () => {
  test('takes the last of equal keys, however they are escaped, at every depth', () => {
    const bytes = Buffer.from('{"a":{"b":1},"\\u0061":{"b":2,"\\u0062":3},"c":{"a":{"b":4}}}');
    expect(parse(bytes, valueAt(bytes, whole(bytes), 'a', 'b') as never)).toBe(3);
  });

  test('is null where a key is missing or what stands there is no object', () => {
    const bytes = Buffer.from('{"a":{"b":1},"c":[{"b":1}],"d":"x","e":null}');
    for (const keys of [['x'], ['a', 'x'], ['a', 'b', 'c'], ['c', 'b'], ['d', 'b'], ['e', 'b']]) {
      expect(valueAt(bytes, whole(bytes), ...keys)).toBeNull();
    }
    expect(valueAt(bytes, null, 'a')).toBeNull();
  });
});

describe('stringAt', () => {
  test('is the text of any string, however it is written', () => {
    fc.assert(
      fc.property(
        fc
          .string({ unit: 'binary' })
          .chain((value) => fc.record({ value: fc.constant(value), text: writtenValue(value) })),
        ({ value, text }) => {
          const bytes = Buffer.from(text);
          expect(stringAt(bytes, whole(bytes))).toBe(JSON.parse(text));
          expect(stringAt(bytes, whole(bytes))).toBe(value.toWellFormed());
        },
      ),
    );
  });

  test.each(['1', 'null', 'true', '{}', '[]', '["a"]'])('is null for %j', (text) => {
    const bytes = Buffer.from(text);
    expect(stringAt(bytes, whole(bytes))).toBeNull();
    expect(stringAt(bytes, null)).toBeNull();
  });
});

describe('canonicalId', () => {
  const idOf = (text: string) => canonicalId(Buffer.from(text), { start: 0, end: text.length });

  test('is the same for two texts exactly where their values are the same', () => {
    const id = fc.oneof(
      fc.integer().map(String),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.constantFrom('0', '-0', '1', '1.0', '1e0', '10e-1', '-1', '"1"', '"-1"', '"1.0"', '""'),
      fc.constantFrom('9007199254740991', '-9007199254740991', '1e21', '1E21', '123456789012345'),
      fc.string({ maxLength: 4 }).map((text) => JSON.stringify(text)),
    );
    fc.assert(
      fc.property(id, id, (a, b) => {
        const [left, right] = [JSON.parse(a) as unknown, JSON.parse(b) as unknown];
        expect(idOf(a) === idOf(b)).toBe(left === right);
      }),
      { numRuns: 1_000 },
    );
  });

  test.each(['null', 'true', 'false', '{}', '[1]', 'NaN', '01', '1x', '-', '+1'])(
    'is null for %s, which is no id',
    (text) => {
      expect(idOf(text)).toBeNull();
    },
  );

  test('reads escapes of a string', () => {
    expect(idOf('"\\u0061\\n"')).toBe('"a\n');
    expect(idOf('"a\\n"')).toBe('"a\n');
  });
});

describe('splice', () => {
  test('changes what it says and nothing else', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.array(fc.tuple(fc.nat(80), fc.nat(80), fc.string()), { maxLength: 4 }),
        (array, raw) => {
          const bytes = Buffer.from(array);
          const edges = raw
            .flatMap(([a, b]) => [a, b])
            .map((at) => Math.min(at, bytes.length))
            .sort((a, b) => a - b);
          const changes = raw.map(([, , by], index) => ({
            range: { start: edges[2 * index] as number, end: edges[2 * index + 1] as number },
            by,
          }));
          // From the back, so that places stay what they are.
          const expected = changes.reduceRight<Buffer>(
            (now, { range, by }) =>
              Buffer.concat([
                now.subarray(0, range.start),
                Buffer.from(by),
                now.subarray(range.end),
              ]),
            bytes,
          );
          const before = Buffer.from(bytes);
          expect(splice(bytes, changes)).toEqual(expected);
          expect(bytes).toEqual(before);
        },
      ),
    );
  });
});
