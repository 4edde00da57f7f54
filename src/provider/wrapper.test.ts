import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Verdict } from '../finding.ts';
import { type Fields, Secret } from '../secret/secret.ts';
import { createRedactor } from '../secret/redactor.ts';
import type { MintRequest, ProviderSession, Traits } from './provider.ts';
import { wrapSession } from './wrapper.ts';

const canary = 'canary-7d2f0c9ab1';
const boxed = (values: Record<string, string>): Fields =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, new Secret(value)]));
const request: MintRequest = {
  secret: 's',
  rotation: 'r1',
  generation: 2,
  current: null,
  name: 'rotated-s-r1-1',
  idempotencyToken: '0'.repeat(32),
  inventory: [],
  prepared: null,
  predecessor: null,
};
const live = new AbortController().signal;

interface Given extends Partial<ProviderSession> {
  readonly [key: string]: unknown;
}

function wrap(
  given: Given,
  more: { deadlineMs?: number; clock?: Clock; signal?: AbortSignal; traits?: Traits } = {},
) {
  const session = {
    check: async () => [],
    mint: async () => ({ ref: 'ref-1', fields: boxed({ value: canary }) }),
    verify: async (): Promise<Verdict> => ({ ok: true }),
    revoke: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
    ...given,
  };
  return wrapSession(session, {
    secret: 's',
    deadlineMs: 5_000,
    redactor: createRedactor(),
    clock: systemClock(),
    signal: live,
    ...more,
  });
}

async function failure(work: Promise<unknown>): Promise<RotatedError> {
  const error: unknown = await work.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(RotatedError);
  return error as RotatedError;
}

const never = () => new Promise<never>(() => undefined);

test('a call that ignores its signal ends at the deadline, and a mint so ended has an unknown effect', async () => {
  const session = wrap({ mint: never, verify: never }, { deadlineMs: 20 });
  const mint = await failure(session.mint(request, live));
  expect([mint.code, mint.effect]).toEqual(['timeout', 'unknown']);
  const verify = await failure(session.verify({ ref: 'r', fields: {} }, live));
  expect([verify.code, verify.effect]).toEqual(['timeout', 'none']);
});

test('the deadline is told to the provider by its signal', async () => {
  let told: unknown;
  const session = wrap(
    {
      check: (signal: AbortSignal) =>
        new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            told = signal.reason;
            reject(new Error('ended'));
          });
        }),
    },
    { deadlineMs: 20 },
  );
  await failure(session.check(live));
  expect((told as DOMException).name).toBe('TimeoutError');
});

test('an abort of the call or of the whole ends it, and one that had not begun changed nothing', async () => {
  const whole = new AbortController();
  const session = wrap({ mint: never }, { signal: whole.signal });
  const one = new AbortController();
  const first = failure(session.mint(request, one.signal));
  one.abort();
  expect((await first).effect).toBe('unknown');
  const second = failure(session.mint(request, live));
  whole.abort();
  expect((await second).code).toBe('timeout');
  expect((await failure(session.mint(request, live))).effect).toBe('none');
});

test('what a provider throws is never handed on: no text, no cause, no class name', async () => {
  class Leaky extends Error {
    override readonly name = canary;
    readonly detail = canary;
  }
  const thrown = [
    new Error(`wrong password ${canary}`, { cause: canary }),
    new Leaky(canary),
    Object.assign(new Error(canary), { code: 'ECONNREFUSED' }),
    canary,
    { message: canary },
    null,
  ];
  for (const what of thrown) {
    const session = wrap({
      mint: async () => {
        throw what;
      },
    });
    const error = await failure(session.mint(request, live));
    const printed = `${inspect(error, { depth: 9, showHidden: true })}${JSON.stringify(error)}${String(error.stack)}`;
    expect(printed).not.toContain(canary);
    expect(error.effect).toBe('unknown');
  }
});

test('a synchronous throw is an error like any other', async () => {
  const session = wrap({
    verify: () => {
      throw new TypeError(canary);
    },
  });
  expect((await failure(session.verify({ ref: 'r', fields: {} }, live))).effect).toBe('none');
});

