/** The backends' contract for staging, promoting, and several secrets in one item. */
import { describe, expect, test } from 'vitest';
import type { Backend, VersionId } from './backend.ts';
import {
  type BackendSubject,
  fields,
  note,
  onFreshItem,
  promote,
  put,
  refuses,
  required,
  signal,
  stage,
  values,
  type Work,
} from './contract-support.ts';

export function writesContract(subject: BackendSubject): void {
  const onFresh = (work: Work) => onFreshItem(subject, work);

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
        expect((await backend.describe(item, signal)).pending?.version).toBe(second);
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
      'a field that a secret no longer has goes away, a field of its neighbour stays',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { A: 'a1', GONE: 'g' }, null, 'alpha');
        const second = await put(backend, item, 't2', { B: 'b1' }, first, 'beta');
        await put(backend, item, 't3', { A: 'a2' }, second, 'alpha', 2);
        expect(await values(backend, item)).toEqual({ A: 'a2', B: 'b1' });
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
}
