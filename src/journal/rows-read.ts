/** The journal's questions as statements, and its rows as objects. */
import { setImmediate } from 'node:timers/promises';
import type { Sealed } from '../secret/sealing.ts';
import { type Database, snapshot, type SqlRow } from './database.ts';
import type {
  AuditLine,
  AuditSinkRow,
  DebtRow,
  GrantRow,
  InstanceRow,
  Journal,
  Json,
  RotationRow,
  SecretRow,
} from './journal.ts';
import { parseRecent, secretOf } from './recent-audit.ts';
import { wakeAtOnce } from './rows-write.ts';
import { readState } from './state-row.ts';

type Reads = Pick<
  Journal,
  | 'rotation'
  | 'activeRotationOf'
  | 'unfinished'
  | 'dueRotations'
  | 'history'
  | 'secret'
  | 'secrets'
  | 'dueSecrets'
  | 'debts'
  | 'dueDebts'
  | 'nextWakeUptimeMs'
  | 'nextDueAt'
  | 'sealed'
  | 'instances'
  | 'grants'
  | 'lockOf'
  | 'auditLines'
  | 'auditOf'
  | 'auditSinks'
  | 'cached'
>;

const rotationColumns =
  'r.id, r.secrets, r.phase, r.version, r.fence, r.active, r.parked, r.wake, r.started_at, r.ended_at, r.data';
const secretColumns = 'name, version, generation, due_at, paused, data';
const debtColumns = 'id, secret, rotation, kind, version, created_at, wake, parked, data';

export function createReads(database: Database): Reads {
  const one = <Row>(map: (row: SqlRow) => Row, row: SqlRow | undefined): Row | null =>
    row === undefined ? null : map(row);
  return {
    rotation: async (id) =>
      one(
        rotationOf,
        database.get(`SELECT ${rotationColumns} FROM rotation AS r WHERE r.id = ?`, id),
      ),
    activeRotationOf: async (secret) =>
      one(
        rotationOf,
        database.get(
          `SELECT ${rotationColumns} FROM rotation_secret AS s JOIN rotation AS r ON r.seq = s.rotation WHERE s.secret = ? AND s.active = 1`,
          secret,
        ),
      ),
    unfinished: async () =>
      database
        .all(
          `SELECT ${rotationColumns} FROM rotation AS r WHERE r.seq IN (SELECT rotation FROM rotation_secret WHERE active = 1) ORDER BY r.seq`,
        )
        .map(rotationOf),
    dueRotations: async (uptimeMs, most) =>
      database
        .all(
          `SELECT ${rotationColumns} FROM rotation AS r WHERE r.active = 1 AND r.parked = 0 AND r.wake <= ? ORDER BY r.wake, r.seq LIMIT ?`,
          uptimeMs,
          most,
        )
        .map(rotationOf),
    history: async (secret, most) =>
      (secret === null
        ? database.all(
            `SELECT ${rotationColumns} FROM rotation AS r ORDER BY r.seq DESC LIMIT ?`,
            most,
          )
        : database.all(
            `SELECT ${rotationColumns} FROM rotation_secret AS s JOIN rotation AS r ON r.seq = s.rotation WHERE s.secret = ? ORDER BY s.rotation DESC LIMIT ?`,
            secret,
            most,
          )
      ).map(rotationOf),
    secret: async (name) =>
      one(secretRowOf, database.get(`SELECT ${secretColumns} FROM secret WHERE name = ?`, name)),
    secrets: async () =>
      database.all(`SELECT ${secretColumns} FROM secret ORDER BY name`).map(secretRowOf),
    dueSecrets: async (now, most) =>
      database
        .all(
          `SELECT ${secretColumns} FROM secret WHERE paused = 0 AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?`,
          now,
          most,
        )
        .map(secretRowOf),
    debts: async (secret) =>
      (secret === undefined
        ? database.all(`SELECT ${debtColumns} FROM debt ORDER BY created_at, id`)
        : database.all(
            `SELECT ${debtColumns} FROM debt WHERE secret = ? ORDER BY created_at, id`,
            secret,
          )
      ).map(debtOf),
    dueDebts: async (uptimeMs, most) =>
      database
        .all(
          `SELECT ${debtColumns} FROM debt WHERE parked = 0 AND wake <= ? ORDER BY wake LIMIT ?`,
          uptimeMs,
          most,
        )
        .map(debtOf),
    nextWakeUptimeMs: async () => {
      const row = database.get(
        'SELECT min(wake) AS wake FROM (SELECT min(wake) AS wake FROM rotation WHERE active = 1 AND parked = 0 UNION ALL SELECT min(wake) AS wake FROM debt WHERE parked = 0)',
      );
      const wake = row?.['wake'] ?? null;
      if (wake === null || wake === Number.POSITIVE_INFINITY) return null;
      return Math.max(0, wake as number);
    },
    nextDueAt: async () => {
      const row = database.get(
        'SELECT min(due_at) AS due FROM secret WHERE paused = 0 AND due_at IS NOT NULL',
      );
      return (row?.['due'] ?? null) as number | null;
    },
    sealed: async (id) =>
      one(
        (row) => JSON.parse(row['sealed'] as string) as Sealed,
        database.get('SELECT sealed FROM seal WHERE id = ?', id),
      ),
    instances: async (secret) =>
      database
        .all('SELECT secret, consumer, instance, data FROM instance WHERE secret = ?', secret)
        .map(instanceOf),
    grants: async () =>
      database.all('SELECT server, hash, data FROM gate_grant ORDER BY server, hash').map(grantOf),
    lockOf: async (item) =>
      one(
        (row) => row['rotation'] as string,
        database.get('SELECT rotation FROM item_lock WHERE item = ?', item),
      ),
    auditLines: async (from, most) => auditLines(database, from, most),
    auditOf: (secret, most) => auditOf(database, secret, most),
    auditSinks: async () =>
      database
        .all('SELECT sink, seq, mac, checkpoint_seq, checkpoint_at FROM audit_sink ORDER BY sink')
        .map(auditSinkOf),
    cached: async (key) =>
      one(
        (row) => ({ digest: row['digest'] as string, value: row['value'] as string }),
        database.get('SELECT digest, value FROM cache WHERE key = ?', key),
      ),
  };
}

