/** The `local` backend: items as sealed rows in the journal's database, where one transaction compares and sets. */
import { createSecretKey } from 'node:crypto';
import { asRotatedError, RotatedError } from '../errors.ts';
import type { Clock } from '../clock.ts';
import type { Finding } from '../finding.ts';
import { canonicalJson } from '../secret/canonical.ts';
import { digestFields } from '../secret/fingerprint.ts';
import type { SealContext, Sealer } from '../secret/sealing.ts';
import type { Fields } from '../secret/secret.ts';
import type { Backend, ItemVersion, OwnerNote, VersionId, VersionInfo, Write } from './backend.ts';
import type {
  LocalLabels,
  LocalRows,
  LocalTransaction,
  LocalVersionRow,
  LocalView,
} from './local-rows.ts';

export interface LocalBackendParts {
  readonly rows: LocalRows;
  readonly sealer: Sealer;
  /** 32 bytes derived for this purpose: tells a repeated transaction from a different one under the same name. */
  readonly digestKey: Uint8Array;
  readonly clock: Clock;
}

const bytesMost = 64 * 1024;
/** Each try loses only to a neighbour that wrote in between, which is locked out of most of a rotation. */
const triesMost = 16;

export function createLocalBackend(parts: LocalBackendParts): Backend {
  const { rows, sealer, clock } = parts;
  const digestKey = createSecretKey(parts.digestKey);

  async function openRow(row: LocalVersionRow, signal: AbortSignal): Promise<ItemVersion> {
    const fields = await sealer.open(row.sealed, contextOf(row.item, row.version), signal);
    return { ...infoOf(row), fields };
  }

  /** Seals current merged with `fields` as the next version, and gives it to `settle` in the transaction that stores it. */
  async function write(
    kind: 'stage' | 'rollback',
    item: string,
    fields: Fields,
    notes: readonly OwnerNote[],
    { txn, expectCurrent }: Write,
    signal: AbortSignal,
    labelsAfter: (labels: LocalLabels, version: number) => LocalLabels,
  ): Promise<VersionId> {
    const digest = digestFields(digestKey, fields, canonicalJson([kind, item, notes]));
    const secret = notes[0]?.secret;
    for (let tried = 0; tried < triesMost; tried++) {
      requireGoing(signal, secret);
      const before = await rows.look((view) => lookAt(view, item, txn));
      if (before.own !== null) return sameWrite(before.own, digest, secret);
      checkWrite(before, kind, item, txn, expectCurrent, secret);
      const current = before.current === null ? null : await openRow(before.current, signal);
      const merged = mergeFields(current, fields, notes);
      requireFits(merged, item, secret);
      const version = before.next;
      const sealed = await sealer.seal(merged, contextOf(item, version), undefined, signal);
      const row: LocalVersionRow = {
        item,
        version,
        txn,
        digest,
        createdAt: clock.now(),
        owners: mergeOwners(current, notes),
        sealed,
      };
      requireGoing(signal, secret);
      const stored = await rows.transact((transaction) => {
        const now = lookAt(transaction, item, txn);
        if (now.own !== null) return sameWrite(now.own, digest, secret);
        checkWrite(now, kind, item, txn, expectCurrent, secret);
        // Something was written since: what was merged or numbered is stale.
        if (now.next !== version) return null;
        transaction.insert(row);
        const after = labelsAfter(now.labels, version);
        transaction.setLabels(item, after);
        dropUnlabelled(transaction, item, after);
        return String(version);
      });
      if (stored !== null) return stored;
    }
    throw conflict(item, 'other writers kept changing it', secret);
  }

  return {
    id: 'local',
    capabilities: { compareAndSet: 'strong', purge: true, bytesMax: bytesMost },

    async preflight(item, signal) {
      requireGoing(signal);
      const { current } = await rows.look((view) => lookAt(view, item, ''));
      if (current === null) return [ready(item)];
      try {
        await openRow(current, signal);
        return [ready(item)];
      } catch (error) {
        const { message, next } = asRotatedError(error, 'none');
        return [{ name: 'backend-unreadable', level: 'red', message, place: item, mend: next }];
      }
    },

    async describe(item, signal) {
      requireGoing(signal);
      return rows.look((view) => {
        const { pending, current, previous } = view.labels(item);
        const info = (version: number | null): VersionInfo | null =>
          version === null ? null : infoOf(required(view.version(item, version)));
        return { pending: info(pending), current: info(current), previous: info(previous) };
      });
    },

    async read(item, at, signal) {
      requireGoing(signal);
      const row = await rows.look((view) => {
        const version = typeof at === 'string' ? view.labels(item)[at] : numberOf(at.version);
        return version === null ? null : view.version(item, version);
      });
      if (row !== null) return openRow(row, signal);
      const which = typeof at === 'string' ? `${at} version` : `version ${at.version}`;
      throw new RotatedError('not-found', `The item local://${item} has no ${which}.`, {
        next: 'Check the reference in the policy, or run `rotate restore` if the item was lost.',
      });
    },

    stage: (item, fields, note, write_, signal) =>
      write('stage', item, fields, note, write_, signal, (labels, version) => ({
        ...labels,
        pending: version,
      })),

    rollback: (item, fields, note, write_, signal) =>
      write('rollback', item, fields, note, write_, signal, (labels, version) => ({
        pending: labels.pending,
        current: version,
        previous: labels.current,
      })),

    async promote(item, { txn, pending, expectCurrent }, signal) {
      requireGoing(signal);
      const version = numberOf(pending);
      return rows.transact((transaction) => {
        const labels = transaction.labels(item);
        const row = version === null ? null : transaction.version(item, version);
        if (row === null || version === null) throw conflict(item, `version ${pending} is gone`);
        if (row.txn !== txn) throw conflict(item, `version ${pending} is another transaction's`);
        if (labels.current === version) return pending;
        if (labels.pending !== version) {
          throw conflict(item, `version ${pending} is not pending any more`);
        }
        requireCurrent(item, labels, expectCurrent);
        const after = { pending: null, current: version, previous: labels.current };
        transaction.setLabels(item, after);
        dropUnlabelled(transaction, item, after);
        return pending;
      });
    },

    async discard(item, txn, signal) {
      requireGoing(signal);
      await rows.transact((transaction) => {
        const labels = transaction.labels(item);
        if (labels.pending === null) return;
        if (transaction.version(item, labels.pending)?.txn !== txn) return;
        transaction.setLabels(item, { ...labels, pending: null });
        transaction.remove(item, labels.pending);
      });
    },

    async retirePrevious(item, version, signal) {
      requireGoing(signal);
      await rows.transact((transaction) => {
        const labels = transaction.labels(item);
        if (labels.previous === null || String(labels.previous) !== version) return;
        transaction.setLabels(item, { ...labels, previous: null });
        transaction.remove(item, labels.previous);
      });
    },

    async purge(item, signal) {
      requireGoing(signal);
      await rows.transact((transaction) => {
        const labels = { ...transaction.labels(item), previous: null };
        transaction.setLabels(item, labels);
        dropUnlabelled(transaction, item, labels);
      });
    },
  };
}

