/** What the journal's contract is written with: a clock that stands still, rows to change, a store to open. */
import { expect } from 'vitest';
import type { Clock } from '../clock.ts';
import type { ErrorCode } from '../errors.ts';
import type { Sealed } from '../secret/sealing.ts';
import type { AuditEvent, DebtRow, Journal, Json, RotationRow, SecretRow } from './journal.ts';

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

export type Work = (
  journal: Journal,
  fence: number,
  parts: { readonly clock: ManualClock; readonly store: Store },
) => Promise<void>;

/** Runs `work` on a fresh store whose lease it holds. */
export async function onFreshStore(subject: JournalSubject, work: Work): Promise<void> {
  await using store = await subject.create();
  const clock = manualClock();
  await using journal = await store.open(clock);
  const { fence } = await journal.acquire(holder, ttlMs);
  await work(journal, fence, { clock, store });
}

/** The error's code; a test that expects one fails with the whole error where it is another. */
export async function refuses(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code, effect: 'none' });
}
