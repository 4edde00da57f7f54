/** The one row that every writer reads first: whose lease runs, how long the machine was up, where the audit chain ends. */
import type { Database } from './database.ts';
import type { AuditHead } from './journal.ts';

export interface StateRow {
  /** +1 with each write, by whomever: tells a copy in memory that it is stale. */
  readonly revision: number;
  readonly fence: number;
  readonly pid: number | null;
  readonly host: string | null;
  readonly what: string | null;
  /** See `Processes.identity`. */
  readonly process: string | null;
  /** null where no lease was given or it was released. */
  readonly untilMs: number | null;
  readonly boot: string | null;
  /** Journalled uptime at the anchor. */
  readonly uptimeMs: number;
  readonly anchorMs: number;
  readonly anchorBoot: string;
  readonly newestWall: number;
  readonly head: AuditHead | null;
  /** The newest audit lines, see `recent-audit.ts`. */
  readonly recent: string;
}

export function readState(database: Database): StateRow {
  const row = database.get(
    'SELECT revision, fence, pid, host, what, process, until_ms, boot, uptime_ms, anchor_ms, anchor_boot, newest_wall, head_seq, head_mac, head_proof, recent FROM state',
  );
  if (row === undefined) throw new Error('The state row is missing.');
  const seq = row['head_seq'] as number | null;
  return {
    revision: row['revision'] as number,
    fence: row['fence'] as number,
    pid: row['pid'] as number | null,
    host: row['host'] as string | null,
    what: row['what'] as string | null,
    process: row['process'] as string | null,
    untilMs: row['until_ms'] as number | null,
    boot: row['boot'] as string | null,
    uptimeMs: row['uptime_ms'] as number,
    anchorMs: row['anchor_ms'] as number,
    anchorBoot: row['anchor_boot'] as string,
    newestWall: row['newest_wall'] as number,
    head:
      seq === null
        ? null
        : { seq, mac: row['head_mac'] as string, proof: row['head_proof'] as string },
    recent: row['recent'] as string,
  };
}

/** False where the row is not at `before` any more: then nothing was written. */
export function writeState(database: Database, before: StateRow, state: StateRow): boolean {
  const { head } = state;
  if (
    state.fence === before.fence &&
    state.untilMs === before.untilMs &&
    state.anchorBoot === before.anchorBoot
  ) {
    return (
      database.run(
        'UPDATE state SET revision = revision + 1, uptime_ms = ?, anchor_ms = ?, newest_wall = ?, head_seq = ?, head_mac = ?, head_proof = ?, recent = ? WHERE id = 1 AND revision = ?',
        state.uptimeMs,
        state.anchorMs,
        state.newestWall,
        head?.seq ?? null,
        head?.mac ?? null,
        head?.proof ?? null,
        state.recent,
        before.revision,
      ) > 0
    );
  }
  return (
    database.run(
      'UPDATE state SET revision = revision + 1, fence = ?, pid = ?, host = ?, what = ?, process = ?, until_ms = ?, boot = ?, uptime_ms = ?, anchor_ms = ?, anchor_boot = ?, newest_wall = ?, head_seq = ?, head_mac = ?, head_proof = ?, recent = ? WHERE id = 1 AND revision = ?',
      state.fence,
      state.pid,
      state.host,
      state.what,
      state.process,
      state.untilMs,
      state.boot,
      state.uptimeMs,
      state.anchorMs,
      state.anchorBoot,
      state.newestWall,
      head?.seq ?? null,
      head?.mac ?? null,
      head?.proof ?? null,
      state.recent,
      before.revision,
    ) > 0
  );
}

export function stateIsAt(database: Database, revision: number): boolean {
  return database.get('SELECT revision FROM state WHERE id = 1')?.['revision'] === revision;
}