/** From the table, then from the state row. Both on one state: no other process can move lines in between. */
function auditLines(database: Database, from: number, most: number): AuditLine[] {
  return snapshot(database, () => {
    const lines = database
      .all('SELECT seq, line, mac FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?', from, most)
      .map(auditLineOf);
    if (lines.length === most) return lines;
    const recent = parseRecent(readState(database).recent).filter(({ seq }) => seq >= from);
    return [...lines, ...recent].slice(0, most);
  });
}

/** Lines looked at in one go: a few milliseconds. */
const scanLines = 10_000;

/**
 * Backwards through the whole log, since an index by secret would cost each step a page; in pieces, so that the event
 * loop goes on meanwhile.
 */
async function auditOf(database: Database, secret: string, most: number): Promise<AuditLine[]> {
  const start = snapshot(database, () => ({
    recent: parseRecent(readState(database).recent).filter(({ line }) => secretOf(line) === secret),
    below: Number(database.get('SELECT max(seq) AS seq FROM audit')?.['seq'] ?? 0) + 1,
  }));
  const found = start.recent.reverse().slice(0, most);
  let { below } = start;
  while (below > 1 && found.length < most) {
    const from = below - scanLines;
    const rows = database.all(
      'SELECT seq, line, mac FROM audit WHERE seq >= ? AND seq < ? AND secret = ? ORDER BY seq DESC LIMIT ?',
      from,
      below,
      secret,
      most - found.length,
    );
    found.push(...rows.map(auditLineOf));
    below = from;
    await setImmediate();
  }
  return found.reverse();
}

function rotationOf(row: SqlRow): RotationRow {
  return {
    id: row['id'] as string,
    secrets: JSON.parse(row['secrets'] as string) as string[],
    phase: row['phase'] as string,
    version: row['version'] as number,
    fence: row['fence'] as number,
    active: row['active'] === 1,
    wakeAtUptimeMs: wakeOf(row),
    parked: row['parked'] === 1,
    startedAt: row['started_at'] as number,
    endedAt: row['ended_at'] as number | null,
    data: JSON.parse(row['data'] as string) as Json,
  };
}

function secretRowOf(row: SqlRow): SecretRow {
  return {
    name: row['name'] as string,
    version: row['version'] as number,
    generation: row['generation'] as number,
    dueAt: row['due_at'] as number | null,
    paused: row['paused'] === 1,
    data: JSON.parse(row['data'] as string) as Json,
  };
}

function debtOf(row: SqlRow): DebtRow {
  return {
    id: row['id'] as string,
    secret: row['secret'] as string,
    rotation: row['rotation'] as string,
    kind: row['kind'] as string,
    version: row['version'] as number,
    createdAt: row['created_at'] as number,
    wakeAtUptimeMs: wakeOf(row),
    parked: row['parked'] === 1,
    data: JSON.parse(row['data'] as string) as Json,
  };
}

function instanceOf(row: SqlRow): InstanceRow {
  return {
    consumer: row['consumer'] as string,
    secret: row['secret'] as string,
    instance: row['instance'] as string,
    data: JSON.parse(row['data'] as string) as Json,
  };
}

function grantOf(row: SqlRow): GrantRow {
  return {
    server: row['server'] as string,
    hash: row['hash'] as string,
    data: JSON.parse(row['data'] as string) as Json,
  };
}

function auditLineOf(row: SqlRow): AuditLine {
  return { seq: row['seq'] as number, line: row['line'] as string, mac: row['mac'] as string };
}

function auditSinkOf(row: SqlRow): AuditSinkRow {
  return {
    sink: row['sink'] as string,
    seq: row['seq'] as number,
    mac: row['mac'] as string,
    checkpointSeq: row['checkpoint_seq'] as number,
    checkpointAt: row['checkpoint_at'] as number,
  };
}

function wakeOf(row: SqlRow): number | null {
  return row['wake'] === wakeAtOnce ? null : (row['wake'] as number);
}
