/** Every call of a run and what became of it; the only judge of failed, lost, doubled and mismatched. */
import { percentile, rounded } from '../../bench/stats.ts';
import { nowMs, type Owed, type ServerLog } from './server-log.ts';

export type Kind =
  | 'plain'
  | 'progress'
  | 'long'
  | 'cancel'
  | 'elicitation'
  | 'sampling'
  | 'subscription'
  | 'list'
  | 'read'
  | 'env'
  | 'ping';

export interface Call {
  /** Unique in the run; the server logs it. */
  readonly id: string;
  readonly kind: Kind;
  /** When it should have been sent (open loop): latency counts from here. */
  readonly dueAtMs: number;
  sentAtMs: number;
  /** Null while it waits. */
  answeredAtMs: number | null;
  answers: number;
  cancelledAtMs: number | null;
  verdict: Verdict | null;
  /** Requests that it takes: two where the server asks back by `input_required`. */
  rounds: number;
}

/** `refused`: an error or an error result. `wrong`: an answer that is not this call's, or not what it must be. */
export type Verdict =
  | { readonly is: 'ok' }
  | { readonly is: 'refused' | 'wrong'; readonly why: string };

export const fine: Verdict = { is: 'ok' };

export interface Totals {
  readonly calls: Readonly<Partial<Record<Kind, number>>>;
  readonly total: number;
  readonly failed: number;
  readonly lost: number;
  readonly doubled: number;
  readonly mismatched: number;
  /** Cancelled calls whose cancellation did not reach the process that had the call. */
  readonly cancelsLost: number;
  /** The first few of each, for a person. */
  readonly problems: readonly string[];
}

/** So many problems are told word for word. */
const problemsMax = 12;

export interface Ledger {
  readonly calls: readonly Call[];
  begin(kind: Kind, dueAtMs?: number): Call;
  answered(call: Call, verdict: Verdict): void;
  /** Its caller wants it no more: an answer may still come, and need not. */
  cancelled(call: Call): void;
  /** An answer that no open call asked for. */
  stray(what: string): void;
  /** Resolves when nothing waits any more, or after `withinMs`: what then waits is lost. */
  settle(withinMs: number): Promise<void>;
  waiting(): number;
  totals(log: ServerLog | null): Totals;
  /** What must stand in the servers' log once they have written everything down. */
  owed(): Owed;
  /** Of plain calls that were due in this span, in milliseconds. */
  latencies(fromMs: number, toMs: number): readonly number[];
}

export function createLedger(run: string, now: () => number = nowMs): Ledger {
  const calls: Call[] = [];
  const strays: string[] = [];
  const waiters = new Set<() => void>();
  let open = 0;
  const closeOne = () => {
    open -= 1;
    if (open === 0) for (const done of waiters) done();
  };
  return {
    calls,
    begin: (kind, dueAtMs) => {
      const at = now();
      const call: Call = {
        id: `${run}-${calls.length}`,
        kind,
        dueAtMs: dueAtMs ?? at,
        sentAtMs: at,
        answeredAtMs: null,
        answers: 0,
        cancelledAtMs: null,
        verdict: null,
        rounds: 1,
      };
      calls.push(call);
      open += 1;
      return call;
    },
    answered: (call, verdict) => {
      call.answers += 1;
      if (call.answers > 1) return;
      call.answeredAtMs = now();
      call.verdict = verdict;
      if (call.cancelledAtMs === null) closeOne();
    },
    cancelled: (call) => {
      call.cancelledAtMs = now();
      if (call.answers === 0) closeOne();
    },
    stray: (what) => strays.push(what),
    waiting: () => open,
    settle: (withinMs) =>
      new Promise((resolve) => {
        if (open === 0) return resolve();
        const done = () => {
          clearTimeout(timer);
          waiters.delete(done);
          resolve();
        };
        const timer = setTimeout(done, withinMs);
        waiters.add(done);
      }),
    totals: (log) => totalsOf(calls, strays, log),
    owed: () => ({
      calls: calls.flatMap(({ id, verdict }) => (verdict?.is === 'ok' ? [id] : [])),
      cancelled: calls.flatMap(({ id, answers, cancelledAtMs }) =>
        answers === 0 && cancelledAtMs !== null ? [id] : [],
      ),
    }),
    latencies: (fromMs, toMs) =>
      calls
        .filter(
          ({ kind, dueAtMs, answeredAtMs }) =>
            kind === 'plain' && answeredAtMs !== null && dueAtMs >= fromMs && dueAtMs < toMs,
        )
        .map(({ dueAtMs, answeredAtMs }) => (answeredAtMs as number) - dueAtMs),
  };
}

function totalsOf(
  calls: readonly Call[],
  strays: readonly string[],
  log: ServerLog | null,
): Totals {
  const counts: Partial<Record<Kind, number>> = {};
  const problems: string[] = [];
  const sums = { failed: 0, lost: 0, doubled: 0, mismatched: strays.length, cancelsLost: 0 };
  const note = (sum: keyof typeof sums, why: string) => {
    sums[sum] += 1;
    if (problems.length < problemsMax) problems.push(`${sum}: ${why}`);
  };
  for (const what of strays.slice(0, 3)) problems.push(`mismatched: ${what}`);
  for (const call of calls) {
    counts[call.kind] = (counts[call.kind] ?? 0) + 1;
    const name = `${call.kind} ${call.id}`;
    if (call.answers > 1) note('doubled', `${name} was answered ${call.answers} times`);
    if (call.verdict === null) {
      if (call.cancelledAtMs === null) note('lost', `${name} was never answered`);
    } else if (call.verdict.is === 'refused') note('failed', `${name}: ${call.verdict.why}`);
    else if (call.verdict.is === 'wrong') note('mismatched', `${name}: ${call.verdict.why}`);
    if (log === null) continue;
    const uses = log.usesOf(call.id);
    const most = Math.max(0, ...countBy(uses.map(({ what }) => what)));
    if (most > 1) note('doubled', `${name} reached the server ${most} times`);
    if (uses.length === 0 && call.verdict?.is === 'ok') {
      note('mismatched', `${name} was answered, and no server saw it`);
    }
    // One that never came to a server need not be cancelled there.
    const isOwed = call.cancelledAtMs !== null && call.answers === 0 && uses.length > 0;
    if (isOwed && !log.cancelReached(call.id)) {
      note('cancelsLost', `${name}: its cancellation did not reach the process that had it`);
    }
  }
  return { calls: counts, total: calls.length, ...sums, problems };
}

function countBy(values: readonly string[]): readonly number[] {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts.values()];
}

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** Throws where nothing was measured. */
export function latencyOf(values: readonly number[], digits = 2): Latency {
  const at = (share: number) => rounded(percentile(values, share), digits);
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) };
}
