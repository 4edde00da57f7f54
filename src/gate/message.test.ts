/** Reading a message by its bytes agrees with JSON.parse, for every way to write one; what the gate writes is JSON. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cancelledId,
  errorFrame,
  frameOf,
  gateErrors,
  idAtEnds,
  type Message,
  paramOf,
  parseRange,
  readMessage,
  splitBatch,
  stringParam,
} from './message.ts';
import { idText } from './session/path.ts';
import { jsonText, members, writtenValue } from './testing/json.ts';

type Parsed = Record<string, unknown>;

/** What readMessage must find, told from the parsed text. */
function expected(text: string): object | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const message = value as Parsed;
  if (message['jsonrpc'] !== '2.0') return null;
  const has = (name: string) => Object.hasOwn(message, name);
  const id = message['id'];
  const isId = typeof id === 'string' || typeof id === 'number';
  // -0 and 0 are one id.
  const known = isId ? (id === 0 ? 0 : id) : null;
  const parts = Object.fromEntries(
    ['params', 'result', 'error'].map((name) => [name, has(name) ? message[name] : 'none']),
  );
  if (typeof message['method'] === 'string') {
    const kind = isId ? 'request' : 'notification';
    return { kind, id: known, method: message['method'], ...parts };
  }
  if (has('method') || !(has('result') || has('error'))) return null;
  return { kind: 'response', id: known, method: null, ...parts };
}

function found(message: Message | null): object | null {
  if (message === null) return null;
  const { kind, id, method, bytes } = message;
  const part = (name: 'params' | 'result' | 'error') => {
    const range = message[name];
    return range === null ? 'none' : parseRange(bytes, range);
  };
  return {
    kind,
    id: id === null ? null : (JSON.parse(idText(id)) as unknown),
    method,
    params: part('params'),
    result: part('result'),
    error: part('error'),
  };
}

/** Ids of every kind, as texts: big, negative, fractional, in another notation, escaped; and what is no id. */
const idTexts = fc.oneof(
  fc.nat().map(String),
  fc.integer().map(String),
  fc.maxSafeInteger().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.string({ unit: 'binary', maxLength: 80 }).chain(writtenValue),
  fc.constantFrom('0', '-0', '1.0', '1e3', '-1.5E-3', 'null', 'true', '{}', '[1]', '""'),
);
const name = (text: string) => writtenValue(text);
const member = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(
      name('jsonrpc'),
      fc.oneof({ weight: 9, arbitrary: name('2.0') }, fc.constantFrom('2.0', '"1.0"', 'null')),
    ),
  },
  { weight: 5, arbitrary: fc.tuple(name('id'), idTexts) },
  {
    weight: 5,
    arbitrary: fc.tuple(
      name('method'),
      fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom('tools/call', 'a', 'é', '').chain(name) },
        idTexts,
      ),
    ),
  },
  { weight: 3, arbitrary: fc.tuple(name('params'), jsonText('any')) },
  { weight: 2, arbitrary: fc.tuple(name('result'), jsonText('any')) },
  { weight: 1, arbitrary: fc.tuple(name('error'), jsonText('any')) },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.string({ unit: 'binary', maxLength: 9 }).chain(name), jsonText('any')),
  },
);
const messageText = members(member).map((all) => `{${all}}\n`);

describe('readMessage', () => {
  test('finds what JSON.parse finds: kind, id, method and parts, in any way to write them', () => {
    fc.assert(
      fc.property(messageText, (text) => {
        expect(found(readMessage(Buffer.from(text)))).toEqual(expected(text));
      }),
      { numRuns: 3_000 },
    );
  });

  test('is null for any other JSON value, and for what is no JSON', () => {
    fc.assert(
      fc.property(fc.oneof(jsonText('array'), fc.string(), jsonText('any')), (text) => {
        expect(found(readMessage(Buffer.from(text)))).toEqual(expected(text));
      }),
    );
  });

  test.each([
    ['{"jsonrpc":"2.0","\\u0069d":7,"method":"a"}', 'request', '7'],
    ['{"id":1,"jsonrpc":"2.0","method":"a","id":2}', 'request', '2'],
    ['{"jsonrpc":"2.0","id":"\\u0061\\"","method":"a"}', 'request', '"a"'],
    ['{"jsonrpc":"2.0","id":-3.5e-1,"result":{"id":9}}', 'response', '-0.35'],
    ['{"result":{"jsonrpc":"1.0","method":"x"},"jsonrpc":"2.0","id":0}', 'response', '0'],
    ['{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}', 'response', null],
    ['{"jsonrpc":"2.0","id":null,"method":"a"}', 'notification', null],
    ['{"jsonrpc":"2.0","id":01,"method":"a"}', 'notification', null],
    [
      ' \t{ "jsonrpc" : "2.0" , "method" : "a" , "extra" : { "id" : 1 } } \r\n',
      'notification',
      null,
    ],
  ])('reads %s', (text, kind, id) => {
    const message = readMessage(Buffer.from(text));
    expect(message?.kind).toBe(kind);
    expect(message?.id).toBe(id === '"a"' ? '"a"' : id);
  });

  test('reads a message with a huge result and deep nesting without a deep stack', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000);
    const text = `{"result":{"a":${deep},"b":"${'x'.repeat(4 << 20)}"},"jsonrpc":"2.0","id":5}\n`;
    expect(readMessage(Buffer.from(text))).toMatchObject({ kind: 'response', id: '5' });
  });

  test('reads what the gate writes', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer(), fc.string({ unit: 'binary' })),
        fc.jsonValue(),
        (id, params) => {
          const frame = frameOf({ id, method: 'a/b', params });
          expect(frame.indexOf('\n')).toBe(frame.length - 1);
          expect(found(readMessage(frame))).toMatchObject({
            kind: 'request',
            id: typeof id === 'string' ? id.toWellFormed() : id,
          });
        },
      ),
    );
  });
});

