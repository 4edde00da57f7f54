/** Sealing: what opens, what never does, and what a key source that is down may and may not stop. */
import { createSecretKey } from 'node:crypto';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { systemRandom } from '../clock.ts';
import { createFingerprinter, digestFields } from './fingerprint.ts';
import { createKeyCache } from './key-cache.ts';
import { localKey } from './key-encryption-key.ts';
import { createSealer } from './sealer.ts';
import type { KeyEncryptionKey, SealContext, Sealed } from './sealing.ts';
import { type Fields, Secret } from './secret.ts';

const random = systemRandom();
const fresh = () => localKey(random.bytes(32), random);
const sealerOf = (current: KeyEncryptionKey, ...older: KeyEncryptionKey[]) =>
  createSealer({ current, all: [...older, current] }, random);
const context: SealContext = { secret: 'reports-db', rotation: 'r1', purpose: 'minted' };
const canary = 'canary-91c4e07d55';
const fields = (values: Readonly<Record<string, string>>): Fields =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, new Secret(value)]));
const plain = (opened: Fields) =>
  Object.fromEntries(Object.entries(opened).map(([name, value]) => [name, value.reveal()]));

/** A key source that can be switched off, and counts its calls. */
function outage(key: KeyEncryptionKey) {
  const state = { down: false, wraps: 0, unwraps: 0 };
  const call = <T>(work: () => Promise<T>): Promise<T> =>
    state.down ? Promise.reject(new Error('the KMS is down')) : work();
  const source: KeyEncryptionKey = {
    ...key,
    wrap: (dataKey) => call(() => (state.wraps++, key.wrap(dataKey))),
    unwrap: (wrapped) => call(() => (state.unwraps++, key.unwrap(wrapped))),
  };
  return { source, state };
}

describe('sealing', () => {
  test('any fields come back as they were', async () => {
    const sealer = sealerOf(fresh());
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })),
        async (values) => {
          const sealed = await sealer.seal(fields(values), context);
          expect(plain(await sealer.open(sealed, context))).toEqual({ ...values });
        },
      ),
      { numRuns: 100 },
    );
  });

  test('a sealed record shows no value, in no form', async () => {
    const sealed = await sealerOf(fresh()).seal(
      fields({ PASSWORD: canary, USER: 'reports' }),
      context,
    );
    const text = `${JSON.stringify(sealed)} ${inspect(sealed)} ${Buffer.from(sealed.data, 'base64').toString('latin1')}`;
    for (const part of [canary, 'PASSWORD', 'reports']) expect(text).not.toContain(part);
  });

  test("the same value sealed twice shares nothing but the key's id", async () => {
    const sealer = sealerOf(fresh());
    const key = await sealer.newKey();
    const [a, b] = [
      await sealer.seal(fields({ A: canary }), context, key),
      await sealer.seal(fields({ A: canary }), context, key),
    ];
    expect(a.iv).not.toBe(b.iv);
    expect(a.data).not.toBe(b.data);
    const other = await sealer.seal(fields({ A: canary }), context);
    expect(other.key.wrapped).not.toBe(key.wrapped);
  });

  test.each<Partial<SealContext>>([{ secret: 'other' }, { rotation: 'r2' }, { purpose: 'escrow' }])(
    'a record moved to another place does not open: %o',
    async (moved) => {
      const sealer = sealerOf(fresh());
      const sealed = await sealer.seal(fields({ A: canary }), context);
      await expect(sealer.open(sealed, { ...context, ...moved })).rejects.toMatchObject({
        code: 'seal-broken',
        effect: 'none',
      });
    },
  );

  test('parts of the context cannot be shifted into each other', async () => {
    const sealer = sealerOf(fresh());
    const sealed = await sealer.seal(fields({ A: canary }), {
      secret: 'a',
      rotation: 'b|c',
      purpose: 'd',
    });
    const shifted = { secret: 'a|b', rotation: 'c', purpose: 'd' };
    await expect(sealer.open(sealed, shifted)).rejects.toMatchObject({ code: 'seal-broken' });
  });

  test('a record changed in any of its parts does not open, and the error holds nothing of it', async () => {
    const key = fresh();
    const sealed = await sealerOf(key).seal(fields({ A: canary }), context);
    const flipped = (text: string): string => {
      const bytes = Buffer.from(text, 'base64');
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      return bytes.toString('base64');
    };
    const changed: Sealed[] = [
      { ...sealed, iv: flipped(sealed.iv) },
      { ...sealed, tag: flipped(sealed.tag) },
      { ...sealed, tag: sealed.tag.slice(0, 8) },
      { ...sealed, data: flipped(sealed.data) },
      { ...sealed, data: '' },
      { ...sealed, key: { ...sealed.key, wrapped: flipped(sealed.key.wrapped) } },
      { ...sealed, key: { ...sealed.key, wrapped: '' } },
    ];
    for (const record of changed) {
      const error: unknown = await sealerOf(key)
        .open(record, context)
        .then(
          () => expect.unreachable('it should not open'),
          (reason: unknown) => reason,
        );
      expect(error).toMatchObject({ code: 'seal-broken', secret: 'reports-db' });
      expect(inspect(error, { depth: 9 })).not.toContain(sealed.data.slice(0, 12));
    }
  });
});

