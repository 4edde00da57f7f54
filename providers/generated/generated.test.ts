import { createPublicKey, sign, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Random } from '../../src/clock.ts';
import { systemRandom } from '../../src/clock.ts';
import { Secret } from '../../src/provider/provider.ts';
import { randomText } from '../../src/provider/random-text.ts';
import { makeFields, problemOf } from './material.ts';
import { type GeneratedOptions, optionsSchema } from './options.ts';

/** The same bytes each time, counting up. */
function counting(start = 0): Random {
  let next = start;
  return {
    bytes: (length) => Buffer.from(Array.from({ length }, () => next++ & 0xff)),
    fraction: () => 0.5,
  };
}

const parse = (options: unknown): GeneratedOptions => optionsSchema.parse(options);
const reveal = (fields: Record<string, Secret>): Record<string, string> =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.reveal()]));

const kinds: GeneratedOptions[] = [
  parse({ kind: 'random' }),
  parse({ kind: 'random', encoding: 'hex', length: 16, prefix: 'app_' }),
  parse({ kind: 'random', encoding: 'base64', length: 17 }),
  parse({ kind: 'random', encoding: 'alphabet', alphabet: '0123456789', length: 50 }),
  parse({ kind: 'hmac' }),
  parse({ kind: 'hmac', algorithm: 'HS512', encoding: 'hex' }),
  parse({ kind: 'ed25519' }),
  parse({ kind: 'jwt' }),
  parse({ kind: 'jwt', algorithm: 'ES256' }),
];

for (const options of kinds) {
  const name = JSON.stringify(options);
  test(`the material depends on the random bytes alone: ${name}`, () => {
    const [a, b, c] = [counting(), counting(), counting(1)].map((random) =>
      reveal(makeFields(options, random)),
    );
    expect(a).toEqual(b);
    expect(a).not.toEqual(c);
  });

  test(`what was made is sound, and no field of another fits: ${name}`, () => {
    const [one, other] = [makeFields(options, systemRandom()), makeFields(options, systemRandom())];
    expect(problemOf(options, one)).toBe(null);
    for (const field of Object.keys(one)) {
      const value = one[field]?.reveal() ?? '';
      const cut = { ...one, [field]: new Secret(value.slice(0, value.length / 2)) };
      // Half a key id beside a whole key of one field says nothing.
      if (field !== 'kid' || options.kind !== 'hmac')
        expect(problemOf(options, cut)).not.toBe(null);
      const mixed = { ...one, [field]: other[field] ?? new Secret('') };
      const isPair = options.kind === 'ed25519' || options.kind === 'jwt';
      if (isPair && Object.keys(one).length > 1) expect(problemOf(options, mixed)).not.toBe(null);
    }
  });
}

test('a backend that keeps only the private half is enough to verify by', () => {
  const options = parse({ kind: 'ed25519' });
  const { privateKey, privateJwk } = makeFields(options, systemRandom());
  expect(problemOf(options, { privateKey: privateKey ?? new Secret('') })).toBe(null);
  expect(problemOf(options, { privateJwk: privateJwk ?? new Secret('') })).toBe(null);
  expect(problemOf(options, {})).not.toBe(null);
});

test('a public key for a set of verifiers checks what the private one signs, and holds nothing of it', () => {
  for (const algorithm of ['EdDSA', 'ES256'] as const) {
    const fields = reveal(makeFields(parse({ kind: 'jwt', algorithm }), systemRandom()));
    const own = JSON.parse(fields['privateJwk'] ?? '') as { d: string; kid: string };
    const shared = JSON.parse(fields['publicJwk'] ?? '') as Record<string, string>;
    expect(shared).toMatchObject({ use: 'sig', alg: algorithm, kid: fields['kid'] });
    expect(fields['publicJwk']).not.toContain(own.d);
    const hash = algorithm === 'ES256' ? 'sha256' : null;
    const signature = sign(hash, Buffer.from('x'), { key: own as never, format: 'jwk' });
    const key = createPublicKey({ key: shared, format: 'jwk' });
    expect(verify(hash, Buffer.from('x'), key, signature)).toBe(true);
  }
});

test('the key id of an Ed25519 pair is its RFC 7638 thumbprint, as in RFC 8037 appendix A', () => {
  const seed = Buffer.from('nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A', 'base64url');
  const random: Random = { bytes: () => seed, fraction: () => 0 };
  const fields = reveal(makeFields(parse({ kind: 'jwt' }), random));
  expect(fields['kid']).toBe('kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k');
});

test('what could be guessed is refused, and so are options that contradict each other', () => {
  const wrong = [
    { kind: 'random', length: 15 },
    { kind: 'random', encoding: 'alphabet', alphabet: '0123456789', length: 38 },
    { kind: 'random', encoding: 'alphabet' },
    { kind: 'random', alphabet: 'ab', length: 200 },
    { kind: 'random', encoding: 'alphabet', alphabet: 'aab', length: 200 },
    { kind: 'jwt', algorithm: 'none' },
    { kind: 'rsa' },
  ];
  for (const options of wrong) {
    expect(optionsSchema.safeParse(options).success, JSON.stringify(options)).toBe(false);
  }
});

test('every character of an alphabet is equally likely', () => {
  const text = randomText(systemRandom(), 60_000, 'abc');
  for (const one of 'abc') {
    const count = text.split(one).length - 1;
    // 20,000 with a deviation of 115: eight of them.
    expect(Math.abs(count - 20_000)).toBeLessThan(920);
  }
});
