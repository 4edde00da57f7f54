import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { RotatedError } from '../../src/errors.ts';
import type { MintRequest, ProviderSession } from '../../src/provider/provider.ts';
import { boxed, contextOf } from '../../test/contract/subjects/world.ts';
import { operatorProvider } from './index.ts';
import { optionsSchema } from './options.ts';

/** Never: the runner bounds each test by itself. */
const signal = new AbortController().signal;
const base = { instructions: 'Make a key.', link: 'https://issuer.example/keys' };
const verify = {
  url: 'https://issuer.example/me',
  headers: { Authorization: 'Bearer ${value}', 'X-Team': 'team' },
};

interface Asked {
  readonly url: string;
  readonly init: RequestInit;
}

async function open(
  options: object,
  answer: (asked: Asked) => Response = () => new Response('{}'),
): Promise<{ session: ProviderSession; asked: Asked[] }> {
  const asked: Asked[] = [];
  const provider = operatorProvider(async (url, init) => {
    const one = { url: url instanceof Request ? url.url : url.toString(), init: init ?? {} };
    asked.push(one);
    return answer(one);
  });
  const session = await provider.open(optionsSchema.parse(options), contextOf('notion', null));
  return { session, asked };
}

const key = (value: string) => ({ ref: null, fields: boxed({ value }) });

async function failure(work: Promise<unknown>): Promise<RotatedError> {
  const error: unknown = await work.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(RotatedError);
  return error as RotatedError;
}

test('a mint says what to do, where, and how to hand the key in', async () => {
  const { session } = await open(base);
  const error = await failure(session.mint({} as MintRequest, signal));
  expect(error.next).toBe(
    'Make a key. https://issuer.example/keys Then hand it in: rotate supply notion',
  );
});

test('a revoke says where, by its own link or the other', async () => {
  const { session } = await open(base);
  expect((await failure(session.revoke('key-7', signal))).next).toContain('key-7');
  const { session: other } = await open({
    ...base,
    revokeInstructions: 'Delete it.',
    revokeLink: 'https://issuer.example/old',
  });
  const error = await failure(other.revoke('key-7', signal));
  expect(error.next).toBe('Delete it. https://issuer.example/old');
});

test('the key stands in the headers that the policy names, and a redirect is not followed', async () => {
  const { session, asked } = await open({ ...base, verify });
  expect(await session.verify(key('k-123'), signal)).toEqual({ ok: true });
  expect(asked).toMatchObject([
    {
      url: 'https://issuer.example/me',
      init: {
        method: 'GET',
        redirect: 'manual',
        headers: { Authorization: 'Bearer k-123', 'X-Team': 'team' },
      },
    },
  ]);
});

const statuses: readonly (readonly [number, unknown])[] = [
  [200, { ok: true }],
  [401, { ok: false, kind: 'rejected', reason: 'the issuer answered 401' }],
  [403, { ok: false, kind: 'restricted', reason: 'the issuer answered 403' }],
];
for (const [status, verdict] of statuses) {
  test(`status ${status} is a verdict`, async () => {
    const { session } = await open({ ...base, verify }, () => new Response(null, { status }));
    expect(await session.verify(key('k'), signal)).toEqual(verdict);
  });
}

test('a status that says nothing about the key is an error', async () => {
  for (const [status, code] of [
    [302, 'unavailable'],
    [404, 'unavailable'],
    [500, 'unavailable'],
    [429, 'throttled'],
  ] as const) {
    const { session } = await open({ ...base, verify }, () => new Response(null, { status }));
    expect((await failure(session.verify(key('k'), signal))).code).toBe(code);
  }
});

test('a body without end is not read', async () => {
  let pulled = 0;
  const { session } = await open(
    { ...base, verify },
    () =>
      new Response(
        new ReadableStream({
          pull(controller) {
            pulled++;
            controller.enqueue(new Uint8Array(1_000_000));
          },
        }),
      ),
  );
  expect((await session.verify(key('k'), signal)).ok).toBe(true);
  expect(pulled).toBeLessThan(5);
});

const copied: readonly (readonly [string, string])[] = [
  ['', 'value is empty'],
  ['  \n', 'value is empty'],
  ['k-123\n', 'value has spaces or line ends around it'],
  ['k-1\nk-2', 'value holds line ends or control characters'],
  ['x'.repeat(16_385), 'value is longer than 16384 characters'],
];
for (const [value, reason] of copied) {
  test(`a key copied wrongly is refused before it goes anywhere: ${reason}`, async () => {
    const { session, asked } = await open({ ...base, verify });
    const verdict = await session.verify(key(value), signal);
    expect(verdict).toEqual({ ok: false, kind: 'rejected', reason });
    expect(asked).toEqual([]);
  });
}

test('a key that cannot stand in a header is a verdict that does not quote it', async () => {
  const { session } = await open({ ...base, verify });
  const verdict = await session.verify(key('sk-…-snowman'), signal);
  expect(verdict).toMatchObject({ ok: false, reason: 'the key cannot stand in an HTTP header' });
});

test('an error of fetch, which may quote the key, is not handed on', async () => {
  const { session } = await open({ ...base, verify }, ({ init }) => {
    throw new TypeError(`bad header ${JSON.stringify(init.headers)}`);
  });
  const error = await failure(session.verify(key('k-canary-5'), signal));
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('k-canary-5');
});

test('without a check a PEM file and a plain key are taken at their form, and the check warns', async () => {
  const { session } = await open({ ...base, fields: ['key', 'id'] });
  const pem = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n';
  const fields = boxed({ key: pem, id: '7' });
  expect(await session.verify({ ref: null, fields }, signal)).toEqual({ ok: true });
  expect(await session.verify({ ref: null, fields: boxed({ other: 'x' }) }, signal)).toMatchObject({
    ok: false,
    reason: 'none of the fields key, id is there',
  });
  expect(await session.check(signal)).toMatchObject([{ name: 'verify-missing', level: 'amber' }]);
});

test('options that would leak or cannot work are refused', () => {
  expect(optionsSchema.safeParse({ ...base, verify }).success).toBe(true);
  const wrong = [
    {},
    { ...base, verify: { ...verify, url: 'http://issuer.example/me' } },
    { ...base, verify: { ...verify, url: 'ftp://issuer.example/me' } },
    { ...base, verify: { ...verify, headers: { A: '${password}' } } },
    { ...base, verify: { ...verify, headers: { 'A: x\r\nB': 'x' } } },
    { ...base, verify: { ...verify, expect: [] } },
    { ...base, link: 'javascript:alert(1)' },
  ];
  for (const options of wrong) {
    expect(optionsSchema.safeParse(options).success, JSON.stringify(options)).toBe(false);
  }
  const local = { ...base, verify: { ...verify, url: 'http://127.0.0.1:8080/me' } };
  expect(optionsSchema.safeParse(local).success).toBe(true);
});
