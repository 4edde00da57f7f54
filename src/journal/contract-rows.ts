/** The journal's contract for what a commit may write, and for locks. */
import { describe, expect, test } from 'vitest';
import {
  auditEvent,
  debtRow,
  type JournalSubject,
  onFreshStore,
  refuses,
  rotationRow,
  sealedRecord,
  secretRow,
  type Work,
} from './contract-support.ts';
import type { Commit } from './journal.ts';

export function rowsContract(subject: JournalSubject): void {
  const here = (work: Work) => onFreshStore(subject, work);

  describe(`${subject.name}: rows`, () => {
    test('a second active rotation of a secret is refused by the store', () =>
      here(async (journal, fence) => {
        const first = rotationRow('r1', { secrets: ['db'] });
        await journal.commit({ fence, rotations: [{ expectVersion: 0, row: first }] });
        const second = rotationRow('r2', { secrets: ['db'] });
        const begin: Commit = { fence, rotations: [{ expectVersion: 0, row: second }] };
        await refuses(journal.commit(begin), 'already-active');
        expect(await journal.rotation('r2')).toBeNull();
        const ended = { ...first, active: false, phase: 'retired', endedAt: 2 };
        await journal.commit({ fence, rotations: [{ expectVersion: 1, row: ended }] });
        await journal.commit(begin);
        expect((await journal.activeRotationOf('db'))?.id).toBe('r2');
      }));

    test('a group that shares one secret with an active rotation is refused as a whole', () =>
      here(async (journal, fence) => {
        await journal.commit({
          fence,
          rotations: [{ expectVersion: 0, row: rotationRow('r1', { secrets: ['b'] }) }],
        });
        const group = rotationRow('r2', { secrets: ['a', 'b', 'c'] });
        await refuses(
          journal.commit({ fence, rotations: [{ expectVersion: 0, row: group }] }),
          'already-active',
        );
        expect(await journal.activeRotationOf('a')).toBeNull();
        expect(await journal.activeRotationOf('c')).toBeNull();
      }));

    test('an ended rotation cannot become active again beside its successor', () =>
      here(async (journal, fence) => {
        const old = rotationRow('r1', { secrets: ['db'], active: false });
        await journal.commit({ fence, rotations: [{ expectVersion: 0, row: old }] });
        await journal.commit({
          fence,
          rotations: [{ expectVersion: 0, row: rotationRow('r2', { secrets: ['db'] }) }],
        });
        await refuses(
          journal.commit({
            fence,
            rotations: [{ expectVersion: 1, row: { ...old, active: true } }],
          }),
          'already-active',
        );
      }));

    test('one commit ends a rotation and begins its successor', () =>
      here(async (journal, fence) => {
        const first = rotationRow('r1', { secrets: ['db'] });
        await journal.commit({ fence, rotations: [{ expectVersion: 0, row: first }] });
        await journal.commit({
          fence,
          rotations: [
            { expectVersion: 1, row: { ...first, active: false, endedAt: 5 } },
            { expectVersion: 0, row: rotationRow('r2', { secrets: ['db'] }) },
          ],
        });
        expect((await journal.activeRotationOf('db'))?.id).toBe('r2');
      }));

    test('a row keeps what it was given, counts its versions and names its last fence', () =>
      here(async (journal, fence) => {
        const row = rotationRow('r1', {
          secrets: ['b', 'a'],
          wakeAtUptimeMs: 12.5,
          data: { list: [1, null, { deep: 'ü "quoted" \u0000' }], flag: true },
        });
        await journal.commit({ fence, rotations: [{ expectVersion: 0, row }] });
        expect(await journal.rotation('r1')).toEqual({ ...row, version: 1, fence });
        const parked = { ...row, parked: true, wakeAtUptimeMs: Number.POSITIVE_INFINITY };
        await journal.commit({ fence, rotations: [{ expectVersion: 1, row: parked }] });
        expect(await journal.rotation('r1')).toEqual({ ...parked, version: 2, fence });
      }));

    test.each<[string, Commit]>([
      ['rotation', { fence: 1, rotations: [{ expectVersion: 1, row: rotationRow('r1') }] }],
      [
        'rotation inserted twice',
        { fence: 1, rotations: [{ expectVersion: 0, row: rotationRow('r1') }] },
      ],
      ['absent rotation', { fence: 1, rotations: [{ expectVersion: 1, row: rotationRow('r9') }] }],
      ['secret', { fence: 1, secrets: [{ expectVersion: 1, row: secretRow('db') }] }],
      [
        'secret inserted twice',
        { fence: 1, secrets: [{ expectVersion: 0, row: secretRow('db') }] },
      ],
      ['debt', { fence: 1, debts: [{ expectVersion: 1, row: debtRow('d1') }] }],
      ['debt to close', { fence: 1, closeDebts: [{ id: 'd1', expectVersion: 1 }] }],
      ['absent debt to close', { fence: 1, closeDebts: [{ id: 'd9', expectVersion: 1 }] }],
    ])('a stale version is a conflict: %s', (_, stale) =>
      here(async (journal, fence) => {
        for (const expectVersion of [0, 1]) {
          await journal.commit({
            fence,
            rotations: [{ expectVersion, row: rotationRow('r1') }],
            secrets: [{ expectVersion, row: secretRow('db') }],
            debts: [{ expectVersion, row: debtRow('d1') }],
          });
        }
        await refuses(journal.commit({ ...stale, fence }), 'conflict');
        expect((await journal.rotation('r1'))?.version).toBe(2);
        expect((await journal.secret('db'))?.version).toBe(2);
        expect((await journal.debts())[0]?.version).toBe(2);
      }),
    );

    test('a commit that fails in its last part leaves nothing of its first', () =>
      here(async (journal, fence) => {
        await refuses(
          journal.commit({
            fence,
            rotations: [{ expectVersion: 0, row: rotationRow('r1') }],
            secrets: [{ expectVersion: 0, row: secretRow('db') }],
            debts: [{ expectVersion: 0, row: debtRow('d1') }],
            takeLocks: [{ item: 'i', rotation: 'r1' }],
            seals: [{ id: 's1', secret: 'db', rotation: 'r1', sealed: sealedRecord('x') }],
            instances: [{ consumer: 'c', secret: 'db', instance: 'a', data: {} }],
            audit: [auditEvent('x')],
            closeDebts: [{ id: 'no such debt', expectVersion: 1 }],
          }),
          'conflict',
        );
        expect(await journal.rotation('r1')).toBeNull();
        expect(await journal.secrets()).toEqual([]);
        expect(await journal.debts()).toEqual([]);
        expect(await journal.lockOf('i')).toBeNull();
        expect(await journal.sealed('s1')).toBeNull();
        expect(await journal.instances('db')).toEqual([]);
        expect(await journal.auditHead()).toBeNull();
      }));

    test('of many commits in one turn the failing ones fail alone', () =>
      here(async (journal, fence) => {
        await journal.commit({ fence, secrets: [{ expectVersion: 0, row: secretRow('taken') }] });
        const names = Array.from({ length: 60 }, (_, index) =>
          index % 3 === 1 ? 'taken' : `n${index}`,
        );
        const answers = await Promise.allSettled(
          names.map((name, index) =>
            journal.commit({
              fence,
              audit: [auditEvent('written', { index })],
              rotations: [{ expectVersion: 0, row: rotationRow(`r${index}`) }],
              secrets: [{ expectVersion: 0, row: secretRow(name) }],
            }),
          ),
        );
        expect(answers.map((answer) => answer.status === 'fulfilled')).toEqual(
          names.map((name) => name !== 'taken'),
        );
        expect((await journal.secrets()).length).toBe(41);
        expect((await journal.unfinished()).length).toBe(40);
        const lines = await journal.auditLines(1, 100);
        expect(lines.map(({ seq }) => seq)).toEqual(
          Array.from({ length: 40 }, (_, index) => index + 1),
        );
        const written = lines.map(
          ({ line }) => (JSON.parse(line) as { detail: { index: number } }).detail.index,
        );
        expect(written.every((index) => index % 3 !== 1)).toBe(true);
        expect((await journal.auditHead())?.seq).toBe(40);
      }));

    test('sealed records come back as they were, are replaced by id and removed', () =>
      here(async (journal, fence) => {
        const seal = (data: string) => ({
          id: 's',
          secret: 'db',
          rotation: 'r1',
          sealed: sealedRecord(data),
        });
        await journal.commit({ fence, seals: [seal('first')] });
        expect(await journal.sealed('s')).toEqual(sealedRecord('first'));
        await journal.commit({ fence, seals: [seal('second')] });
        expect(await journal.sealed('s')).toEqual(sealedRecord('second'));
        await journal.commit({ fence, removeSeals: ['s', 'never there'] });
        expect(await journal.sealed('s')).toBeNull();
      }));

    test('instances are kept per consumer, replaced and removed', () =>
      here(async (journal, fence) => {
        const row = (instance: string, generation: number) => ({
          consumer: 'c',
          secret: 'db',
          instance,
          data: { generation },
        });
        await journal.commit({ fence, instances: [row('a', 1), row('b', 1)] });
        await journal.commit({
          fence,
          instances: [row('a', 2)],
          removeInstances: [{ consumer: 'c', secret: 'db', instance: 'b' }],
        });
        expect(await journal.instances('db')).toEqual([row('a', 2)]);
      }));

    test('cached values need no lease and are replaced by key', () =>
      here(async (journal) => {
        await journal.cache([
          { key: 'f', digest: '1', value: 'old' },
          { key: 'f', digest: '2', value: 'new' },
        ]);
        expect(await journal.cached('f')).toEqual({ digest: '2', value: 'new' });
        expect(await journal.cached('g')).toBeNull();
      }));
  });

  describe(`${subject.name}: locks`, () => {
    test('two rotations never hold one item, and a refused set takes none of its locks', () =>
      here(async (journal, fence) => {
        await journal.commit({ fence, takeLocks: [{ item: 'm', rotation: 'r1' }] });
        const set = ['z', 'm', 'a'].map((item) => ({ item, rotation: 'r2' }));
        await refuses(journal.commit({ fence, takeLocks: set }), 'item-locked');
        expect(await Promise.all(['a', 'm', 'z'].map((item) => journal.lockOf(item)))).toEqual([
          null,
          'r1',
          null,
        ]);
      }));

    test('locks are released before others are taken, and taking one twice changes nothing', () =>
      here(async (journal, fence) => {
        await journal.commit({ fence, takeLocks: [{ item: 'm', rotation: 'r1' }] });
        await journal.commit({ fence, takeLocks: [{ item: 'm', rotation: 'r1' }] });
        await journal.commit({
          fence,
          releaseLocksOf: ['r1'],
          takeLocks: [{ item: 'm', rotation: 'r2' }],
        });
        expect(await journal.lockOf('m')).toBe('r2');
      }));
  });
}
