/** The local backend's rows in the journal's database: the same transactions, the same syncs. */
import type {
  LocalLabels,
  LocalRows,
  LocalTransaction,
  LocalVersionRow,
} from '../backend/local-rows.ts';
import type { Sealed } from '../secret/sealing.ts';
import type { OwnerNote } from '../backend/backend.ts';
import { type Database, snapshot, type SqlRow } from './database.ts';
import type { Writer } from './writer.ts';

export function createLocalRows(database: Database, writer: Writer): LocalRows {
  const view = localTransaction(database);
  return {
    transact: (work) => writer.submit(() => work(view)),
    look: async (work) => snapshot(database, () => work(view)),
    items: async () =>
      database
        .all(
          'SELECT item FROM local_item WHERE pending IS NOT NULL OR current IS NOT NULL OR previous IS NOT NULL ORDER BY item',
        )
        .map((row) => row['item'] as string),
  };
}

function localTransaction(database: Database): LocalTransaction {
  return {
    labels(item) {
      const row = database.get(
        'SELECT pending, current, previous FROM local_item WHERE item = ?',
        item,
      );
      return {
        pending: (row?.['pending'] ?? null) as number | null,
        current: (row?.['current'] ?? null) as number | null,
        previous: (row?.['previous'] ?? null) as number | null,
      } satisfies LocalLabels;
    },
    version: (item, version) =>
      versionOf(
        database.get(
          'SELECT item, version, txn, digest, created_at, owners, sealed FROM local_version WHERE item = ? AND version = ?',
          item,
          version,
        ),
      ),
    byTxn: (item, txn) =>
      versionOf(
        database.get(
          'SELECT item, version, txn, digest, created_at, owners, sealed FROM local_version WHERE item = ? AND txn = ?',
          item,
          txn,
        ),
      ),
    versions: (item) =>
      database
        .all('SELECT version FROM local_version WHERE item = ? ORDER BY version', item)
        .map((row) => row['version'] as number),
    nextVersion: (item) =>
      (database.get('SELECT next_version FROM local_item WHERE item = ?', item)?.['next_version'] ??
        1) as number,
    insert(row) {
      database.run(
        'INSERT INTO local_item (item, next_version) VALUES (?, ?) ON CONFLICT (item) DO UPDATE SET next_version = excluded.next_version',
        row.item,
        row.version + 1,
      );
      database.run(
        'INSERT INTO local_version (item, version, txn, digest, created_at, owners, kek, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
        row.item,
        row.version,
        row.txn,
        row.digest,
        row.createdAt,
        JSON.stringify(row.owners),
        row.sealed.key.kek,
        JSON.stringify(row.sealed),
      );
    },
    setLabels(item, labels) {
      database.run(
        'UPDATE local_item SET pending = ?, current = ?, previous = ? WHERE item = ?',
        labels.pending,
        labels.current,
        labels.previous,
        item,
      );
    },
    remove(item, version) {
      database.run('DELETE FROM local_version WHERE item = ? AND version = ?', item, version);
    },
  };
}

function versionOf(row: SqlRow | undefined): LocalVersionRow | null {
  if (row === undefined) return null;
  return {
    item: row['item'] as string,
    version: row['version'] as number,
    txn: row['txn'] as string,
    digest: row['digest'] as string,
    createdAt: row['created_at'] as number,
    owners: JSON.parse(row['owners'] as string) as Record<string, OwnerNote>,
    sealed: JSON.parse(row['sealed'] as string) as Sealed,
  };
}
