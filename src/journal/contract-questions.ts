/** The journal's contract for what can be asked of it. */
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
import type { AuditSinkRow, RotationRow } from './journal.ts';

export function questionsContract(subject: JournalSubject): void {
  const here = (work: Work) => onFreshStore(subject, work);

  describe(`${subject.name}: questions`, () => {
    test('due rotations: active, not parked, their time reached, the earliest first', () =>
      here(async (journal, fence) => {
        const row = (id: string, change: Partial<RotationRow>) => ({
          expectVersion: 0,
          row: rotationRow(id, change),
        });
        await journal.commit({
          fence,
          rotations: [
            row('later', { wakeAtUptimeMs: 300 }),
            row('second', { wakeAtUptimeMs: 100 }),
            row('first', { wakeAtUptimeMs: null }),
            row('parked', { wakeAtUptimeMs: 1, parked: true }),
            row('ended', { wakeAtUptimeMs: 1, active: false }),
            row('never', { wakeAtUptimeMs: Number.POSITIVE_INFINITY }),
          ],
        });
        const ids = async (uptimeMs: number, most: number) =>
          (await journal.dueRotations(uptimeMs, most)).map(({ id }) => id);
        expect(await ids(100, 10)).toEqual(['first', 'second']);
        expect(await ids(99.5, 10)).toEqual(['first']);
        expect(await ids(1_000, 2)).toEqual(['first', 'second']);
        expect((await journal.unfinished()).map(({ id }) => id)).toEqual([
          'later',
          'second',
          'first',
          'parked',
          'never',
        ]);
      }));

    test('the next wake is the earliest of rotations and debts that wait for time', () =>
      here(async (journal, fence) => {
        expect(await journal.nextWakeUptimeMs()).toBeNull();
        const never = rotationRow('r1', { wakeAtUptimeMs: Number.POSITIVE_INFINITY });
        await journal.commit({ fence, rotations: [{ expectVersion: 0, row: never }] });
        expect(await journal.nextWakeUptimeMs()).toBeNull();
        await journal.commit({
          fence,
          rotations: [{ expectVersion: 0, row: rotationRow('r2', { wakeAtUptimeMs: 500 }) }],
          debts: [
            { expectVersion: 0, row: debtRow('d1', { wakeAtUptimeMs: 400 }) },
            { expectVersion: 0, row: debtRow('d2', { wakeAtUptimeMs: 1, parked: true }) },
          ],
        });
        expect(await journal.nextWakeUptimeMs()).toBe(400);
        await journal.commit({ fence, closeDebts: [{ id: 'd1', expectVersion: 1 }] });
        expect(await journal.nextWakeUptimeMs()).toBe(500);
        const now = rotationRow('r2', { wakeAtUptimeMs: null });
        await journal.commit({ fence, rotations: [{ expectVersion: 1, row: now }] });
        expect(await journal.nextWakeUptimeMs()).toBe(0);
      }));

    test('due debts and debts by secret', () =>
      here(async (journal, fence) => {
        await journal.commit({
          fence,
          debts: [
            { expectVersion: 0, row: debtRow('d1', { wakeAtUptimeMs: 50 }) },
            { expectVersion: 0, row: debtRow('d2', { secret: 'other' }) },
            { expectVersion: 0, row: debtRow('d3', { parked: true }) },
          ],
        });
        expect((await journal.dueDebts(49, 9)).map(({ id }) => id)).toEqual(['d2']);
        expect((await journal.dueDebts(50, 9)).map(({ id }) => id)).toEqual(['d2', 'd1']);
        expect((await journal.debts('db')).map(({ id }) => id)).toEqual(['d1', 'd3']);
        expect((await journal.debts()).length).toBe(3);
      }));

    test('among 10,000 secrets the due ones are found, the paused are not', () =>
      here(async (journal, fence) => {
        await journal.commit({
          fence,
          secrets: Array.from({ length: 10_000 }, (_, index) => ({
            expectVersion: 0,
            row: secretRow(`s${index}`, {
              dueAt: index === 77 ? null : 1_000_000 + index,
              paused: index % 10 === 0,
            }),
          })),
        });
        const due = await journal.dueSecrets(1_000_012, 100);
        expect(due.map(({ name }) => name)).toEqual(
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12].map((index) => `s${index}`),
        );
        expect((await journal.dueSecrets(9_000_000, 5)).length).toBe(5);
        expect(await journal.nextDueAt()).toBe(1_000_001);
        const row = secretRow('s1', { dueAt: 5 });
        await journal.commit({ fence, secrets: [{ expectVersion: 1, row }] });
        expect(await journal.nextDueAt()).toBe(5);
        expect((await journal.secrets()).length).toBe(10_000);
      }));

    test('history is newest first, of all or of one secret, ended ones included', () =>
      here(async (journal, fence) => {
        for (const id of ['r1', 'r2', 'r3', 'r4']) {
          const secrets = id === 'r3' ? ['other'] : ['db', `also-${id}`];
          const row = rotationRow(id, { secrets, active: false, endedAt: 9 });
          await journal.commit({ fence, rotations: [{ expectVersion: 0, row }] });
        }
        const ids = (rows: readonly RotationRow[]) => rows.map(({ id }) => id);
        expect(ids(await journal.history(null, 3))).toEqual(['r4', 'r3', 'r2']);
        expect(ids(await journal.history('db', 9))).toEqual(['r4', 'r2', 'r1']);
        expect(ids(await journal.history('db', 2))).toEqual(['r4', 'r2']);
        expect(ids(await journal.history('unknown', 2))).toEqual([]);
      }));

    test('audit lines stand in the order of their commits and can be read by secret', () =>
      here(async (journal, fence) => {
        const event = (secret: string, index: number) => ({ ...auditEvent(`n${index}`), secret });
        for (let index = 0; index < 6; index++) {
          await journal.commit({ fence, audit: [event(index % 2 === 0 ? 'a' : 'b', index)] });
        }
        const actions = (lines: readonly { line: string }[]) =>
          lines.map(({ line }) => (JSON.parse(line) as { action: string }).action);
        expect(actions(await journal.auditLines(2, 3))).toEqual(['n1', 'n2', 'n3']);
        expect(actions(await journal.auditOf('b', 2))).toEqual(['n3', 'n5']);
        const last = (await journal.auditLines(6, 1))[0];
        expect(await journal.auditHead()).toMatchObject({ seq: 6, mac: last?.mac });
      }));

    test('how far each audit sink has got is kept, replaced and removed, under the fence alone', () =>
      here(async (journal, fence) => {
        const row = (sink: string, seq: number): AuditSinkRow => ({
          sink,
          seq,
          mac: `m${seq}`,
          checkpointSeq: seq - 1,
          checkpointAt: 1_800_000_000_000.5,
        });
        expect(await journal.auditSinks()).toEqual([]);
        await journal.commit({ fence, auditSinks: [row('file:/b', 3), row('file:/a', 1)] });
        await journal.commit({ fence, auditSinks: [row('file:/b', 9)] });
        expect(await journal.auditSinks()).toEqual([row('file:/a', 1), row('file:/b', 9)]);
        await refuses(
          journal.commit({ fence: fence - 1, auditSinks: [row('file:/b', 1)] }),
          'fence-lost',
        );
        await journal.commit({
          fence,
          removeAuditSinks: ['file:/a', 'file:/never'],
          audit: [auditEvent('audit.sinks')],
        });
        expect(await journal.auditSinks()).toEqual([row('file:/b', 9)]);
      }));

    test('grants are kept by server and hash, replaced and removed, under the fence alone', () =>
      here(async (journal, fence) => {
        const grant = (server: string, hash: string, reference: string) => ({
          server,
          hash,
          data: { references: [reference] },
        });
        const [a, b] = [grant('search', 'h2', 'local://a'), grant('search', 'h1', 'local://b')];
        const other = grant('db', 'h1', 'local://c');
        expect(await journal.grants()).toEqual([]);
        await journal.commit({ fence, grants: [a, b, other] });
        const wider = grant('search', 'h2', 'local://a#x');
        await journal.commit({ fence, grants: [wider] });
        expect(await journal.grants()).toEqual([other, b, wider]);
        await refuses(journal.commit({ fence: fence - 1, grants: [a] }), 'fence-lost');
        await refuses(
          journal.commit({ fence: fence - 1, removeGrants: [{ server: 'db', hash: 'h1' }] }),
          'fence-lost',
        );
        await journal.commit({
          fence,
          removeGrants: [
            { server: 'search', hash: 'h1' },
            { server: 'never', hash: 'h1' },
          ],
        });
        expect(await journal.grants()).toEqual([other, wider]);
      }));

    test('a log of many lines is read whole, in windows and by secret, whatever part of it is newest', () =>
      here(async (journal, fence) => {
        for (let index = 1; index <= 70; index++) {
          const event = {
            ...auditEvent('n', { index }),
            secret: index % 10 === 0 ? 'tenth' : 'db',
          };
          await journal.commit({ fence, audit: [event] });
          if (index % 7 !== 0) continue;
          const lines = await journal.auditLines(1, 1_000);
          expect(lines.map(({ seq }) => seq)).toEqual(
            Array.from({ length: index }, (_, at) => at + 1),
          );
          expect((await journal.auditHead())?.mac).toBe(lines.at(-1)?.mac);
        }
        for (const from of [1, 40, 58, 64, 70, 71]) {
          const window = await journal.auditLines(from, 5);
          const seqs = [0, 1, 2, 3, 4].map((at) => from + at).filter((seq) => seq <= 70);
          expect(window.map(({ seq }) => seq)).toEqual(seqs);
        }
        const tenth = await journal.auditOf('tenth', 4);
        expect(tenth.map(({ seq }) => seq)).toEqual([40, 50, 60, 70]);
        expect((await journal.auditOf('tenth', 100)).length).toBe(7);
      }));

    test('all of it is there after the state is opened again', () =>
      here(async (journal, fence, { clock, store }) => {
        await journal.commit({
          fence,
          rotations: [{ expectVersion: 0, row: rotationRow('r1') }],
          secrets: [{ expectVersion: 0, row: secretRow('db', { generation: 4 }) }],
          debts: [{ expectVersion: 0, row: debtRow('d1') }],
          takeLocks: [{ item: 'i', rotation: 'r1' }],
          seals: [{ id: 's', secret: 'db', rotation: 'r1', sealed: sealedRecord('x') }],
          audit: [auditEvent('x')],
        });
        const head = await journal.auditHead();
        await journal[Symbol.asyncDispose]();
        await using again = await store.open(clock);
        expect(await again.rotation('r1')).toMatchObject({ version: 1, fence });
        expect(await again.secret('db')).toMatchObject({ generation: 4 });
        expect((await again.debts()).length).toBe(1);
        expect(await again.lockOf('i')).toBe('r1');
        expect(await again.sealed('s')).toEqual(sealedRecord('x'));
        expect(await again.auditHead()).toEqual(head);
        expect(await again.currentLease()).toMatchObject({ fence });
      }));
  });
}