describe('keys', () => {
  test('an older key still opens what it sealed, and the newest seals', async () => {
    const [old, young] = [fresh(), fresh()];
    const sealed = await sealerOf(old).seal(fields({ A: canary }), context);
    const both = sealerOf(young, old);
    expect(plain(await both.open(sealed, context))).toEqual({ A: canary });
    expect((await both.seal(fields({ A: 'x' }), context)).key.kek).toBe(young.id);
  });

  test('a key that is not at hand is named', async () => {
    const [gone, here] = [fresh(), fresh()];
    const sealed = await sealerOf(gone).seal(fields({ A: canary }), context);
    await expect(sealerOf(here).open(sealed, context)).rejects.toMatchObject({
      code: 'key-unknown',
      message: expect.stringContaining(gone.id),
      next: expect.stringContaining(gone.id),
    });
  });

  test('a key has the same id on every start, and no other key has it', () => {
    const material = random.bytes(32);
    expect(localKey(material, random).id).toBe(localKey(Buffer.from(material), random).id);
    expect(fresh().id).not.toBe(fresh().id);
    expect(fresh().id).toMatch(/^[0-9a-f]{16}$/);
    expect(() => localKey(random.bytes(31), random)).toThrow(/32 bytes/);
  });

  test('keys derived for two purposes differ, from each other and from the key itself', async () => {
    const material = random.bytes(32);
    const key = localKey(material, random);
    const [a, b, again] = [
      await key.derive('audit'),
      await key.derive('fingerprint'),
      await key.derive('audit'),
    ];
    expect(Buffer.from(a).equals(Buffer.from(again))).toBe(true);
    expect(Buffer.from(a).equals(Buffer.from(b))).toBe(false);
    expect(Buffer.from(a).equals(material)).toBe(false);
  });

  test('a key source that fails after the intent strands no mint: the key made before still seals and opens', async () => {
    const { source, state } = outage(fresh());
    const sealer = sealerOf(source);
    const key = await sealer.newKey();
    state.down = true;
    const sealed = await sealer.seal(fields({ A: canary }), context, key);
    expect(plain(await sealer.open(sealed, context))).toEqual({ A: canary });
    await expect(sealer.newKey()).rejects.toThrow('the KMS is down');
  });

  test('another process needs the key source once per record, not once per read', async () => {
    const key = fresh();
    const sealed = await sealerOf(key).seal(fields({ A: canary }), context);
    const { source, state } = outage(key);
    const reader = sealerOf(source);
    for (let read = 0; read < 5; read++) await reader.open(sealed, context);
    expect(state.unwraps).toBe(1);
  });

  test('reading many records does not push out the key of a mint under way', async () => {
    const key = fresh();
    const writer = sealerOf(key);
    const records = await Promise.all(
      Array.from({ length: 1_500 }, () => writer.seal(fields({ A: 'x' }), context)),
    );
    const { source, state } = outage(key);
    const sealer = sealerOf(source);
    const own = await sealer.newKey();
    for (const record of records) await sealer.open(record, context);
    state.down = true;
    await sealer.seal(fields({ A: canary }), context, own);
    // The oldest of the read ones was dropped: memory is bounded.
    await expect(sealer.open(records[0] as Sealed, context)).rejects.toThrow('the KMS is down');
  });

  test('a dropped key is gone, and a key handed out is a copy of its own', () => {
    const cache = createKeyCache(2);
    cache.set('a', Buffer.alloc(4, 1));
    const held = cache.get('a');
    cache.set('b', Buffer.alloc(4, 2));
    cache.get('a');
    cache.set('c', Buffer.alloc(4, 3));
    expect([cache.get('a')?.[0], cache.get('b')?.[0], cache.get('c')?.[0]]).toEqual([
      1,
      undefined,
      3,
    ]);
    cache.set('d', Buffer.alloc(4, 4));
    cache.set('e', Buffer.alloc(4, 5));
    expect(cache.get('a')).toBeUndefined();
    expect(held?.[0]).toBe(1);
    expect(cache.size).toBe(2);
  });
});

describe('fingerprints', () => {
  test('the same value gives the same 12 digits, another value or deployment gives others', () => {
    const [here, there] = [random.bytes(32), random.bytes(32)];
    const of = (key: Uint8Array, values: Record<string, string>) =>
      createFingerprinter(key).of(fields(values));
    expect(of(here, { a: '1', b: '2' })).toMatch(/^[0-9a-f]{12}$/);
    expect(of(here, { a: '1', b: '2' })).toBe(of(here, { b: '2', a: '1' }));
    expect(of(here, { a: '1', b: '2' })).not.toBe(of(here, { a: '1', b: '3' }));
    expect(of(here, { a: '1' })).not.toBe(of(here, { b: '1' }));
    expect(of(here, { a: '1' })).not.toBe(of(there, { a: '1' }));
    expect(digestFields(createSecretKey(here), fields({ a: '1' }), 'x')).not.toBe(
      digestFields(createSecretKey(here), fields({ a: '1' }), 'y'),
    );
  });
});