test("a provider's own error keeps code, effect and next step, without its cause and with known values redacted", async () => {
  const redactor = createRedactor();
  redactor.add(boxed({ value: canary }));
  const session = wrapSession(
    {
      ...wrap({}),
      revoke: async () => {
        throw new RotatedError('denied', `no right for ${canary}\u001b[2J`, {
          effect: 'applied',
          next: `ask ${canary}`,
          cause: new Error(canary),
          retryAfterMs: 7,
        });
      },
    },
    { secret: 's', deadlineMs: 30_000, redactor, clock: systemClock(), signal: live },
  );
  const error = await failure(session.revoke('r', live));
  expect(error).toMatchObject({
    code: 'denied',
    effect: 'applied',
    secret: 's',
    retryAfterMs: 7,
    message: 'no right for [redacted] [2J',
    next: 'ask [redacted]',
  });
  expect(error.cause).toBeUndefined();
});

test('a plugin that brings its own copy of RotatedError is understood', async () => {
  const foreign = Object.assign(new Error('full'), {
    name: 'RotatedError',
    code: 'limit-reached',
    effect: 'none',
    next: 'wait',
  });
  const session = wrap({
    mint: async () => {
      throw foreign;
    },
  });
  expect(await failure(session.mint(request, live))).toMatchObject({
    code: 'limit-reached',
    effect: 'none',
  });
});

test('a timeout that a provider calls harmless by omission is not believed', async () => {
  const session = wrap({
    mint: async () => {
      throw new RotatedError('timeout', 'no answer');
    },
    check: async () => {
      throw new RotatedError('timeout', 'no answer', { effect: 'applied' });
    },
  });
  expect((await failure(session.mint(request, live))).effect).toBe('unknown');
  expect((await failure(session.check(live))).effect).toBe('none');
});

const badAnswers: Record<string, unknown> = {
  nothing: undefined,
  text: 'ref',
  'no fields': { ref: 'r' },
  'empty fields': { ref: 'r', fields: {} },
  'a plain text instead of a Secret': { ref: 'r', fields: { value: canary } },
  'an empty value': { ref: 'r', fields: boxed({ value: '' }) },
  'a value with NUL': { ref: 'r', fields: boxed({ value: 'a\0b' }) },
  'a huge value': { ref: 'r', fields: boxed({ value: 'x'.repeat(70_000) }) },
  'a huge ref': { ref: 'r'.repeat(10_000_000), fields: boxed({ value: canary }) },
  'an empty ref': { ref: '', fields: boxed({ value: canary }) },
  'a ref with an escape sequence': { ref: 'a\u001b[2Jb', fields: boxed({ value: canary }) },
  'a ref with a line end': { ref: 'a\nb', fields: boxed({ value: canary }) },
  'a ref that holds the secret': { ref: `key-${canary}`, fields: boxed({ value: canary }) },
  'an owner that holds the secret': { ref: 'r', owner: canary, fields: boxed({ value: canary }) },
  'scopes that are no list': { ref: 'r', scopes: 'all', fields: boxed({ value: canary }) },
  'an expiry that is no instant': {
    ref: 'r',
    expiresAt: Number.NaN,
    fields: boxed({ value: canary }),
  },
  'a field called __proto__': {
    ref: 'r',
    fields: JSON.parse('{"__proto__":{"polluted":1}}') as unknown,
  },
  'a field called constructor': { ref: 'r', fields: boxed({ constructor: canary }) },
  'forty fields': {
    ref: 'r',
    fields: boxed(Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`f${i}`, canary]))),
  },
  'a getter that throws': {
    ref: 'r',
    get fields(): never {
      throw new Error(canary);
    },
  },
};

for (const [name, answer] of Object.entries(badAnswers)) {
  test(`a mint that answers ${name} is refused, its effect unknown`, async () => {
    const error = await failure(wrap({ mint: async () => answer as never }).mint(request, live));
    expect([error.code, error.effect]).toEqual(['invalid-answer', 'unknown']);
    expect(inspect(error, { depth: 9 })).not.toContain(canary);
    expect('polluted' in {}).toBe(false);
  });
}