describe('an error of the gate', () => {
  test('answers the very id, and lies outside of the codes that the protocol reserves', () => {
    fc.assert(
      fc.property(idTexts, fc.string({ unit: 'binary' }), (text, said) => {
        const request = readMessage(Buffer.from(`{"jsonrpc":"2.0","id":${text},"method":"a"}`));
        if (request?.id == null) return;
        const frame = errorFrame(idText(request.id), gateErrors.cut, said, { a: 1 });
        expect(frame.indexOf('\n')).toBe(frame.length - 1);
        const answer = JSON.parse(frame.toString()) as Parsed;
        // -0 and 0 are one id.
        expect(answer['id'] === JSON.parse(text)).toBe(true);
        expect(answer['error']).toEqual({
          code: gateErrors.cut,
          message: said.toWellFormed(),
          data: { a: 1 },
        });
        expect(readMessage(frame)?.id).toBe(request.id);
      }),
    );
    for (const code of Object.values(gateErrors)) {
      expect(code < -32_768 || code > -32_000).toBe(true);
    }
  });
});

describe('splitBatch', () => {
  test('gives each element as a frame of its own', () => {
    fc.assert(
      fc.property(jsonText('array'), (text) => {
        const parts = splitBatch(Buffer.from(text));
        for (const part of parts ?? []) expect(part.at(-1)).toBe(0x0a);
        expect(parts?.map((part) => JSON.parse(part.toString()) as unknown)).toEqual(
          JSON.parse(text),
        );
      }),
    );
  });

  test.each(['{}', '{"a":[1]}', '', 'junk', '"[1]"', '[1', '[1,]'])('is null for %j', (text) => {
    expect(splitBatch(Buffer.from(text))).toBeNull();
  });
});

describe('the parts of params', () => {
  const message = readMessage(
    Buffer.from(
      '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"\\u0072equestId":7.0,"_meta":{"t":"\\u00e9"}},"x":{"requestId":2}}',
    ),
  ) as Message;

  test('are found by their path, the last of equal keys', () => {
    expect(cancelledId(message)).toBe('7');
    expect(stringParam(message, '_meta', 't')).toBe('é');
    expect(stringParam(message, 'requestId')).toBeNull();
    expect(paramOf(message, '_meta', 'missing')).toBeNull();
  });

  test('of a message without params are none', () => {
    const bare = readMessage(Buffer.from('{"jsonrpc":"2.0","method":"a"}')) as Message;
    expect(paramOf(bare, 'requestId')).toBeNull();
    expect(cancelledId(bare)).toBeNull();
  });
});

describe('the two ends of a frame that is too large', () => {
  const endsOf = (kind: 'request' | 'response', text: string) =>
    idAtEnds(kind, Buffer.from(text.slice(0, 60)), Buffer.from(`${text.slice(-60)}\n`));
  const body = `{"name":"x","id":99,"a":{"id":98},"b":"${'y'.repeat(200)}"}`;

  test.each([
    ['a request', 'request', `{"method":"a","params":${body},"jsonrpc":"2.0","id":5}`, '5'],
    ['its answer', 'response', `{"result":${body},"jsonrpc":"2.0","id":5}`, '5'],
    [
      'one with the version last',
      'response',
      `{"result":${body},"id":"r-5","jsonrpc":"2.0"}`,
      '"r-5',
    ],
    [
      'one with both first',
      'request',
      `{"jsonrpc":"2.0","id":"\\u0061b","method":"a","params":${body}}`,
      '"ab',
    ],
    ['one with both first, turned', 'response', `{"id":3,"jsonrpc":"2.0","error":${body}}`, '3'],
    ['one with the id first', 'request', ` { "id" : -7 , "method":"a","params":${body}}`, '-7'],
  ] as const)('tell whose it was: %s', (_, kind, text, id) => {
    expect(endsOf(kind, text)).toBe(id);
    // The client's ids and the server's own are two rows of numbers.
    expect(endsOf(kind === 'request' ? 'response' : 'request', text)).toBeNull();
  });

  test.each([
    ['a notification', `{"jsonrpc":"2.0","method":"a","params":${body}}`],
    ['one that ends within another id', `{"method":"a","params":{"b":${body},"id":5}}`],
    ['what is no message', 'x'.repeat(500)],
    ['what is no message but ends like one', `${'x'.repeat(500)},"id":5}`],
  ])('tell nothing of %s', (_, text) => {
    expect(endsOf('request', text)).toBeNull();
    expect(endsOf('response', text)).toBeNull();
  });
});
