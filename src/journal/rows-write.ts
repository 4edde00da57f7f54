/** One `Commit` as statements: what each changes, and which refusal of the schema means which error. */
import { RotatedError } from '../errors.ts';
import { type Database, isConstraint, type SqlValue } from './database.ts';
import type {
  AuditChain,
  Change,
  Commit,
  DebtRow,
  InstanceRow,
  RotationRow,
  SecretRow,
} from './journal.ts';
import { requireNewest, seen } from './lease.ts';
import { settleRecent, withLine } from './recent-audit.ts';
import type { Clock } from '../clock.ts';
import type { Transaction } from './writer.ts';

/** In `wake`: at once. Sorts before every instant, and unlike NULL takes part in the index's order. */
export const wakeAtOnce = -1;

export function applyCommit(
  transaction: Transaction,
  commit: Commit,
  chain: AuditChain,
  clock: Clock,
): void {
  const { database } = transaction;
  requireNewest(transaction.state, commit.fence);
  for (const change of commit.rotations ?? []) writeRotation(database, change, commit.fence);
  for (const change of commit.secrets ?? []) writeSecret(database, change);
  for (const change of commit.debts ?? []) writeDebt(database, change);
  for (const close of commit.closeDebts ?? []) closeDebt(database, close);
  for (const rotation of commit.releaseLocksOf ?? []) {
    database.run('DELETE FROM item_lock WHERE rotation = ?', rotation);
  }
  takeLocks(database, commit.takeLocks ?? []);
  for (const seal of commit.seals ?? []) {
    database.run(
      'INSERT INTO seal (id, kek, secret, rotation, sealed) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET kek = excluded.kek, secret = excluded.secret, rotation = excluded.rotation, sealed = excluded.sealed',
      seal.id,
      seal.sealed.key.kek,
      seal.secret,
      seal.rotation,
      JSON.stringify(seal.sealed),
    );
  }
  for (const id of commit.removeSeals ?? []) database.run('DELETE FROM seal WHERE id = ?', id);
  for (const instance of commit.removeInstances ?? []) removeInstance(database, instance);
  for (const instance of commit.instances ?? []) writeInstance(database, instance);
  for (const sink of commit.removeAuditSinks ?? []) {
    database.run('DELETE FROM audit_sink WHERE sink = ?', sink);
  }
  for (const row of commit.auditSinks ?? []) {
    database.run(
      'INSERT OR REPLACE INTO audit_sink (sink, seq, mac, checkpoint_seq, checkpoint_at) VALUES (?, ?, ?, ?, ?)',
      row.sink,
      row.seq,
      row.mac,
      row.checkpointSeq,
      row.checkpointAt,
    );
  }
  for (const grant of commit.removeGrants ?? []) {
    database.run('DELETE FROM gate_grant WHERE server = ? AND hash = ?', grant.server, grant.hash);
  }
  for (const grant of commit.grants ?? []) {
    database.run(
      'INSERT OR REPLACE INTO gate_grant (server, hash, data) VALUES (?, ?, ?)',
      grant.server,
      grant.hash,
      JSON.stringify(grant.data),
    );
  }
  appendAudit(transaction, commit, chain, clock);
}

function writeRotation(
  database: Database,
  { expectVersion, row }: Change<RotationRow>,
  fence: number,
): void {
  const secrets = JSON.stringify(row.secrets);
  const data = JSON.stringify(row.data);
  const wake = row.wakeAtUptimeMs ?? wakeAtOnce;
  const [active, parked] = [Number(row.active), Number(row.parked)];
  // The common step: no indexed column changes, so none is named and no page of an index is written.
  const stepped = database.run(
    'UPDATE rotation SET phase = ?, version = version + 1, fence = ?, data = ? WHERE id = ? AND version = ? AND active = ? AND parked = ? AND wake = ? AND ended_at IS ? AND secrets = ?',
    row.phase,
    fence,
    data,
    row.id,
    expectVersion,
    active,
    parked,
    wake,
    row.endedAt,
    secrets,
  );
  if (stepped > 0) return;
  const old = database.get(
    'SELECT seq, version, secrets, active FROM rotation WHERE id = ?',
    row.id,
  );
  const what = `Rotation ${row.id}`;
  requireVersion(what, row.secrets[0], expectVersion, old?.['version']);
  if (old === undefined) {
    database.run(
      'INSERT INTO rotation (id, secrets, phase, version, fence, active, parked, wake, started_at, ended_at, data) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)',
      row.id,
      secrets,
      row.phase,
      fence,
      active,
      parked,
      wake,
      row.startedAt,
      row.endedAt,
      data,
    );
    for (const secret of row.secrets) insertMember(database, secret, row.id, active);
    return;
  }
  if (old['secrets'] !== secrets) {
    throw conflict(`The secrets of rotation ${row.id} cannot change.`, row.secrets[0]);
  }
  const seq = old['seq'] as number;
  database.run(
    'UPDATE rotation SET phase = ?, version = version + 1, fence = ?, active = ?, parked = ?, wake = ?, ended_at = ?, data = ? WHERE seq = ?',
    row.phase,
    fence,
    active,
    parked,
    wake,
    row.endedAt,
    data,
    seq,
  );
  if (old['active'] !== active) {
    try {
      database.run('UPDATE rotation_secret SET active = ? WHERE rotation = ?', active, seq);
    } catch (error) {
      throw isConstraint(error) ? alreadyActive(row.secrets[0] ?? '') : error;
    }
  }
}

