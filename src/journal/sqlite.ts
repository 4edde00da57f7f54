/** The journal on node:sqlite: opens a state directory, composes leases, rows and group commit, shares them with `local`. */
import type { LocalRows } from '../backend/local-rows.ts';
import type { Clock } from '../clock.ts';
import { isRotatedError, RotatedError } from '../errors.ts';
import { checkIntegrity, prepareSchema, readVersion } from './schema.ts';
import { type Database, openDatabase } from './database.ts';
import type { AuditChain, Journal } from './journal.ts';
import {
  acquireLease,
  leaseOf,
  releaseLease,
  renewLease,
  requireRunning,
  uptimeOf,
} from './lease.ts';
import { type Processes, systemProcesses } from './process.ts';
import { createReads } from './rows-read.ts';
import { applyCommit } from './rows-write.ts';
import { createLocalRows } from './sqlite-local-rows.ts';
import {
  type FileSystemOf,
  hasLog,
  makePrivateFile,
  prepareDirectory,
  systemFileSystemOf,
} from './state-directory.ts';
import { readState } from './state-row.ts';
import { createWriter } from './writer.ts';

export interface SqliteJournalOptions {
  /** The state directory; made with mode 0700 where it is missing. Or a memory that outlives the journals opened on it. */
  readonly directory: string | MemoryState;
  readonly clock: Clock;
  readonly chain: AuditChain;
  /** Makes nothing, changes nothing; works beside an owner, and beside a process that hangs inside a write. */
  readonly readOnly?: boolean;
  /** Reads every page before the first use. Default: where the state is to be written. */
  readonly checkIntegrity?: boolean;
  readonly processes?: Processes;
  readonly fileSystemOf?: FileSystemOf;
}

export interface SqliteJournal extends Journal {
  /** For the `local` backend. */
  readonly localRows: LocalRows;
  /** Ids of the key-encryption keys that sealed records name: each must be at hand. */
  keysUsed(): Promise<readonly string[]>;
  /** A consistent copy while others write; `path` must not exist. Mode 0600. */
  backup(path: string): Promise<void>;
}

/** A state without a disk, for simulations: several journals may be opened on it, one after the other or side by side. */
export interface MemoryState {
  readonly database: Database;
}

export function memoryState(): MemoryState {
  return { database: openDatabase(':memory:') };
}

/**
 * Throws `state-missing`, `state-newer`, `state-corrupt`, `state-read-only`, `state-full`, `state-network`, `state-busy`,
 * `policy-unsafe`; whatever it throws, an existing state is as it was.
 */
export async function openSqliteJournal(options: SqliteJournalOptions): Promise<SqliteJournal> {
  const { directory, clock, chain, readOnly = false } = options;
  const memory = typeof directory === 'string' ? null : directory;
  const processes = options.processes ?? (memory === null ? systemProcesses() : noProcesses);
  const database =
    memory?.database ?? (await openState(directory as string, { ...options, readOnly }));
  try {
    if (readOnly) requireWritten(database);
    else prepareSchema(database, clock.bootId);
    if (memory === null && (options.checkIntegrity ?? !readOnly)) checkIntegrity(database);
  } catch (error) {
    if (memory === null) database.close();
    throw error;
  }
  const writer = createWriter(database, clock);
  let closed = false;

  return {
    ...createReads(database),
    localRows: createLocalRows(database, writer),
    acquire: (holder, ttlMs) =>
      writer.submit((transaction) => {
        transaction.state = acquireLease(transaction.state, holder, ttlMs, clock, processes);
        return required(leaseOf(transaction.state));
      }),
    renew: (fence, ttlMs) =>
      writer.submit((transaction) => {
        transaction.state = renewLease(transaction.state, fence, ttlMs, clock);
        return required(leaseOf(transaction.state));
      }),
    release: (fence) =>
      writer.submit((transaction) => {
        transaction.state = releaseLease(transaction.state, fence, clock);
      }),
    assertFence: async (fence) => requireRunning(readState(database), fence, clock),
    currentLease: async () => leaseOf(readState(database)),
    uptimeMs: async () => uptimeOf(readState(database), clock),
    newestInstant: async () => readState(database).newestWall,
    commit: (change) =>
      writer.submit((transaction) => applyCommit(transaction, change, chain, clock)),
    auditHead: async () => readState(database).head,
    cache: (entries) =>
      writer.submit((transaction) => {
        for (const { key, digest, value } of entries) {
          transaction.database.run(
            'INSERT INTO cache (key, digest, value) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, value = excluded.value',
            key,
            digest,
            value,
          );
        }
      }),
    keysUsed: async () =>
      database
        .all('SELECT kek FROM seal UNION SELECT kek FROM local_version')
        .map((row) => row['kek'] as string),
    async backup(path) {
      await makePrivateFile(path);
      await database.backupTo(path);
    },
    async [Symbol.asyncDispose]() {
      if (closed) return;
      closed = true;
      await writer.close();
      if (memory === null) database.close();
    },
  };
}

async function openState(
  directory: string,
  options: SqliteJournalOptions & { readonly readOnly: boolean },
): Promise<Database> {
  const { readOnly } = options;
  const { path, immutable } = await prepareDirectory(directory, {
    readOnly,
    fileSystemOf: options.fileSystemOf ?? systemFileSystemOf,
  });
  try {
    return openDatabase(path, { readOnly, immutable });
  } catch (error) {
    // Not even room for a reader's shared memory: then nobody else has it open, and without a log the file is all there is.
    if (!readOnly || !isRotatedError(error, 'state-full') || (await hasLog(path))) throw error;
    return openDatabase(path, { readOnly, immutable: true });
  }
}

function requireWritten(database: Database): void {
  if (readVersion(database) > 0) return;
  throw new RotatedError('state-missing', `There is no state in ${database.path} yet.`, {
    next: 'Start `rotated` once with this state directory.',
  });
}

function required<T>(value: T | null): T {
  if (value === null) throw new Error('A lease that was just written is not there.');
  return value;
}

/** Simulated owners are no processes of this machine: only time ends their leases. */
export const noProcesses: Processes = { identity: () => '-', isGone: () => false };
