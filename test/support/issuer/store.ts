/** The test issuer's memory: principals, keys, mints still on their way, and a log that only grows, on disk. */
import { createHash } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { defaultSettings, type Operation, type PrincipalSettings } from './settings.ts';

export interface KeyRow {
  readonly ref: string;
  readonly name: string | null;
  /** SHA-256 of the value, hex. */
  readonly hash: string;
  /** Kept only where the class repeats its answer. */
  readonly value: string | null;
  readonly token: string | null;
  readonly scopes: readonly string[];
  readonly owner: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly lastUsedAt: number | null;
  readonly enabled: boolean;
  readonly revokedAt: number | null;
  /** A revoke that lied: alive until the principal has had so many calls. */
  readonly dyingUntilCalls: number;
  readonly hiddenUses: number;
  readonly hiddenLists: number;
  readonly hiddenUntil: number;
}

export interface IssuerEvent {
  readonly seq: number;
  readonly at: number;
  readonly principal: string;
  readonly kind: string;
  readonly ref: string | null;
  readonly detail: { readonly [key: string]: unknown };
}

export interface LateMint {
  readonly id: number;
  readonly principal: string;
  readonly request: string;
  readonly dueCalls: number | null;
  readonly dueAt: number | null;
}

const schema = `
CREATE TABLE IF NOT EXISTS principal(id TEXT PRIMARY KEY, settings TEXT NOT NULL, calls INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE IF NOT EXISTS op_count(principal TEXT, operation TEXT, count INTEGER NOT NULL, PRIMARY KEY(principal, operation)) STRICT;
CREATE TABLE IF NOT EXISTS key(principal TEXT, ref TEXT, hash TEXT NOT NULL, token TEXT, row TEXT NOT NULL, PRIMARY KEY(principal, ref)) STRICT;
CREATE INDEX IF NOT EXISTS key_hash ON key(principal, hash);
CREATE TABLE IF NOT EXISTS late(id INTEGER PRIMARY KEY, principal TEXT NOT NULL, request TEXT NOT NULL, due_calls INTEGER, due_at REAL) STRICT;
CREATE TABLE IF NOT EXISTS event(seq INTEGER PRIMARY KEY, at REAL NOT NULL, principal TEXT NOT NULL, kind TEXT NOT NULL, ref TEXT, detail TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS event_principal ON event(principal, seq);
`;

export interface IssuerStore extends Disposable {
  transact<T>(work: () => T): T;
  settings(principal: string): PrincipalSettings;
  configure(principal: string, change: Partial<PrincipalSettings>): void;
  clone(from: string, to: string): void;
  /** Calls answered so far. */
  calls(principal: string): number;
  /** Counts one answered call; returns how many there were before. */
  countCall(principal: string): number;
  countOperation(principal: string, operation: Operation): number;
  key(principal: string, ref: string): KeyRow | null;
  keyByValue(principal: string, value: string): KeyRow | null;
  keyByToken(principal: string, token: string): KeyRow | null;
  keys(principal: string): readonly KeyRow[];
  save(principal: string, row: KeyRow): void;
  postpone(late: Omit<LateMint, 'id'>): void;
  late(principal: string): readonly LateMint[];
  landed(id: number): void;
  log(event: Omit<IssuerEvent, 'seq'>): void;
  events(principal: string, after: number): readonly IssuerEvent[];
}

export function hashOf(value: string): string {
  return createHash('sha256').update(value).digest('hex');
}