function insertMember(database: Database, secret: string, id: string, active: number): void {
  try {
    database.run(
      'INSERT INTO rotation_secret (secret, rotation, active) SELECT ?, seq, ? FROM rotation WHERE id = ?',
      secret,
      active,
      id,
    );
  } catch (error) {
    throw isConstraint(error) ? alreadyActive(secret) : error;
  }
}

function alreadyActive(secret: string): RotatedError {
  return new RotatedError('already-active', `A rotation of ${secret} is active.`, {
    secret,
    next: `Run \`rotate status ${secret}\` to see it; it ends by itself, or with \`rotate abandon ${secret}\`.`,
  });
}

function writeSecret(database: Database, { expectVersion, row }: Change<SecretRow>): void {
  const old = database.get(
    'SELECT rowid AS seq, version, due_at, paused FROM secret WHERE name = ?',
    row.name,
  );
  requireVersion(`The record of ${row.name}`, row.name, expectVersion, old?.['version']);
  const data = JSON.stringify(row.data);
  const paused = Number(row.paused);
  if (old === undefined) {
    database.run(
      'INSERT INTO secret (name, version, generation, due_at, paused, data) VALUES (?, 1, ?, ?, ?, ?)',
      row.name,
      row.generation,
      row.dueAt,
      paused,
      data,
    );
  } else if (old['due_at'] === row.dueAt && old['paused'] === paused) {
    database.run(
      'UPDATE secret SET version = version + 1, generation = ?, data = ? WHERE rowid = ?',
      row.generation,
      data,
      old['seq'] as number,
    );
  } else {
    database.run(
      'UPDATE secret SET version = version + 1, generation = ?, due_at = ?, paused = ?, data = ? WHERE rowid = ?',
      row.generation,
      row.dueAt,
      paused,
      data,
      old['seq'] as number,
    );
  }
}

function writeDebt(database: Database, { expectVersion, row }: Change<DebtRow>): void {
  const old = database.get('SELECT version FROM debt WHERE id = ?', row.id);
  requireVersion(`Debt ${row.id}`, row.secret, expectVersion, old?.['version']);
  const wake = row.wakeAtUptimeMs ?? wakeAtOnce;
  const data = JSON.stringify(row.data);
  if (old === undefined) {
    database.run(
      'INSERT INTO debt (id, secret, rotation, kind, version, created_at, wake, parked, data) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)',
      row.id,
      row.secret,
      row.rotation,
      row.kind,
      row.createdAt,
      wake,
      Number(row.parked),
      data,
    );
    return;
  }
  database.run(
    'UPDATE debt SET kind = ?, version = version + 1, wake = ?, parked = ?, data = ? WHERE id = ?',
    row.kind,
    wake,
    Number(row.parked),
    data,
    row.id,
  );
}

function closeDebt(database: Database, close: { id: string; expectVersion: number }): void {
  const changed = database.run(
    'DELETE FROM debt WHERE id = ? AND version = ?',
    close.id,
    close.expectVersion,
  );
  if (changed === 0) throw conflict(`Debt ${close.id} changed or was closed.`, undefined);
}

function takeLocks(database: Database, locks: NonNullable<Commit['takeLocks']>): void {
  const sorted = [...locks].sort((a, b) => (a.item < b.item ? -1 : Number(a.item > b.item)));
  for (const { item, rotation } of sorted) {
    const holder = database.get('SELECT rotation FROM item_lock WHERE item = ?', item);
    // Taking one's own lock again is what a recovering rotation does.
    if (holder?.['rotation'] === rotation) continue;
    if (holder !== undefined) {
      throw new RotatedError(
        'item-locked',
        `Rotation ${holder['rotation']} is writing the item ${item}.`,
        { next: 'Nothing is to be done: this rotation waits until that one has promoted.' },
      );
    }
    database.run('INSERT INTO item_lock (item, rotation) VALUES (?, ?)', item, rotation);
  }
}

function writeInstance(database: Database, row: InstanceRow): void {
  database.run(
    'INSERT INTO instance (secret, consumer, instance, data) VALUES (?, ?, ?, ?) ON CONFLICT (secret, consumer, instance) DO UPDATE SET data = excluded.data WHERE data <> excluded.data',
    row.secret,
    row.consumer,
    row.instance,
    JSON.stringify(row.data),
  );
}

function removeInstance(database: Database, row: Omit<InstanceRow, 'data'>): void {
  database.run(
    'DELETE FROM instance WHERE secret = ? AND consumer = ? AND instance = ?',
    row.secret,
    row.consumer,
    row.instance,
  );
}

function appendAudit(
  transaction: Transaction,
  { audit }: Commit,
  chain: AuditChain,
  clock: Clock,
): void {
  if (audit === undefined || audit.length === 0) return;
  let { head, newestWall, recent } = transaction.state;
  for (const event of audit) {
    const next = chain.next(head, event);
    recent = withLine(recent, next.entry);
    head = next.head;
    newestWall = Math.max(newestWall, event.at);
  }
  recent = settleRecent(transaction.database, recent);
  // The row is written for the head anyway, so the uptime comes along for nothing.
  transaction.state = { ...seen(transaction.state, clock), head, newestWall, recent };
}

function requireVersion(
  what: string,
  secret: string | undefined,
  expected: number,
  found: SqlValue | undefined,
): void {
  if ((found ?? 0) === expected) return;
  const stands = found === undefined ? 'does not exist' : `is at version ${found}`;
  throw conflict(`${what} ${stands}, not at ${expected}.`, secret);
}

function conflict(message: string, secret: string | undefined): RotatedError {
  return new RotatedError('conflict', message, {
    secret,
    next: 'Read the record again and decide anew.',
  });
}
