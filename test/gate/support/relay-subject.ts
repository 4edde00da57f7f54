/** One thing that is compared in `bench -- relay`: its session, and what was measured of it round by round. */
import { median, rounded } from '../../bench/stats.ts';
import { closedLoop } from '../load/drive.ts';
import { createLedger, latencyOf, type Ledger } from '../load/ledger.ts';
import { plainDialect } from '../load/plain.ts';
import { nowMs } from '../load/server-log.ts';
import { createSession, type Session } from '../load/session.ts';
import type { Transport } from '../load/transport.ts';
import { cpuMsOf } from './processes.ts';

export interface Measured {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
  readonly cpuUsPerCall: number | null;
}

export interface Subject {
  readonly target: string;
  readonly transport: 'stdio' | 'http';
  readonly session: Session;
  /** Of the process that the client talks to, where that is a relay of this machine that can be told. */
  readonly pid: number | null;
  readonly ledger: Ledger;
  /** By number of callers. */
  readonly rounds: ReadonlyMap<number, Measured[]>;
}

export const callerCounts = [1, 16];

export async function openSubject(
  target: string,
  transport: 'stdio' | 'http',
  wire: Transport,
  pid: number | undefined,
): Promise<Subject> {
  const ledger = createLedger(`${target}-${transport}`);
  const session = createSession(plainDialect('legacy'), wire, ledger);
  await session.open();
  const rounds = new Map(callerCounts.map((callers) => [callers, []]));
  return { target, transport, session, ledger, rounds, pid: pid ?? null };
}

export async function measure(
  { session, ledger, pid }: Subject,
  callers: number,
  forMs: number,
): Promise<Measured> {
  const from = ledger.calls.length;
  const fromMs = nowMs();
  const cpuFromMs = pid === null ? null : cpuMsOf(pid);
  const drive = closedLoop(session, callers);
  await new Promise((resolve) => setTimeout(resolve, forMs));
  await drive.stop();
  const tookMs = nowMs() - fromMs;
  const cpuMs = pid === null || cpuFromMs === null ? null : cpuMsOf(pid) - cpuFromMs;
  const calls = ledger.calls.slice(from);
  const { p50, p99 } = latencyOf(
    calls.map(
      ({ sentAtMs, answeredAtMs }) => (answeredAtMs ?? Number.POSITIVE_INFINITY) - sentAtMs,
    ),
    4,
  );
  const perSecond = (calls.length * 1_000) / tookMs;
  return {
    p50,
    p99,
    perSecond,
    cpuUsPerCall: cpuMs === null ? null : (cpuMs * 1_000) / calls.length,
  };
}

export function cpuOf(rounds: readonly Measured[]): number | null {
  const values = rounds.flatMap(({ cpuUsPerCall }) => cpuUsPerCall ?? []);
  return values.length === 0 ? null : rounded(median(values));
}

export function find(
  all: readonly Subject[],
  target: string,
  transport: string,
): Subject | undefined {
  return all.find((one) => one.target === target && one.transport === transport);
}

/** The median of each round's ratio. */
export function ratio(
  one: Subject,
  other: Subject,
  callers: number,
  of: 'perSecond' | 'p99',
): number {
  const others = other.rounds.get(callers) ?? [];
  const ratios = (one.rounds.get(callers) ?? []).map(
    (measured, round) => measured[of] / (others[round]?.[of] ?? Number.NaN),
  );
  return rounded(median(ratios), 3);
}
