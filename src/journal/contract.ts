/** What every journal must do, as vitest cases: sqlite now, PostgreSQL later. */
import { describe, expect, test } from 'vitest';
import type { Clock } from '../clock.ts';
import type { ErrorCode } from '../errors.ts';
import type { Sealed } from '../secret/sealing.ts';
import type {
  AuditEvent,
  Commit,
  DebtRow,
  Journal,
  Json,
  RotationRow,
  SecretRow,
} from './journal.ts';

export interface Store extends AsyncDisposable {
  /** Another process's journal on the same state. */
  open(clock: Clock): Promise<Journal>;
}

export interface JournalSubject {
  readonly name: string;
  /** A fresh, empty store. */
  create(): Promise<Store>;
}

export interface ManualClock extends Clock {
  wallMs: number;
  upMs: number;
  bootId: string;
}

/** Stands still until told; `sleep` moves it. */
export function manualClock(): ManualClock {
  const clock: ManualClock = {
    wallMs: 1_800_000_000_000,
    upMs: 1_000_000,
    bootId: 'boot-a',
    now: () => clock.wallMs,
    monotonicMs: () => clock.upMs,
    sleep: async (ms) => {
      clock.wallMs += ms;
      clock.upMs += ms;
    },
  };
  return clock;
}

export const ttlMs = 10_000;
/** Under no circumstances a process of this machine: numbers end below 2^22 (proc(5), pid_max). */
export const holder = { pid: 2 ** 30, host: 'elsewhere', what: 'contract' };

export function rotationRow(
  id: string,
  change: Partial<RotationRow> = {},
): Omit<RotationRow, 'version' | 'fence'> {
  return {
    id,
    secrets: [`secret-of-${id}`],
    phase: 'planned',
    active: true,
    wakeAtUptimeMs: null,
    parked: false,
    startedAt: 1,
    endedAt: null,
    data: { note: id },
    ...change,
  };
}

export function secretRow(
  name: string,
  change: Partial<SecretRow> = {},
): Omit<SecretRow, 'version'> {
  return { name, generation: 0, dueAt: null, paused: false, data: {}, ...change };
}

export function debtRow(id: string, change: Partial<DebtRow> = {}): Omit<DebtRow, 'version'> {
  return {
    id,
    secret: 'db',
    rotation: 'r1',
    kind: 'revoke',
    createdAt: 1,
    wakeAtUptimeMs: null,
    parked: false,
    data: {},
    ...change,
  };
}

export function auditEvent(
  action: string,
  detail: Readonly<Record<string, Json>> = {},
): AuditEvent {
  return {
    at: 1_800_000_000_000,
    actor: { id: 'tester', channel: 'command', proven: true },
    action,
    secret: 'db',
    rotation: 'r1',
    reason: null,
    outcome: 'done',
    detail,
  };
}

export function sealedRecord(data: string): Sealed {
  return { v: 1, key: { kek: 'k1', wrapped: 'w' }, iv: 'i', tag: 't', data };
}

