/** The rows the local backend needs from whoever keeps them (the journal's database), as an interface. */
import type { Sealed } from '../secret/sealing.ts';
import type { OwnerNote } from './backend.ts';

export interface LocalVersionRow {
  readonly item: string;
  readonly version: number;
  readonly txn: string;
  /** Keyed hash of the content, so that a repeated transaction can be told from a different one. */
  readonly digest: string;
  readonly createdAt: number;
  readonly owners: Readonly<Record<string, OwnerNote>>;
  readonly sealed: Sealed;
}

export interface LocalLabels {
  readonly pending: number | null;
  readonly current: number | null;
  readonly previous: number | null;
}

export interface LocalTransaction {
  labels(item: string): LocalLabels;
  version(item: string, version: number): LocalVersionRow | null;
  byTxn(item: string, txn: string): LocalVersionRow | null;
  versions(item: string): readonly number[];
  /** The next unused version number of the item. */
  nextVersion(item: string): number;
  insert(row: LocalVersionRow): void;
  setLabels(item: string, labels: LocalLabels): void;
  remove(item: string, version: number): void;
}

/** What can be asked without writing. */
export type LocalView = Pick<
  LocalTransaction,
  'labels' | 'version' | 'byTxn' | 'versions' | 'nextVersion'
>;

export interface LocalRows {
  /** Runs `work` in a transaction: on disk when the promise resolves, undone where `work` throws. `work` is synchronous. */
  transact<T>(work: (rows: LocalTransaction) => T): Promise<T>;
  /** Runs `work` on one consistent state; needs no write lock, so it works beside a writer that hangs. */
  look<T>(work: (rows: LocalView) => T): Promise<T>;
  items(): Promise<readonly string[]>;
}