interface Look {
  readonly labels: LocalLabels;
  readonly current: LocalVersionRow | null;
  readonly pendingTxn: string | null;
  /** What this transaction wrote already. */
  readonly own: LocalVersionRow | null;
  readonly next: number;
}

function lookAt(view: LocalView, item: string, txn: string): Look {
  const labels = view.labels(item);
  const { current, pending } = labels;
  return {
    labels,
    current: current === null ? null : required(view.version(item, current)),
    pendingTxn: pending === null ? null : required(view.version(item, pending)).txn,
    own: view.byTxn(item, txn),
    next: view.nextVersion(item),
  };
}

function sameWrite(row: LocalVersionRow, digest: string, secret: string | undefined): VersionId {
  if (row.digest === digest) return String(row.version);
  throw conflict(row.item, `transaction ${row.txn} was done with other content`, secret);
}

function checkWrite(
  { labels, pendingTxn }: Look,
  kind: 'stage' | 'rollback',
  item: string,
  txn: string,
  expectCurrent: VersionId | null,
  secret: string | undefined,
): void {
  requireCurrent(item, labels, expectCurrent, secret);
  // A roll back repairs current; whoever is pending finds out at its promote, since current has moved.
  if (kind === 'rollback' || pendingTxn === null || pendingTxn === txn) return;
  throw new RotatedError(
    'pending-foreign',
    `The item local://${item} holds a pending version of transaction ${pendingTxn}.`,
    {
      secret,
      next: 'Find out who wrote it: `rotate status` shows our rotations; `rotate abandon` drops one of ours.',
    },
  );
}