export function openIssuerStore(file: string, defaults: Partial<PrincipalSettings>): IssuerStore {
  const db = new DatabaseSync(file);
  // NORMAL: survives the end of this process by any signal; only a power cut could lose a commit.
  db.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;');
  db.exec(schema);
  const sql = {
    principal: db.prepare('SELECT settings, calls FROM principal WHERE id = ?'),
    putPrincipal: db.prepare(
      'INSERT INTO principal(id, settings) VALUES (?, ?) ON CONFLICT(id) DO UPDATE SET settings = excluded.settings',
    ),
    called: db.prepare('UPDATE principal SET calls = calls + 1 WHERE id = ? RETURNING calls'),
    counted: db.prepare(
      'INSERT INTO op_count VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
    ),
    key: db.prepare('SELECT row FROM key WHERE principal = ? AND ref = ?'),
    byHash: db.prepare('SELECT row FROM key WHERE principal = ? AND hash = ?'),
    byToken: db.prepare('SELECT row FROM key WHERE principal = ? AND token = ?'),
    keys: db.prepare('SELECT row FROM key WHERE principal = ? ORDER BY rowid'),
    save: db.prepare(
      'INSERT INTO key(principal, ref, hash, token, row) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET row = excluded.row',
    ),
    postpone: db.prepare(
      'INSERT INTO late(principal, request, due_calls, due_at) VALUES (?, ?, ?, ?)',
    ),
    late: db.prepare(
      'SELECT id, principal, request, due_calls AS dueCalls, due_at AS dueAt FROM late WHERE principal = ? ORDER BY id',
    ),
    landed: db.prepare('DELETE FROM late WHERE id = ?'),
    log: db.prepare('INSERT INTO event(at, principal, kind, ref, detail) VALUES (?, ?, ?, ?, ?)'),
    events: db.prepare('SELECT * FROM event WHERE principal = ? AND seq > ? ORDER BY seq'),
  };
  const parseKey = (found: Record<string, unknown> | undefined): KeyRow | null =>
    found === undefined ? null : (JSON.parse(String(found['row'])) as KeyRow);

  function settings(principal: string): PrincipalSettings {
    const found = sql.principal.get(principal);
    if (found !== undefined) return JSON.parse(String(found['settings'])) as PrincipalSettings;
    const fresh = { ...defaultSettings, ...defaults };
    sql.putPrincipal.run(principal, JSON.stringify(fresh));
    return fresh;
  }

  return {
    transact(work) {
      db.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        db.exec('COMMIT');
        return result;
      } catch (error) {
        db.exec('ROLLBACK');
        throw error;
      }
    },
    settings,
    configure: (principal, change) => {
      sql.putPrincipal.run(principal, JSON.stringify({ ...settings(principal), ...change }));
    },
    clone: (from, to) => {
      db.prepare('DELETE FROM key WHERE principal = ?').run(to);
      db.prepare('DELETE FROM op_count WHERE principal = ?').run(to);
      sql.putPrincipal.run(to, JSON.stringify(settings(from)));
      db.prepare(
        'INSERT INTO key SELECT ?, ref, hash, token, row FROM key WHERE principal = ?',
      ).run(to, from);
    },
    calls: (principal) => Number(sql.principal.get(principal)?.['calls'] ?? 0),
    countCall: (principal) => Number(sql.called.get(principal)?.['calls']) - 1,
    countOperation: (principal, operation) =>
      Number(sql.counted.get(principal, operation)?.['count']),
    key: (principal, ref) => parseKey(sql.key.get(principal, ref)),
    keyByValue: (principal, value) => parseKey(sql.byHash.get(principal, hashOf(value))),
    keyByToken: (principal, token) => parseKey(sql.byToken.get(principal, token)),
    keys: (principal) => sql.keys.all(principal).map((row) => parseKey(row) as KeyRow),
    save: (principal, row) => {
      sql.save.run(principal, row.ref, row.hash, row.token, JSON.stringify(row));
    },
    postpone: ({ principal, request, dueCalls, dueAt }) => {
      sql.postpone.run(principal, request, dueCalls, dueAt);
    },
    late: (principal) => sql.late.all(principal) as unknown as readonly LateMint[],
    landed: (id) => {
      sql.landed.run(id);
    },
    log: ({ at, principal, kind, ref, detail }) => {
      sql.log.run(at, principal, kind, ref, JSON.stringify(detail));
    },
    events: (principal, after) =>
      sql.events.all(principal, after).map((row) => ({
        seq: Number(row['seq']),
        at: Number(row['at']),
        principal: String(row['principal']),
        kind: String(row['kind']),
        ref: row['ref'] === null ? null : String(row['ref']),
        detail: JSON.parse(String(row['detail'])) as IssuerEvent['detail'],
      })),
    [Symbol.dispose]: () => {
      db.close();
    },
  };
}
