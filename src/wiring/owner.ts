/** Owning a state directory: how the lease is taken, waited for, kept, and what is done when it is lost. */
import { hostname } from 'node:os';
import type { Clock } from '../clock.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import type { Journal, Lease } from '../journal/journal.ts';
import type { Log } from '../rotation/ports.ts';

/** How long a hung owner keeps others out. */
export const leaseTtlMs = 15_000;
export const renewEveryMs = 3_000;
/** Shorter than what is left of the lease whenever a call begins: a call must not outlive the right to make it. */
export const callDeadlineMs = leaseTtlMs - renewEveryMs - 500;
/** How often a waiting process looks whether the lease has ended. */
const lookEveryMs = 100;

export interface Ownership {
  readonly fence: number;
  /** The process whose lease ran out without a word: hung or stopped. null where nobody was in the way. */
  readonly takenFrom: { readonly pid: number; readonly what: string } | null;
  /** Aborted with a `fence-lost` error when another process has taken over, or the lease cannot be renewed. */
  readonly lost: AbortSignal;
  /** The last renewal, on `clock.monotonicMs()`. */
  renewedAtMs(): number;
  /** Ends the lease at once, so that the next owner need not wait. */
  release(): Promise<void>;
}

export interface OwnOptions {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly log: Log;
  /** `rotated`, `rotate run`: who owns it, for messages. */
  readonly what: string;
  readonly signal: AbortSignal;
  /** Called once, when the lease of another process has to run out first. */
  readonly onWait?: (holder: { readonly pid: number; readonly what: string }) => void;
  readonly onRenewed?: () => void;
}

/**
 * Takes the lease. One that is not renewed is waited for, at most its own length; one that is renewed belongs to a process
 * that lives: throws `state-busy`, naming it.
 */
export async function takeOwnership(options: OwnOptions): Promise<Ownership> {
  const { journal } = options;
  const before = await journal.currentLease();
  let waited = false;
  for (;;) {
    try {
      const lease = await journal.acquire(
        { pid: process.pid, host: hostname(), what: options.what },
        leaseTtlMs,
      );
      const hung =
        before !== null && (waited || isHung(before, options.clock)) ? before.holder : null;
      return keep(lease, options, hung === null ? null : { pid: hung.pid, what: hung.what });
    } catch (error) {
      if (!isRotatedError(error, 'state-busy')) throw error;
    }
    const lease = await journal.currentLease();
    if (lease !== null && (before === null || isRenewed(before, lease))) throw busy(lease);
    if (!waited && before !== null) options.onWait?.(before.holder);
    waited = true;
    await options.clock.sleep(lookEveryMs, options.signal);
  }
}

function isRenewed(before: Lease, now: Lease): boolean {
  return now.fence !== before.fence || now.untilMonotonicMs > before.untilMonotonicMs;
}

/** Its lease ran out and it still is: it hangs. One that is gone was ended, which is nobody's concern. For messages. */
function isHung({ holder, bootId }: Lease, clock: Clock): boolean {
  if (bootId !== clock.bootId || holder.host !== hostname() || holder.pid === process.pid) {
    return false;
  }
  try {
    process.kill(holder.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function busy({ holder }: Lease): RotatedError {
  return new RotatedError(
    'state-busy',
    `${holder.what} (process ${holder.pid}) on ${holder.host} owns this state directory.`,
    { next: `Ask it with rotate, or stop it first: kill ${holder.pid}` },
  );
}

function keep(
  lease: Lease,
  { journal, clock, log, onRenewed }: OwnOptions,
  takenFrom: Ownership['takenFrom'],
): Ownership {
  const { fence } = lease;
  const lost = new AbortController();
  const done = new AbortController();
  let renewedAtMs = clock.monotonicMs();

  async function renewForEver(): Promise<void> {
    while (!done.signal.aborted) {
      await clock.sleep(renewEveryMs, done.signal);
      try {
        await journal.renew(fence, leaseTtlMs);
        renewedAtMs = clock.monotonicMs();
        onRenewed?.();
      } catch (thrown) {
        const error = asRotatedError(thrown, 'none');
        // A full disk may pass; a lease that ran out meanwhile is noticed by the guard before every change outside.
        const over = clock.monotonicMs() - renewedAtMs > leaseTtlMs;
        log.error({ code: error.code, fence, over }, 'lease not renewed');
        if (error.code === 'fence-lost' || over) {
          lost.abort(error);
          return;
        }
      }
    }
  }
  // Ends by the abort in `release`, which is no failure.
  const renewing = renewForEver().catch(() => undefined);

  return {
    fence,
    takenFrom,
    lost: lost.signal,
    renewedAtMs: () => renewedAtMs,
    release: async () => {
      done.abort();
      await renewing;
      if (lost.signal.aborted) return;
      try {
        await journal.release(fence);
      } catch (thrown) {
        // It ends by itself; the next owner waits a little longer.
        log.warn({ code: asRotatedError(thrown, 'none').code }, 'lease not released');
      }
    },
  };
}