function requireCurrent(
  item: string,
  labels: LocalLabels,
  expected: VersionId | null,
  secret?: string,
): void {
  const found = labels.current === null ? null : String(labels.current);
  if (found === expected) return;
  const shown = (version: VersionId | null) => version ?? 'none';
  throw conflict(item, `current is ${shown(found)}, expected was ${shown(expected)}`, secret);
}

/** Neighbours keep their newest values; what this secret owned before and no longer has goes away. */
function mergeFields(
  current: ItemVersion | null,
  fields: Fields,
  notes: readonly OwnerNote[],
): Fields {
  const before = new Set(notes.flatMap(({ secret }) => current?.owners[secret]?.fields ?? []));
  const kept = Object.entries(current?.fields ?? {}).filter(([name]) => !before.has(name));
  return { ...Object.fromEntries(kept), ...fields };
}

/** A field has one owner: whoever wrote it last, so that a secret renamed in the policy takes its fields along. */
function mergeOwners(
  current: VersionInfo | null,
  notes: readonly OwnerNote[],
): Readonly<Record<string, OwnerNote>> {
  const ours = new Set(notes.map((note) => note.secret));
  const taken = new Set(notes.flatMap((note) => note.fields));
  const others = Object.entries(current?.owners ?? {})
    .filter(([secret]) => !ours.has(secret))
    .map(([secret, other]): [string, OwnerNote] => [
      secret,
      { ...other, fields: other.fields.filter((field) => !taken.has(field)) },
    ])
    .filter(([, other]) => other.fields.length > 0);
  const own = notes.map((note): [string, OwnerNote] => [note.secret, note]);
  return Object.fromEntries([...others, ...own]);
}

function requireFits(fields: Fields, item: string, secret: string | undefined): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(fields)) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value.reveal());
  }
  if (bytes <= bytesMost) return;
  throw new RotatedError(
    'too-large',
    `The item local://${item} would hold ${bytes} bytes; ${bytesMost} is the most.`,
    { secret, next: 'Split it into several items.' },
  );
}

/** An old value that no label names must not stay behind: its rotation may be over before anyone purges. */
function dropUnlabelled(transaction: LocalTransaction, item: string, labels: LocalLabels): void {
  const named = new Set([labels.pending, labels.current, labels.previous]);
  for (const version of transaction.versions(item)) {
    if (!named.has(version)) transaction.remove(item, version);
  }
}

function contextOf(item: string, version: number): SealContext {
  return { secret: `local://${item}`, rotation: String(version), purpose: 'item' };
}

function infoOf(row: LocalVersionRow): VersionInfo {
  return {
    version: String(row.version),
    txn: row.txn,
    createdAt: row.createdAt,
    owners: row.owners,
  };
}

function ready(item: string): Finding {
  return {
    name: 'backend-ready',
    level: 'green',
    message: 'The item can be written, staged, promoted and purged; pending values are sealed.',
    place: `local://${item}`,
  };
}

function conflict(item: string, why: string, secret?: string): RotatedError {
  return new RotatedError('conflict', `The item local://${item} was not written: ${why}.`, {
    secret,
    next: 'Describe the item again and decide anew.',
  });
}

function requireGoing(signal: AbortSignal, secret?: string): void {
  if (signal.aborted) throw asRotatedError(signal.reason, 'none', secret);
}

/** Versions are decimal numbers; null where the text is none. */
function numberOf(version: VersionId): number | null {
  return /^[1-9][0-9]{0,14}$/.test(version) ? Number(version) : null;
}

function required<T>(row: T | null): T {
  if (row !== null) return row;
  throw new RotatedError('state-corrupt', 'A label of a local item names a version that is gone.', {
    next: 'Restore the state directory from a backup.',
  });
}
