/** The journal's contract for ownership and time. */
import { describe, expect, test } from 'vitest';
import {
  auditEvent,
  holder,
  type JournalSubject,
  manualClock,
  onFreshStore,
  refuses,
  secretRow,
  ttlMs,
  type Work,
} from './contract-support.ts';
import type { Commit } from './journal.ts';

export function leaseContract(subject: JournalSubject): void {
  const here = (work: Work) => onFreshStore(subject, work);

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

    test.each<[string, Partial<Commit>]>([
      ['with an audit line', { audit: [auditEvent('x')] }],
      ['without one', {}],
    ])(
      'the first commit after a takeover is refused, although nothing told this process of it: %s',
      (_, more) =>
        here(async (journal, fence, { clock, store }) => {
          await journal.commit({ fence, audit: [auditEvent('before')] });
          await using other = await store.open(clock);
          clock.upMs += ttlMs;
          await other.acquire(holder, ttlMs);
          const row = secretRow('db');
          await refuses(
            journal.commit({ fence, secrets: [{ expectVersion: 0, row }], ...more }),
            'fence-lost',
          );
          expect(await other.secrets()).toEqual([]);
          expect((await other.auditHead())?.seq).toBe(1);
        }),
    );

    test('owners that take turns continue one audit log', () =>
      here(async (journal, fence, { clock, store }) => {
        await using other = await store.open(clock);
        let [mine, theirs] = [fence, 0];
        for (let turn = 0; turn < 3; turn++) {
          await journal.commit({ fence: mine, audit: [auditEvent('mine')] });
          await journal.release(mine);
          theirs = (await other.acquire(holder, ttlMs)).fence;
          await other.commit({ fence: theirs, audit: [auditEvent('theirs')] });
          await other.release(theirs);
          mine = (await journal.acquire(holder, ttlMs)).fence;
        }
        const lines = await journal.auditLines(1, 100);
        expect(lines.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
        expect((await other.auditHead())?.mac).toBe(lines[5]?.mac);
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
        let upMs = clock.upMs + 40_000;
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
}
