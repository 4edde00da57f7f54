/** The contract itself under test: a small provider in memory, broken one way at a time, and each break caught. */
import { expect, test } from 'vitest';
import { z } from 'zod';
import { systemClock, systemRandom } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import { type ContractSubject, runContract } from './contract.ts';
import {
  defineProvider,
  type ProviderContext,
  type ProviderSession,
  Secret,
  type Traits,
} from './provider.ts';

interface Key {
  readonly value: string;
  readonly name: string;
}

class Issuer {
  readonly keys = new Map<string, Key>();
  next = 1;
  losesAnswer = false;
}

const traits: Traits = {
  strategy: 'overlap',
  crashClass: 'listable',
  limits: { liveMax: 3, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
  revokeScope: 'key',
  capabilities: {
    list: true,
    disable: false,
    lastUsed: false,
    tag: true,
    idempotent: false,
    resolve: false,
    proof: 'safe',
  },
  leastPrivilege: 'none',
};

const adminValue = 'admin-canary-1234';
const issuers = new WeakMap<ProviderContext, Issuer>();

function provider(broken: (session: ProviderSession, issuer: Issuer) => Partial<ProviderSession>) {
  return defineProvider({
    apiVersion: 1,
    id: 'memory',
    options: z.strictObject({}),
    traits: () => traits,
    async open(_options, context): Promise<ProviderSession> {
      const issuer = issuers.get(context) ?? new Issuer();
      const session: ProviderSession = {
        check: async () => [],
        async mint({ name }) {
          if (issuer.keys.size >= 3) throw new RotatedError('limit-reached', 'full');
          const ref = `key-${issuer.next++}`;
          const value = `value-of-${ref}-${context.random.bytes(8).toString('hex')}`;
          issuer.keys.set(ref, { value, name });
          if (issuer.losesAnswer) {
            issuer.losesAnswer = false;
            throw new Error('connection reset');
          }
          return { ref, fields: { value: new Secret(value) } };
        },
        async verify({ fields }) {
          const value = fields['value']?.reveal();
          const isLive = [...issuer.keys.values()].some((key) => key.value === value);
          return isLive ? { ok: true } : { ok: false, kind: 'rejected', reason: 'unknown' };
        },
        async revoke(ref) {
          issuer.keys.delete(ref);
        },
        async *list() {
          for (const [ref, { name }] of issuer.keys) yield { ref, name, enabled: true };
        },
        async [Symbol.asyncDispose]() {},
      };
      return { ...session, ...broken(session, issuer) };
    },
  });
}

const inapplicable = [
  'a repeated mint gives the same credential',
  'preparing changes nothing outside',
  "a credential's id is found by its value",
  'a revoke ends open sessions',
  'a disabled credential is refused until it is enabled',
  'two secrets at once do not disturb each other',
  'a person is told what to do, and nothing has changed',
  'a credential that is refused at first verifies within the settle time',
  'missing rights show before the mint',
  'a mint without the right is denied and changes nothing',
  'hostile answers are refused',
  'an abort is honoured promptly',
  'a call that nobody answers ends at its deadline',
  'an issuer that cannot be reached is an error, not a verdict',
];

function subject(
  broken: (session: ProviderSession, issuer: Issuer) => Partial<ProviderSession> = () => ({}),
  skips: readonly string[] = inapplicable,
): ContractSubject {
  return {
    name: 'memory',
    server: 'none',
    version: '1',
    provider: provider(broken),
    skips: skips.map((name) => ({ name, reason: 'declared' })),
    async world() {
      const issuer = new Issuer();
      const context: ProviderContext = {
        secret: 's',
        admin: async () => ({ value: new Secret(adminValue) }),
        clock: systemClock(),
        random: systemRandom(),
        directory: '.',
      };
      issuers.set(context, issuer);
      return {
        options: {},
        context,
        wrong: () => ({ value: new Secret('wrong-value-0000') }),
        async loseAnswer() {
          issuer.losesAnswer = true;
          return { options: {}, context };
        },
        async [Symbol.asyncDispose]() {},
      };
    },
    async [Symbol.asyncDispose]() {},
  };
}

async function failed(given: ContractSubject): Promise<string[]> {
  const lines: string[] = [];
  const { failed } = await runContract(given, (line) => void lines.push(line));
  const names = lines.flatMap((line) => /: failed: ([^:]*)/.exec(line)?.[1] ?? []);
  expect(names.length).toBe(failed);
  return names;
}

test('a sound provider passes', async () => {
  const result = await runContract(subject());
  expect(result).toMatchObject({ failed: 0, passed: 16 });
  expect(result.skipped.length).toBe(inapplicable.length);
});

test('a skip that is not declared fails', async () => {
  expect(await failed(subject(() => ({}), inapplicable.slice(1)))).toEqual([inapplicable[0]]);
});

test('a declared skip of what passes fails, and so does one of what does not exist', async () => {
  const obsolete = 'revoking twice succeeds';
  const given = subject(() => ({}), [...inapplicable, obsolete, 'renamed long ago']);
  expect(await failed(given)).toEqual([obsolete, 'no case is called "renamed long ago"']);
});

test('a known defect can be declared, and is reported as skipped', async () => {
  const defect = 'revoking twice succeeds';
  const given = subject(
    ({ revoke }, { keys }) => ({
      async revoke(ref, signal) {
        if (!keys.has(ref) && ref.startsWith('key-')) throw new Error('gone');
        await revoke(ref, signal);
      },
    }),
    [
      ...inapplicable,
      defect,
      'revoking what never existed succeeds and harms nothing',
      'a late revoke of an older credential spares its successors',
    ],
  );
  expect(await failed(given)).toEqual([]);
});

type Broken = (session: ProviderSession, issuer: Issuer) => Partial<ProviderSession>;

/** name of the case that must notice → how the provider is broken. */
const mutants: Record<string, Broken> = {
  'with the right admin credential nothing is red': () => ({
    check: async () => [{ name: 'x', level: 'red', message: 'm' }],
  }),
  'a new credential verifies': () => ({
    verify: async () => ({ ok: false, kind: 'rejected', reason: 'always' }),
  }),
  'a mint leaves the old credential valid': ({ mint }, { keys }) => ({
    async mint(request, signal) {
      keys.clear();
      return mint(request, signal);
    },
  }),
  'two mints give two values and two ids': () => ({
    mint: async () => ({ ref: 'same', fields: { value: new Secret('the-same-value') } }),
  }),
  'a wrong value is a verdict, not an exception': ({ verify }) => ({
    async verify(credential, signal) {
      const verdict = await verify(credential, signal);
      if (!verdict.ok) throw new Error('401');
      return verdict;
    },
  }),
  'at the limit a mint is refused and changes nothing': ({ mint }, { keys }) => ({
    async mint(request, signal) {
      // The classic: make room by deleting the oldest.
      if (keys.size >= 3) keys.delete([...keys.keys()][0] ?? '');
      return mint(request, signal);
    },
  }),
  'a list shows what was minted, and not what was revoked': () => ({
    async *list() {},
  }),
  'revoking what never existed succeeds and harms nothing': (_session, { keys }) => ({
    async revoke(ref) {
      // By prefix: `key-10` would end `key-1` too.
      for (const known of keys.keys()) if (ref.startsWith(known)) keys.delete(known);
    },
  }),
  'a revoked credential is refused, its neighbour is not': () => ({
    revoke: async () => undefined,
  }),
  'a late revoke of an older credential spares its successors': (_session, { keys }) => ({
    async revoke() {
      keys.delete([...keys.keys()][0] ?? '');
    },
  }),
  'a mint whose answer is lost is recovered to exactly one credential': ({ mint }) => ({
    async mint(request, signal) {
      return mint({ ...request, name: 'unnamed' }, signal);
    },
  }),
  'nothing that is printed holds a secret value': () => ({
    async verify({ fields }) {
      throw new RotatedError('unexpected', `cannot parse ${fields['value']?.reveal()}`);
    },
  }),
};

for (const [name, broken] of Object.entries(mutants)) {
  test(`the contract notices a break of: ${name}`, async () => {
    expect(await failed(subject(broken))).toContain(name);
  });
}
