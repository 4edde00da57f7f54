/** From both ends' records: when each new process took over, what was in flight then, and who still used an old key. */
import type { Call } from '../load/ledger.ts';
import type { ServerLog } from '../load/server-log.ts';

export interface Flip {
  readonly pid: number;
  readonly key: string;
  /** The earliest instant at which a call was sent that was served under the new key. */
  readonly atMs: number;
  /** Calls sent before and answered after it. */
  readonly inFlight: number;
}

/** One for each process, or key within a process, but the first that got a call; nothing is asked of the gate. */
export function flipsOf(calls: readonly Call[], log: ServerLog): readonly Flip[] {
  const byId = new Map(calls.map((call) => [call.id, call]));
  const firstSent = new Map<string, { pid: number; key: string; atMs: number }>();
  for (const [id, uses] of log.uses()) {
    const call = byId.get(id);
    const first = uses[0];
    if (call === undefined || first === undefined) continue;
    const { pid, key } = first;
    const known = firstSent.get(`${pid} ${key}`);
    if (known === undefined || call.sentAtMs < known.atMs) {
      firstSent.set(`${pid} ${key}`, { pid, key, atMs: call.sentAtMs });
    }
  }
  const starts = [...firstSent.values()].sort((one, other) => one.atMs - other.atMs).slice(1);
  return starts.map(({ pid, key, atMs }) => ({
    pid,
    key,
    atMs,
    inFlight: calls.filter(
      ({ sentAtMs, answeredAtMs, cancelledAtMs }) =>
        sentAtMs < atMs && (answeredAtMs ?? cancelledAtMs ?? Infinity) > atMs,
    ).length,
  }));
}

/** Calls that were sent after a generation was reported as adopted, and got an older key. */
export function oldKeyUses(
  calls: readonly Call[],
  log: ServerLog,
  adoptions: readonly { readonly generation: number; readonly atMs: number }[],
  keys: readonly string[],
): number {
  const generationOf = new Map(keys.map((key, at) => [key, at + 1]));
  let at = 0;
  let least = 0;
  let count = 0;
  for (const call of calls) {
    for (let next = adoptions[at]; next !== undefined && next.atMs < call.sentAtMs; ) {
      least = next.generation;
      at += 1;
      next = adoptions[at];
    }
    const uses = log.usesOf(call.id);
    if (uses.some(({ key }) => (generationOf.get(key) ?? 0) < least)) count += 1;
  }
  return count;
}
