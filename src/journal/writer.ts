/** Group commit: the work of one turn of the event loop goes into one transaction, each piece undone alone if it fails. */
import { setImmediate } from 'node:timers';
import type { Clock } from '../clock.ts';
import { isRotatedError, RotatedError } from '../errors.ts';
import type { Database } from './database.ts';
import { holderName } from './lease.ts';
import { readState, type StateRow, stateIsAt, writeState } from './state-row.ts';

export interface Transaction {
  readonly database: Database;
  /** As it stands within this transaction. Assign a new one to change it: it is written once, at the end. */
  state: StateRow;
}

export interface Writer {
  /** On disk when the promise resolves, undone when it rejects. `work` is synchronous, and may run twice. */
  submit<T>(work: (transaction: Transaction) => T): Promise<T>;
  /** Resolves once nothing is waiting; later work is refused. */
  close(): Promise<void>;
}

interface Job {
  readonly work: (transaction: Transaction) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Work in one transaction: more would keep the event loop from its timers for too long. */
const jobsMost = 1_000;
/** How long another process may sit inside its transaction; a healthy one takes milliseconds. */
const busyWaitMs = 5_000;
const busyPauseMs = 10;

export function createWriter(database: Database, clock: Clock): Writer {
  const queue: Job[] = [];
  let known: StateRow | null = null;
  let scheduled = false;
  let turnHadBatch = false;
  /** Another process is in its transaction: the timer flushes. */
  let paused = false;
  let closing: (() => void) | null = null;
  let closed = false;
  let busySinceMs: number | null = null;

  /**
   * The first work of a turn is written at its end of the microtasks: one rotation alone waits for nobody. Whatever
   * follows in the same turn is written together, when the turn ends: so a burst costs two syncs, and no chain of commits
   * keeps the event loop from its timers.
   */
  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    if (turnHadBatch) return;
    turnHadBatch = true;
    queueMicrotask(flush);
    setImmediate(endTurn);
  }

  function endTurn(): void {
    turnHadBatch = false;
    if (scheduled && !paused) flush();
  }

  function flush(): void {
    const jobs = queue.splice(0, jobsMost);
    try {
      known = runBatch(database, jobs, known);
      busySinceMs = null;
    } catch (error) {
      known = null;
      if (isRotatedError(error, 'state-busy') && waitMore()) {
        queue.unshift(...jobs);
        paused = true;
        void clock.sleep(busyPauseMs).then(resume, resume);
        return;
      }
      busySinceMs = null;
      refuseAll(jobs, isRotatedError(error, 'state-busy') ? busy(database, error) : error);
    }
    scheduled = false;
    if (queue.length > 0) schedule();
    else closing?.();
  }

  function resume(): void {
    paused = false;
    flush();
  }

  function waitMore(): boolean {
    busySinceMs ??= clock.monotonicMs();
    return clock.monotonicMs() - busySinceMs < busyWaitMs;
  }

  return {
    submit<T>(work: (transaction: Transaction) => T): Promise<T> {
      if (closed) {
        const error = new RotatedError(
          'unexpected',
          'The journal was written after it was closed.',
        );
        return Promise.reject(error);
      }
      return new Promise<T>((resolve, reject) => {
        queue.push({ work, resolve: resolve as (value: unknown) => void, reject });
        schedule();
      });
    },
    async close() {
      closed = true;
      if (!scheduled) return;
      await new Promise<void>((resolve) => {
        closing = resolve;
      });
    },
  };
}

/**
 * Gives the state row as it stands now, for the next batch. Throws only where no job was settled and none took effect.
 * `known`: the row as the last batch left it, which spares reading it; where another process wrote meanwhile, all is
 * undone and run again on the row as it is.
 */
function runBatch(database: Database, jobs: readonly Job[], known: StateRow | null): StateRow {
  const settle: (() => void)[] = [];
  database.run('BEGIN IMMEDIATE');
  let after: StateRow | null;
  try {
    const before = known ?? readState(database);
    const transaction: Transaction = { database, state: before };
    // One alone needs no savepoint: if it fails, the transaction is undone.
    const [only] = jobs;
    if (jobs.length === 1 && only !== undefined) settle.push(runAlone(transaction, only));
    else for (const job of jobs) settle.push(runJob(transaction, job));
    after = finish(transaction, before);
    if (database.inTransaction) database.run(after === null ? 'ROLLBACK' : 'COMMIT');
  } catch (error) {
    if (database.inTransaction) database.run('ROLLBACK');
    throw error;
  }
  if (after === null) return runBatch(database, jobs, null);
  for (const done of settle) done();
  return after;
}

/** null where the row in memory was stale. */
function finish({ database, state }: Transaction, before: StateRow): StateRow | null {
  if (state === before) return stateIsAt(database, before.revision) ? before : null;
  const written = writeState(database, before, state);
  return written ? { ...state, revision: before.revision + 1 } : null;
}

function runAlone(transaction: Transaction, job: Job): () => void {
  const { database, state } = transaction;
  try {
    const value = job.work(transaction);
    return () => job.resolve(value);
  } catch (error) {
    transaction.state = state;
    if (database.inTransaction) database.run('ROLLBACK');
    return () => job.reject(error);
  }
}

function runJob(transaction: Transaction, job: Job): () => void {
  const { database, state } = transaction;
  database.run('SAVEPOINT job');
  try {
    const value = job.work(transaction);
    database.run('RELEASE job');
    return () => job.resolve(value);
  } catch (error) {
    // A full disk may have ended the whole transaction: then no other job of the batch stands either.
    if (!database.inTransaction) throw error;
    database.run('ROLLBACK TO job');
    database.run('RELEASE job');
    transaction.state = state;
    return () => job.reject(error);
  }
}

function refuseAll(jobs: readonly Job[], error: unknown): void {
  for (const job of jobs) job.reject(error);
}

/** Readers are never blocked, so the lease row tells who it is. */
function busy(database: Database, error: RotatedError): RotatedError {
  let holder = 'Another process';
  let pid: number | null = null;
  try {
    const state = readState(database);
    pid = state.pid;
    holder = holderName(state);
  } catch {
    // Not even readable: the message does without a name.
  }
  return new RotatedError(
    'state-busy',
    `${holder} stopped in the middle of a write to ${database.path}.`,
    {
      cause: error,
      next:
        pid === null
          ? 'End the process that uses the state directory.'
          : `Continue process ${pid} (kill -CONT ${pid}) or end it (kill -9 ${pid}): its unfinished write is undone.`,
    },
  );
}
