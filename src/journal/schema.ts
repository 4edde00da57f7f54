/** The tables of the sqlite journal, their version, and how a file is recognized as ours. */
import { RotatedError } from '../errors.ts';
import { corrupt, type Database } from './database.ts';

/** +1 with each change of the tables; a change comes with a migration from every earlier version. */
export const schemaVersion = 1;
/** In the file's header, so that `file` and we can tell it: "ROTD". */
export const applicationId = 0x524f5444;

/**
 * What a step of a rotation touches is kept to few pages, since each costs a sync about 8 % more: `state` is one (lease,
 * uptime, audit head, and the newest audit lines, which go to `audit` several at a time), the rotation's row is one.
 * Indexes are partial and on columns that most steps leave as they are. `wake` -1 means at once.
 */
const tables = `
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  pid INTEGER, host TEXT, what TEXT, process TEXT,
  until_ms REAL, boot TEXT,
  uptime_ms REAL NOT NULL, anchor_ms REAL NOT NULL, anchor_boot TEXT NOT NULL,
  newest_wall REAL NOT NULL,
  head_seq INTEGER, head_mac TEXT, head_proof TEXT,
  recent TEXT NOT NULL
) STRICT;

CREATE TABLE rotation (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  secrets TEXT NOT NULL,
  phase TEXT NOT NULL,
  version INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  parked INTEGER NOT NULL CHECK (parked IN (0, 1)),
  wake REAL NOT NULL,
  started_at REAL NOT NULL,
  ended_at REAL,
  data TEXT NOT NULL
) STRICT;
CREATE INDEX rotation_due ON rotation (wake, seq) WHERE active = 1 AND parked = 0;

CREATE TABLE rotation_secret (
  secret TEXT NOT NULL,
  rotation INTEGER NOT NULL REFERENCES rotation (seq) ON DELETE CASCADE,
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  PRIMARY KEY (secret, rotation)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active_rotation_per_secret ON rotation_secret (secret) WHERE active = 1;

CREATE TABLE secret (
  name TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  due_at REAL,
  paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
  data TEXT NOT NULL
) STRICT;
CREATE INDEX secret_due ON secret (due_at) WHERE paused = 0 AND due_at IS NOT NULL;

CREATE TABLE debt (
  id TEXT PRIMARY KEY,
  secret TEXT NOT NULL,
  rotation TEXT NOT NULL,
  kind TEXT NOT NULL,
  version INTEGER NOT NULL,
  created_at REAL NOT NULL,
  wake REAL NOT NULL,
  parked INTEGER NOT NULL CHECK (parked IN (0, 1)),
  data TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX debt_due ON debt (wake) WHERE parked = 0;
-- Only the two commits that make and pay a debt pay for it; every step asks what its secret owes.
CREATE INDEX debt_of_secret ON debt (secret);

CREATE TABLE item_lock (
  item TEXT PRIMARY KEY,
  rotation TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE seal (
  id TEXT PRIMARY KEY,
  kek TEXT NOT NULL,
  secret TEXT NOT NULL,
  rotation TEXT NOT NULL,
  sealed TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE instance (
  secret TEXT NOT NULL,
  consumer TEXT NOT NULL,
  instance TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (secret, consumer, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE gate_grant (
  server TEXT NOT NULL,
  hash TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (server, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  secret TEXT,
  line TEXT NOT NULL,
  mac TEXT NOT NULL
) STRICT;

CREATE TABLE audit_sink (
  sink TEXT PRIMARY KEY,
  seq INTEGER NOT NULL,
  mac TEXT NOT NULL,
  checkpoint_seq INTEGER NOT NULL,
  checkpoint_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE local_item (
  item TEXT NOT NULL UNIQUE,
  pending INTEGER, current INTEGER, previous INTEGER,
  next_version INTEGER NOT NULL
) STRICT;

CREATE TABLE local_version (
  item TEXT NOT NULL,
  version INTEGER NOT NULL,
  txn TEXT NOT NULL,
  digest TEXT NOT NULL,
  created_at REAL NOT NULL,
  owners TEXT NOT NULL,
  kek TEXT NOT NULL,
  sealed TEXT NOT NULL,
  UNIQUE (item, version),
  UNIQUE (item, txn)
) STRICT;

CREATE TABLE cache (
  key TEXT NOT NULL UNIQUE,
  digest TEXT NOT NULL,
  value TEXT NOT NULL
) STRICT;
`;

/** Makes the tables in an empty file. Throws `state-newer` and `state-corrupt`, having changed nothing. */
export function prepareSchema(database: Database, boot: string): void {
  if (readVersion(database) === schemaVersion) return;
  database.exec('BEGIN IMMEDIATE');
  try {
    // Read again inside the transaction: another process may have made them meanwhile.
    if (readVersion(database) === 0) {
      database.exec(tables);
      database.run(
        "INSERT INTO state (id, revision, fence, uptime_ms, anchor_ms, anchor_boot, newest_wall, recent) VALUES (1, 0, 0, 0, 0, ?, 0, '')",
        boot,
      );
      database.exec(`PRAGMA application_id = ${applicationId}`);
      database.exec(`PRAGMA user_version = ${schemaVersion}`);
    }
    database.exec('COMMIT');
  } catch (error) {
    if (database.inTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** 0 for an empty file. */
export function readVersion(database: Database): number {
  const id = numberOf(database, 'PRAGMA application_id', 'application_id');
  const version = numberOf(database, 'PRAGMA user_version', 'user_version');
  const tableCount = numberOf(database, 'SELECT count(*) AS tables FROM sqlite_schema', 'tables');
  if (id === 0 && version === 0 && tableCount === 0) return 0;
  if (id !== applicationId) throw corrupt(database.path, 'it is the database of another program');
  if (version > schemaVersion) {
    throw new RotatedError(
      'state-newer',
      `The state database ${database.path} has format ${version}; this version knows ${schemaVersion}.`,
      { next: 'Run the newer version that wrote it, or name another state directory.' },
    );
  }
  return version;
}

/** Reads every page. Throws `state-corrupt` with the first problem. */
export function checkIntegrity(database: Database): void {
  const [first] = database.all('PRAGMA quick_check(1)');
  const answer = String(first?.['quick_check'] ?? 'no answer');
  if (answer !== 'ok') throw corrupt(database.path, answer.replaceAll(/\s+/g, ' ').slice(0, 200));
}

function numberOf(database: Database, sql: string, column: string): number {
  return Number(database.get(sql)?.[column] ?? 0);
}
