/** What every backend must do, as vitest cases: `local` now, outside ones later against their real servers. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { ErrorCode } from '../errors.ts';
import { type Fields, Secret } from '../secret/secret.ts';
import type { Backend, OwnerNote, VersionId } from './backend.ts';

export interface BackendSubject {
  readonly name: string;
  /** The backend under test, and an item path that nothing was ever written to. */
  create(): Promise<BackendUnderTest>;
}

export interface BackendUnderTest extends AsyncDisposable {
  readonly backend: Backend;
  readonly item: string;
  /** A second client of the same store, as another process has. */
  other(): Promise<Backend>;
  /** Whether the value can be found, in plain text, in anything the store keeps where it should not be; false without such a place. */
  leaks?(value: string): Promise<boolean>;
}

const signal = new AbortController().signal;

export function backendContract(subject: BackendSubject): void {
  const onFresh =
    (work: (backend: Backend, item: string, under: BackendUnderTest) => Promise<void>) =>
    async () => {
      await using under = await subject.create();
      await work(under.backend, under.item, under);
    };

  describe(`${subject.name}: stage and promote`, () => {
    test(
      'an absent item is described as empty, and its first version is bootstrapped',
      onFresh(async (backend, item) => {
        expect(await backend.describe(item, signal)).toEqual({
          pending: null,
          current: null,
          previous: null,
        });
        const version = await backend.stage(
          item,
          fields({ PASSWORD: 'one' }),
          [note('db', 1)],
          { txn: 't1', expectCurrent: null },
          signal,
        );
        expect((await backend.describe(item, signal)).current).toBeNull();
        await backend.promote(item, { txn: 't1', expectCurrent: null, pending: version }, signal);
        expect(await values(backend, item)).toEqual({ PASSWORD: 'one' });
        const { current, pending, previous } = await backend.describe(item, signal);
        expect(current).toMatchObject({ version, txn: 't1', owners: { db: note('db', 1) } });
        expect([pending, previous]).toEqual([null, null]);
      }),
    );

    test(
      'pending is read back beside current, which consumers keep seeing until the promote',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await stage(backend, item, 't2', { PASSWORD: 'two' }, first);
        expect(await values(backend, item, 'current')).toEqual({ PASSWORD: 'one' });
        expect(await values(backend, item, 'pending')).toEqual({ PASSWORD: 'two' });
        expect(await values(backend, item, { version: second })).toEqual({ PASSWORD: 'two' });
        await promote(backend, item, 't2', second, first);
        expect(await values(backend, item, 'current')).toEqual({ PASSWORD: 'two' });
        expect(await values(backend, item, 'previous')).toEqual({ PASSWORD: 'one' });
        await refuses(backend.read(item, 'pending', signal), 'not-found');
      }),
    );

    test(
      'repeating a stage whose answer was lost writes once, before and after the promote',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await stage(backend, item, 't2', { PASSWORD: 'two' }, first);
        expect(await stage(backend, item, 't2', { PASSWORD: 'two' }, first)).toBe(second);
        await promote(backend, item, 't2', second, first);
        expect(await stage(backend, item, 't2', { PASSWORD: 'two' }, first)).toBe(second);
        await promote(backend, item, 't2', second, first);
        expect((await backend.describe(item, signal)).previous?.version).toBe(first);
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'two clients that stage the same transaction at once write it once',
      onFresh(async (backend, item, under) => {
        const other = await under.other();
        const both = await Promise.all(
          [backend, other].map((one) => stage(one, item, 't1', { PASSWORD: 'one' }, null)),
        );
        expect(both[0]).toBe(both[1]);
      }),
    );

    test(
      'the same transaction with another value is a conflict',
      onFresh(async (backend, item) => {
        const first = await stage(backend, item, 't1', { PASSWORD: 'one' }, null);
        await refuses(stage(backend, item, 't1', { PASSWORD: 'other' }, null), 'conflict');
        expect(await values(backend, item, 'pending')).toEqual({ PASSWORD: 'one' });
        await promote(backend, item, 't1', first, null);
        await refuses(stage(backend, item, 't1', { PASSWORD: 'other' }, null), 'conflict');
      }),
    );

    test(
      'a pending version of another transaction is never overwritten',
      onFresh(async (backend, item) => {
        await stage(backend, item, 'theirs', { PASSWORD: 'theirs' }, null);
        await refuses(stage(backend, item, 'ours', { PASSWORD: 'ours' }, null), 'pending-foreign');
        await backend.discard(item, 'ours', signal);
        expect(await values(backend, item, 'pending')).toEqual({ PASSWORD: 'theirs' });
      }),
    );

    test(
      'a stage or promote that expects an older current is a conflict and changes nothing',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        await refuses(stage(backend, item, 't2', { PASSWORD: 'two' }, null), 'conflict');
        await refuses(stage(backend, item, 't2', { PASSWORD: 'two' }, '999999'), 'conflict');
        const second = await stage(backend, item, 't2', { PASSWORD: 'two' }, first);
        await refuses(promote(backend, item, 't2', second, null), 'conflict');
        await refuses(promote(backend, item, 'another', second, first), 'conflict');
        expect(await values(backend, item)).toEqual({ PASSWORD: 'one' });
        await promote(backend, item, 't2', second, first);
      }),
    );

    test(
      'a promote that lost to a neighbour is a conflict, and restaging keeps the neighbour',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { A: 'a1' }, null, 'alpha');
        const second = await stage(backend, item, 't2', { A: 'a2' }, first, 'alpha');
        const between = await backend.rollback(
          item,
          fields({ B: 'b1' }),
          [note('beta', 1, ['B'])],
          { txn: 'b', expectCurrent: first },
          signal,
        );
        await refuses(promote(backend, item, 't2', second, first), 'conflict');
        expect(await values(backend, item)).toEqual({ A: 'a1', B: 'b1' });
        await backend.discard(item, 't2', signal);
        const third = await stage(backend, item, 't3', { A: 'a2' }, between, 'alpha');
        await promote(backend, item, 't3', third, between);
        expect(await values(backend, item)).toEqual({ A: 'a2', B: 'b1' });
      }),
    );

    test(
      'a version that was promoted and then replaced is not promoted again',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await put(backend, item, 't2', { PASSWORD: 'two' }, first);
        await refuses(promote(backend, item, 't1', first, null), 'conflict');
        await refuses(promote(backend, item, 't1', first, second), 'conflict');
        expect(await values(backend, item)).toEqual({ PASSWORD: 'two' });
      }),
    );
  });

  describe(`${subject.name}: several secrets in one item`, () => {
    test(
      "each write keeps the neighbour's fields and the notes of both",
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { A: 'a1' }, null, 'alpha');
        const second = await put(backend, item, 't2', { B: 'b1' }, first, 'beta');
        const third = await put(backend, item, 't3', { A: 'a2' }, second, 'alpha', 2);
        expect(await values(backend, item)).toEqual({ A: 'a2', B: 'b1' });
        const { owners } = required((await backend.describe(item, signal)).current);
        expect(owners['alpha']).toEqual(note('alpha', 2, ['A']));
        expect(owners['beta']).toEqual(note('beta', 1, ['B']));
        expect(third).not.toBe(second);
      }),
    );

    test(
      'a group stages the fields of its secrets in one write',
      onFresh(async (backend, item) => {
        const notes = [note('alpha', 1, ['A']), note('beta', 1, ['B'])];
        const version = await backend.stage(
          item,
          fields({ A: 'a1', B: 'b1' }),
          notes,
          { txn: 't', expectCurrent: null },
          signal,
        );
        await promote(backend, item, 't', version, null);
        const { owners } = required((await backend.describe(item, signal)).current);
        expect(owners).toEqual({ alpha: notes[0], beta: notes[1] });
      }),
    );

    test(
      "a roll back writes own fields alone: the neighbour's newer value stays",
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { A: 'a1' }, null, 'alpha');
        const second = await put(backend, item, 't2', { B: 'b1' }, first, 'beta');
        const third = await put(backend, item, 't3', { A: 'a2' }, second, 'alpha', 2);
        const fourth = await put(backend, item, 't4', { B: 'b2' }, third, 'beta', 2);
        const write = { txn: 'back', expectCurrent: fourth };
        const back = () =>
          backend.rollback(item, fields({ A: 'a1' }), [note('alpha', 3, ['A'])], write, signal);
        const fifth = await back();
        expect(await values(backend, item)).toEqual({ A: 'a1', B: 'b2' });
        expect(await back()).toBe(fifth);
        await refuses(
          backend.rollback(item, fields({ A: 'other' }), [note('alpha', 3, ['A'])], write, signal),
          'conflict',
        );
        await refuses(
          backend.rollback(
            item,
            fields({ A: 'a1' }),
            [note('alpha', 3, ['A'])],
            { txn: 'late', expectCurrent: fourth },
            signal,
          ),
          'conflict',
        );
        expect(await values(backend, item)).toEqual({ A: 'a1', B: 'b2' });
      }),
    );

    test(
      'of two clients that write different fields at once, neither value is lost',
      onFresh(async (backend, item, under) => {
        let current: VersionId = await put(backend, item, 'start', { A: 'a0', B: 'b0' }, null);
        const other = await under.other();
        const write = async (client: Backend, field: string, index: number) => {
          const txn = `${field}${index}`;
          const change = { txn, expectCurrent: current };
          const answer = await client
            .rollback(item, fields({ [field]: txn }), [note(field, index, [field])], change, signal)
            .catch((error: unknown) => {
              expect(error).toMatchObject({ code: 'conflict' });
              return null;
            });
          return answer === null ? null : { field, txn };
        };
        const expected: Record<string, string> = { A: 'a0', B: 'b0' };
        for (let index = 1; index <= 8; index++) {
          const done = await Promise.all([write(backend, 'A', index), write(other, 'B', index)]);
          for (const one of done) if (one !== null) expected[one.field] = one.txn;
          expect(done.some((one) => one !== null)).toBe(true);
          current = required((await backend.describe(item, signal)).current).version;
        }
        expect(await values(backend, item)).toEqual(expected);
      }),
    );
  });

  describe(`${subject.name}: removal`, () => {
    test(
      'a discard drops own pending, is done once, and the version number is not used again',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await stage(backend, item, 't2', { PASSWORD: 'two' }, first);
        await backend.discard(item, 't2', signal);
        await backend.discard(item, 't2', signal);
        await backend.discard(item, 't1', signal);
        expect(await values(backend, item)).toEqual({ PASSWORD: 'one' });
        await refuses(backend.read(item, { version: second }, signal), 'not-found');
        await refuses(promote(backend, item, 't2', second, first), 'conflict');
        expect(await stage(backend, item, 't3', { PASSWORD: 'three' }, first)).not.toBe(second);
      }),
    );

    test(
      'discarding the first version ever leaves an absent item',
      onFresh(async (backend, item) => {
        await stage(backend, item, 't1', { PASSWORD: 'one' }, null);
        await backend.discard(item, 't1', signal);
        expect(await backend.describe(item, signal)).toEqual({
          pending: null,
          current: null,
          previous: null,
        });
        await put(backend, item, 't2', { PASSWORD: 'two' }, null);
      }),
    );

    test(
      'the previous version is retired only if it is still the one meant',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await put(backend, item, 't2', { PASSWORD: 'two' }, first);
        await backend.retirePrevious(item, second, signal);
        expect((await backend.describe(item, signal)).previous?.version).toBe(first);
        await backend.retirePrevious(item, first, signal);
        await backend.retirePrevious(item, first, signal);
        expect((await backend.describe(item, signal)).previous).toBeNull();
        await refuses(backend.read(item, { version: first }, signal), 'not-found');
      }),
    );

    test(
      'after a purge nothing but current and pending can be read',
      onFresh(async (backend, item) => {
        const versions: VersionId[] = [];
        for (let index = 0; index < 4; index++) {
          versions.push(
            await put(
              backend,
              item,
              `t${index}`,
              { PASSWORD: `v${index}` },
              versions.at(-1) ?? null,
            ),
          );
        }
        await stage(backend, item, 'next', { PASSWORD: 'next' }, versions.at(-1) ?? null);
        await backend.purge(item, signal);
        await backend.purge(item, signal);
        for (const version of versions.slice(0, -1)) {
          await refuses(backend.read(item, { version }, signal), 'not-found');
        }
        expect(await values(backend, item, 'pending')).toEqual({ PASSWORD: 'next' });
        expect(await values(backend, item)).toEqual({ PASSWORD: 'v3' });
      }),
    );
  });

  describe(`${subject.name}: limits and answers`, () => {
    test(
      'what does not exist is not-found, and removing it succeeds',
      onFresh(async (backend, item) => {
        for (const at of [
          'current',
          'pending',
          'previous',
          { version: '1' },
          { version: 'nonsense' },
        ] as const) {
          await refuses(backend.read(item, at, signal), 'not-found');
        }
        await backend.discard(item, 't', signal);
        await backend.retirePrevious(item, '1', signal);
        await backend.purge(item, signal);
      }),
    );

    test(
      'an item beyond the size limit is refused whole',
      onFresh(async (backend, item) => {
        const most = backend.capabilities.bytesMax;
        const first = await put(backend, item, 't1', { A: 'x'.repeat(most - 100) }, null, 'alpha');
        await refuses(
          stage(backend, item, 't2', { B: 'y'.repeat(200) }, first, 'beta'),
          'too-large',
        );
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'values of every kind come back as they were',
      onFresh(async (backend, item) => {
        const kinds = {
          EMPTY: '',
          LINES: 'a\nb\r\n',
          WIDE: 'pässwörd 🔑 \u2028',
          QUOTES: `"'\\$\u0000`,
          __proto__x: 'p',
        };
        await put(backend, item, 't1', kinds, null);
        expect(await values(backend, item)).toEqual(kinds);
      }),
    );

    test(
      'preflight finds a usable item ready and changes nothing',
      onFresh(async (backend, item) => {
        for (const finding of await backend.preflight(item, signal))
          expect(finding.level).not.toBe('red');
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'an aborted call ends with a timeout and writes nothing',
      onFresh(async (backend, item) => {
        const aborted = AbortSignal.abort(new DOMException('deadline', 'TimeoutError'));
        const write = { txn: 't1', expectCurrent: null };
        await refuses(
          backend.stage(item, fields({ A: 'x' }), [note('db', 1)], write, aborted),
          'timeout',
        );
        await refuses(backend.describe(item, aborted), 'timeout');
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'no error, in any form, carries a value',
      onFresh(async (backend, item, under) => {
        const canary = 'canary-7f3a9c51e2';
        const first = await put(backend, item, 't1', { PASSWORD: canary }, null);
        const failing = [
          stage(backend, item, 't1', { PASSWORD: `${canary}-other` }, null),
          stage(backend, item, 't2', { PASSWORD: canary }, null),
          stage(backend, item, 't3', { PASSWORD: canary.repeat(20_000) }, first),
          backend.rollback(
            item,
            fields({ PASSWORD: canary }),
            [note('db', 2)],
            { txn: 't4', expectCurrent: 'x' },
            signal,
          ),
          promote(backend, item, 't1', '77', first),
          backend.read(item, 'previous', signal),
        ];
        for (const attempt of failing) {
          const error: unknown = await attempt.then(
            () => expect.unreachable('the call should fail'),
            (reason: unknown) => reason,
          );
          const shown = [inspect(error, { depth: 9 }), JSON.stringify(error), String(error)].join(
            '\n',
          );
          expect(shown).not.toContain(canary);
        }
        expect(await under.leaks?.(canary)).not.toBe(true);
      }),
    );
  });
}

export function fields(values: Readonly<Record<string, string>>): Fields {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, new Secret(value)]),
  );
}

export function note(
  secret: string,
  generation: number,
  names: readonly string[] = ['PASSWORD'],
): OwnerNote {
  return {
    secret,
    generation,
    ref: `ref-${generation}`,
    rotation: `rotation-${generation}`,
    fields: names,
  };
}

async function values(
  backend: Backend,
  item: string,
  at: Parameters<Backend['read']>[1] = 'current',
): Promise<Record<string, string>> {
  const { fields: read } = await backend.read(item, at, signal);
  return Object.fromEntries(Object.entries(read).map(([name, value]) => [name, value.reveal()]));
}

function stage(
  backend: Backend,
  item: string,
  txn: string,
  plain: Readonly<Record<string, string>>,
  expectCurrent: VersionId | null,
  secret = 'db',
  generation = 1,
): Promise<VersionId> {
  const notes = [note(secret, generation, Object.keys(plain))];
  return backend.stage(item, fields(plain), notes, { txn, expectCurrent }, signal);
}

function promote(
  backend: Backend,
  item: string,
  txn: string,
  pending: VersionId,
  expectCurrent: VersionId | null,
): Promise<VersionId> {
  return backend.promote(item, { txn, pending, expectCurrent }, signal);
}

async function put(
  backend: Backend,
  item: string,
  txn: string,
  plain: Readonly<Record<string, string>>,
  expectCurrent: VersionId | null,
  secret = 'db',
  generation = 1,
): Promise<VersionId> {
  const pending = await stage(backend, item, txn, plain, expectCurrent, secret, generation);
  return promote(backend, item, txn, pending, expectCurrent);
}

async function refuses(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code });
}

function required<T>(value: T | null): T {
  if (value === null) throw new Error('The item has no current version.');
  return value;
}