export function journalContract(subject: JournalSubject): void {
  const here = async (
    work: (
      journal: Journal,
      fence: number,
      parts: { clock: ManualClock; store: Store },
    ) => Promise<void>,
  ): Promise<void> => {
    await using store = await subject.create();
    const clock = manualClock();
    await using journal = await store.open(clock);
    const { fence } = await journal.acquire(holder, ttlMs);
    await work(journal, fence, { clock, store });
  };

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
              secrets: [{ expectVersion: 0, row: secretRow(name) }],
            }),
          ),
        );
        expect(answers.map((answer) => answer.status === 'fulfilled')).toEqual(
          names.map((name) => name !== 'taken'),
        );
        expect((await journal.secrets()).length).toBe(41);
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

  describe(`${subject.name}: lease`, () => {
    test('a running lease of another process is busy and names it', () =>
      here(async (_, fence, { clock, store }) => {
        await using other = await store.open(clock);
        clock.upMs += ttlMs - 1;
        await expect(other.acquire({ ...holder, what: 'other' }, ttlMs)).rejects.toMatchObject({
          code: 'state-busy',
          message: expect.stringContaining(String(holder.pid)),
        });
        expect(await other.currentLease()).toMatchObject({ fence, holder });
      }));

    test('an expired lease is taken over with a higher fence, and its former owner can write nothing', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        clock.upMs += ttlMs;
        const taken = await other.acquire({ ...holder, what: 'other' }, ttlMs);
        expect(taken.fence).toBeGreaterThan(fence);
        await refuses(journal.assertFence(fence), 'fence-lost');
        await refuses(journal.renew(fence, ttlMs), 'fence-lost');
        await refuses(journal.release(fence), 'fence-lost');
        await refuses(
          journal.commit({ fence, secrets: [{ expectVersion: 0, row: secretRow('db') }] }),
          'fence-lost',
        );
        expect(await other.secrets()).toEqual([]);
        await other.assertFence(taken.fence);
      }));

    test('past its lease an owner may not act, but may record what it did, until another one comes', () =>
      here(async (journal, fence, { clock }) => {
        clock.upMs += ttlMs;
        await refuses(journal.assertFence(fence), 'fence-lost');
        await journal.commit({ fence, secrets: [{ expectVersion: 0, row: secretRow('db') }] });
        await journal.renew(fence, ttlMs);
        await journal.assertFence(fence);
      }));

    test('a renewed lease runs on', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        clock.upMs += ttlMs - 1;
        const lease = await journal.renew(fence, ttlMs);
        expect(lease.untilMonotonicMs).toBe(clock.upMs + ttlMs);
        clock.upMs += ttlMs - 1;
        await journal.assertFence(fence);
        await refuses(other.acquire(holder, ttlMs), 'state-busy');
      }));

    test('a released lease is free at once, and its fence never comes back', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        await journal.release(fence);
        expect(await journal.currentLease()).toBeNull();
        await refuses(journal.commit({ fence, audit: [auditEvent('x')] }), 'fence-lost');
        expect((await other.acquire(holder, ttlMs)).fence).toBeGreaterThan(fence);
      }));

    test('a lease of another boot has ended', () =>
      here(async (_, fence, { clock, store }) => {
        await using other = await store.open({ ...clock, bootId: 'boot-b', monotonicMs: () => 5 });
        expect((await other.acquire(holder, ttlMs)).fence).toBeGreaterThan(fence);
      }));

    test('a wall clock set forward or back ends no lease', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        for (const years of [10, -10]) {
          clock.wallMs += years * 365 * 86_400_000;
          await journal.assertFence(fence);
          await refuses(other.acquire(holder, ttlMs), 'state-busy');
        }
      }));

    test('of two processes that want a free lease at once exactly one gets it', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        await journal.release(fence);
        const answers = await Promise.allSettled([
          journal.acquire(holder, ttlMs),
          other.acquire(holder, ttlMs),
        ]);
        expect(answers.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      }));
  });

  describe(`${subject.name}: time`, () => {
    test('uptime runs within a boot, with or without an owner, and stands still across one', () =>
      here(async (journal, fence, { clock, store }) => {
        const start = await journal.uptimeMs();
        clock.upMs += 5_000;
        expect(await journal.uptimeMs()).toBe(start + 5_000);
        await journal.renew(fence, ttlMs);
        clock.upMs += 2_000;
        expect(await journal.uptimeMs()).toBe(start + 7_000);
        const rebooted = { ...manualClock(), bootId: 'boot-b', wallMs: 0 };
        let upMs = 3;
        await using other = await store.open({ ...rebooted, monotonicMs: () => upMs });
        // What passed since the last record cannot be told from the time that the machine was off.
        expect(await other.uptimeMs()).toBe(start + 5_000);
        await other.acquire(holder, ttlMs);
        upMs += 100;
        expect(await other.uptimeMs()).toBe(start + 5_100);
      }));

    test('a wall clock set forward moves no uptime', () =>
      here(async (journal, _, { clock }) => {
        const start = await journal.uptimeMs();
        clock.wallMs += 30 * 86_400_000;
        expect(await journal.uptimeMs()).toBe(start);
      }));

    test('the newest instant is remembered when the clock is set back', () =>
      here(async (journal, fence, { clock }) => {
        const newest = (clock.wallMs += 60_000);
        await journal.renew(fence, ttlMs);
        clock.wallMs -= 365 * 86_400_000;
        await journal.commit({ fence, audit: [{ ...auditEvent('x'), at: clock.wallMs }] });
        await journal.renew(fence, ttlMs);
        expect(await journal.newestInstant()).toBe(newest);
      }));
  });

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

/** The error's code; a test that expects one fails with the whole error where it is another. */
export async function refuses(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code, effect: 'none' });
}