test('a mint that hands out the present value again is refused', async () => {
  const current = { ref: 'old', fields: boxed({ value: canary }) };
  const error = await failure(wrap({}).mint({ ...request, current }, live));
  expect(error.message).toContain('the secret did not change');
});

test('a mint that answers anything but what was prepared is refused', async () => {
  const prepared = { ref: 'ref-1', fields: boxed({ value: 'prepared-value' }) };
  const other = await failure(wrap({}).mint({ ...request, prepared }, live));
  expect(other.message).toContain('other values than were prepared');
  const renamed = await failure(
    wrap({ mint: async () => ({ ...prepared, ref: 'ref-2' }) }).mint(
      { ...request, prepared },
      live,
    ),
  );
  expect(renamed.message).toContain('another ref');
});

test('minted values are known to the redactor even where the answer is refused or comes too late', async () => {
  const known: string[] = [];
  const redactor = {
    add: (fields: Fields) => void known.push(...Object.values(fields).map((one) => one.reveal())),
    redact: (text: string) => text,
  };
  const options = { secret: 's', deadlineMs: 20, redactor, clock: systemClock(), signal: live };
  const base = wrap({});
  const refused = wrapSession(
    {
      ...base,
      mint: async () => ({
        ref: '\n',
        fields: boxed({ value: 'refused-value', host: 'h', empty: '' }),
      }),
    },
    options,
  );
  await failure(refused.mint(request, live));
  let answer: (value: never) => void = () => undefined;
  const late = wrapSession(
    {
      ...base,
      mint: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    },
    options,
  );
  await failure(late.mint(request, live));
  answer({ ref: 'r', fields: boxed({ value: 'late-value' }) } as never);
  await expect.poll(() => known.length).toBe(2);
  // Not the host, which is public: redacting it would blank half of every log.
  expect(known).toEqual(['refused-value', 'late-value']);
});

test('a list is bounded in count and each entry is checked', async () => {
  const endless = wrap({
    async *list() {
      for (;;) yield { ref: 'r', enabled: true };
    },
  });
  const collect = async (session: ProviderSession) => {
    const all = [];
    for await (const info of session.list?.(live) ?? []) all.push(info);
    return all;
  };
  expect((await failure(collect(endless))).message).toContain('more than 10000');
  const bad = wrap({
    async *list() {
      yield { ref: 'r', enabled: 'yes' };
    },
  } as unknown as Given);
  expect((await failure(collect(bad))).code).toBe('invalid-answer');
  const stripped = wrap({
    async *list() {
      yield { ref: 'r', enabled: true, value: canary };
    },
  });
  expect(await collect(stripped)).toEqual([{ ref: 'r', enabled: true }]);
});

test('verdicts and findings are one clean line each', async () => {
  const redactor = createRedactor();
  redactor.add(boxed({ value: canary }));
  const session = wrapSession(
    {
      ...wrap({}),
      verify: async () => ({ ok: false, kind: 'rejected', reason: `bad\n${canary}\u001b[0m` }),
      check: async () => [
        { name: 'x', level: 'red', message: `a\r\n${canary}`.padEnd(2_000, 'y') },
      ],
    },
    { secret: 's', deadlineMs: 30_000, redactor, clock: systemClock(), signal: live },
  );
  expect(await session.verify({ ref: null, fields: {} }, live)).toEqual({
    ok: false,
    kind: 'rejected',
    reason: 'bad [redacted] [0m',
  });
  const [finding] = await session.check(live);
  expect(finding?.message).toMatch(/^a \[redacted\]y+…$/);
  expect(finding?.message.length).toBe(500);
});

test('optional methods stay absent, and a declared capability without its method is refused', () => {
  const wrapped = wrap({});
  expect([wrapped.list, wrapped.prepare, wrapped.disable, wrapped.resolve]).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  const traits: Traits = {
    strategy: 'overlap',
    crashClass: 'listable',
    limits: { liveMax: 2, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
    revokeScope: 'key',
    capabilities: {
      list: true,
      disable: true,
      lastUsed: false,
      tag: true,
      idempotent: false,
      resolve: false,
      proof: 'safe',
    },
    leastPrivilege: '',
  };
  expect(() => wrap({}, { traits })).toThrow(/list, disable, enable/);
});
