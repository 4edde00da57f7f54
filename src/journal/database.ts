/** node:sqlite behind a small face: the only file that knows `DatabaseSync`, its settings and its error numbers. */
import { backup, DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { type Effect, RotatedError } from '../errors.ts';

export type SqlValue = null | number | string;
export type SqlRow = Readonly<Record<string, SqlValue>>;

/** Statements are prepared once and kept: name every one of them as a constant text. */
export interface Database {
  /** Rows changed. */
  run(sql: string, ...values: readonly SqlValue[]): number;
  get(sql: string, ...values: readonly SqlValue[]): SqlRow | undefined;
  all(sql: string, ...values: readonly SqlValue[]): SqlRow[];
  exec(sql: string): void;
  readonly inTransaction: boolean;
  readonly path: string;
  /** `path` is an empty file, or none. */
  backupTo(path: string): Promise<void>;
  close(): void;
}

export interface DatabaseOptions {
  readonly readOnly?: boolean;
  /** Opens a read-only file system's copy: nobody may be writing it. */
  readonly immutable?: boolean;
  /** How long opening may wait for another process, in milliseconds; the event loop stands still meanwhile. */
  readonly openWaitMs?: number;
}

/** A rotation's row of 3 KB, and the state row, are one page each. */
const pageBytes = 4_096;
/** Pages the log holds before they are copied to the main file: 8 MB, some hundred steps. */
const checkpointPages = 2_000;
/** The log is overwritten in place, never cut, since growing a file costs a sync more than writing it; beyond this it is. */
const logBytesMost = 64 * 1024 * 1024;

/** The largest number of pages that `backup` takes: one step, whatever the size. */
const allPages = 2 ** 31 - 1;

/** Writes reach the disk before a commit returns (WAL with FULL); deleted content is overwritten. */
export function openDatabase(path: string, options: DatabaseOptions = {}): Database {
  const { readOnly = false, immutable = false, openWaitMs = 2_000 } = options;
  const connection = guard(path, () => {
    const place = immutable ? `${fileUrl(path)}?immutable=1` : path;
    const opened = new DatabaseSync(place, { readOnly, timeout: openWaitMs });
    try {
      if (!readOnly) {
        opened.exec(`PRAGMA page_size = ${pageBytes}`);
        opened.exec('PRAGMA journal_mode = WAL');
        opened.exec('PRAGMA synchronous = FULL');
        opened.exec('PRAGMA secure_delete = ON');
        opened.exec(`PRAGMA wal_autocheckpoint = ${checkpointPages}`);
        opened.exec(`PRAGMA journal_size_limit = ${logBytesMost}`);
      }
      // Even a reader meets a damaged file here, and not in the middle of its work.
      opened.prepare('SELECT count(*) FROM sqlite_schema').get();
      opened.exec('PRAGMA busy_timeout = 0');
      return opened;
    } catch (error) {
      opened.close();
      throw error;
    }
  });
  const statements = new Map<string, StatementSync>();
  const prepared = (sql: string): StatementSync => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    const statement = connection.prepare(sql);
    statements.set(sql, statement);
    return statement;
  };
  return {
    path,
    run: (sql, ...values) =>
      guard(path, () => Number(prepared(sql).run(...(values as SQLInputValue[])).changes)),
    get: (sql, ...values) =>
      guard(path, () => prepared(sql).get(...(values as SQLInputValue[])) as SqlRow | undefined),
    all: (sql, ...values) =>
      guard(path, () => prepared(sql).all(...(values as SQLInputValue[])) as SqlRow[]),
    exec: (sql) => guard(path, () => connection.exec(sql)),
    get inTransaction() {
      return connection.isTransaction;
    },
    async backupTo(target) {
      // A connection of its own, and all pages in one step: a consistent copy, made beside the event loop.
      const source = guard(path, () => new DatabaseSync(path, { readOnly: true }));
      try {
        await backup(source, target, { rate: allPages });
      } catch (error) {
        throw stateError(error, target) ?? error;
      } finally {
        source.close();
      }
    },
    close: () => connection.close(),
  };
}

/** Several questions on one state. Not inside a transaction: within a turn of the event loop none is open. */
export function snapshot<T>(database: Database, work: () => T): T {
  database.run('BEGIN');
  try {
    return work();
  } finally {
    database.run('COMMIT');
  }
}

/** A constraint of the schema refused a row: the caller knows which, and what that means. */
export function isConstraint(error: unknown): boolean {
  return primaryCode(error) === 19;
}

function guard<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw stateError(error, path) ?? error;
  }
}

/** SQLite's result codes (sqlite.org/rescode.html) as ours; null for those that a caller handles. */
function stateError(error: unknown, path: string): RotatedError | null {
  const extended = resultCode(error);
  if (extended === null) return null;
  const fail = (
    code: ConstructorParameters<typeof RotatedError>[0],
    message: string,
    next: string,
    effect: Effect = 'none',
  ) => new RotatedError(code, `${message} (SQLite code ${extended}).`, { effect, next });
  switch (primaryCode(error)) {
    case 5: // BUSY
    case 6: // LOCKED
      return fail(
        'state-busy',
        `Another process is writing ${path}`,
        'Try again; if it stays, end the process that owns the state directory.',
      );
    case 8: // READONLY
      return fail(
        'state-read-only',
        `${path} cannot be written`,
        'Make the state directory writable for this user.',
      );
    case 13: // FULL
      return full(path, extended);
    case 10: // IOERR
      // The shared-memory file could not grow.
      if (extended === 4_874) return full(path, extended);
      return fail(
        'unexpected',
        `The disk refused to read or write ${path}`,
        'Look for disk errors in the system log, then restart: the journal is checked at the start.',
        'unknown',
      );
    case 11: // CORRUPT
    case 26: // NOTADB
      return corrupt(path, `SQLite code ${extended}`);
    case 14: // CANTOPEN
      return fail(
        'state-read-only',
        `${path} cannot be opened`,
        'Give this user the right to read and write the state directory.',
      );
    default:
      return null;
  }
}

export function corrupt(path: string, what: string): RotatedError {
  return new RotatedError('state-corrupt', `The state database ${path} is damaged (${what}).`, {
    next: `Nothing was changed. Stop every process using it, copy the directory aside, then put a backup in place of ${path} and remove its -wal and -shm files.`,
  });
}

function full(path: string, extended: number): RotatedError {
  return new RotatedError(
    'state-full',
    `The disk that holds ${path} is full (SQLite code ${extended}).`,
    { effect: 'none', next: 'Free space on that disk: nothing was lost, the step is tried again.' },
  );
}

function resultCode(error: unknown): number | null {
  const code = (error as { errcode?: unknown } | null)?.errcode;
  return typeof code === 'number' ? code : null;
}

function primaryCode(error: unknown): number | null {
  const extended = resultCode(error);
  // The low byte is the primary code.
  return extended === null ? null : extended & 0xff;
}

function fileUrl(path: string): string {
  return `file:${path.split('/').map(encodeURIComponent).join('/')}`;
}
