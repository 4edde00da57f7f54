/** Who owns the state and for how long, and the uptime that waits are counted on: pure rules over the state row. */
import type { Clock } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Lease, LeaseHolder } from './journal.ts';
import type { Processes } from './process.ts';
import type { StateRow } from './state-row.ts';

export function acquireLease(
  state: StateRow,
  holder: LeaseHolder,
  ttlMs: number,
  clock: Clock,
  processes: Processes,
): StateRow {
  const gone =
    state.pid !== null &&
    state.host === holder.host &&
    processes.isGone(state.pid, state.process ?? '');
  if (runs(state, clock) && !gone) {
    const leftMs = Math.ceil((state.untilMs ?? 0) - clock.monotonicMs());
    throw new RotatedError(
      'state-busy',
      `${holderName(state)} owns this state directory for another ${leftMs} ms.`,
      { next: `Stop process ${state.pid}, or wait: its lease ends if it hangs.` },
    );
  }
  return {
    ...seen(state, clock),
    fence: state.fence + 1,
    pid: holder.pid,
    host: holder.host,
    what: holder.what,
    process: processes.identity(holder.pid),
    untilMs: clock.monotonicMs() + ttlMs,
    boot: clock.bootId,
  };
}

/** A lease that ran out unclaimed may still be extended: nobody else acted meanwhile. */
export function renewLease(state: StateRow, fence: number, ttlMs: number, clock: Clock): StateRow {
  requireNewest(state, fence);
  return { ...seen(state, clock), untilMs: clock.monotonicMs() + ttlMs, boot: clock.bootId };
}

export function releaseLease(state: StateRow, fence: number, clock: Clock): StateRow {
  requireNewest(state, fence);
  return { ...seen(state, clock), untilMs: null };
}

/** For writing facts: whoever has the newest fence may still record what it did, even past the end of its lease. */
export function requireNewest(state: StateRow, fence: number): void {
  if (state.fence === fence && state.untilMs !== null) return;
  const who =
    state.fence === fence
      ? 'Nobody owns this state directory now'
      : `${holderName(state)} took this state directory over`;
  throw new RotatedError('fence-lost', `${who}: fence ${fence} is not valid any more.`, {
    next: 'Nothing is to be done: this process stops writing, the owner goes on.',
  });
}

/** For acting outside: the fence must be the newest and its lease must run. */
export function requireRunning(state: StateRow, fence: number, clock: Clock): void {
  requireNewest(state, fence);
  if (runs(state, clock)) return;
  throw new RotatedError('fence-lost', `The lease of fence ${fence} has run out.`, {
    next: 'Nothing is to be done: the lease is renewed first, or another process goes on.',
  });
}

export function leaseOf(state: StateRow): Lease | null {
  const { fence, pid, host, what, untilMs, boot } = state;
  if (pid === null || host === null || what === null || untilMs === null || boot === null) {
    return null;
  }
  return { fence, holder: { pid, host, what }, untilMonotonicMs: untilMs, bootId: boot };
}

export function uptimeOf(state: StateRow, clock: Clock): number {
  if (state.anchorBoot !== clock.bootId) return state.uptimeMs;
  return state.uptimeMs + Math.max(0, clock.monotonicMs() - state.anchorMs);
}

/** Moves the anchor to now: in another boot nothing is added, since nobody can tell how long the machine was off. */
export function seen(state: StateRow, clock: Clock): StateRow {
  return {
    ...state,
    uptimeMs: uptimeOf(state, clock),
    anchorMs: clock.monotonicMs(),
    anchorBoot: clock.bootId,
    newestWall: Math.max(state.newestWall, clock.now()),
  };
}

export function holderName(state: StateRow): string {
  return `Process ${state.pid ?? '?'} (${state.what ?? 'unknown'}) on ${state.host ?? 'this host'}`;
}

function runs(state: StateRow, clock: Clock): boolean {
  return (
    state.untilMs !== null && state.boot === clock.bootId && clock.monotonicMs() < state.untilMs
  );
}
