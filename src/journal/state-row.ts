/** The one row that every writer reads first: whose lease runs, how long the machine was up, where the audit chain ends. */
import type { Database } from './database.ts';
import type { AuditHead } from './journal.ts';

export interface StateRow {
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
}

export function readState(database: Database): StateRow {
  const row = database.get(
    'SELECT fence, pid, host, what, process, until_ms, boot, uptime_ms, anchor_ms, anchor_boot, newest_wall, head_seq, head_mac, head_proof FROM state',
  );
  if (row === undefined) throw new Error('The state row is missing.');
  const seq = row['head_seq'] as number | null;
  return {
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
  };
}

export function writeState(database: Database, state: StateRow): void {
  const { head } = state;
  database.run(
    'UPDATE state SET fence = ?, pid = ?, host = ?, what = ?, process = ?, until_ms = ?, boot = ?, uptime_ms = ?, anchor_ms = ?, anchor_boot = ?, newest_wall = ?, head_seq = ?, head_mac = ?, head_proof = ? WHERE id = 1',
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
  );
}
