/** How calls are brought: as fast as callers get answers, or at a rate that waits for nobody. */
import type { Random } from '../../../src/clock.ts';
import type { Call, Kind } from './ledger.ts';
import { nowMs } from './server-log.ts';
import type { Session } from './session.ts';

/** Calls per second of each kind besides plain ones. */
export type Mix = Readonly<Partial<Record<Kind, number>>>;

export interface Drive {
  /** No new calls from now on; resolves when the last of its own is over or will never be. */
  stop(): Promise<void>;
}

/** A caller gives a plain call up after so long and goes on with another: the call is lost. */
const giveUpAfterMs = 3_000;

/** Each of so many callers has one plain call under way at any time. */
export function closedLoop(session: Session, callers: number): Drive {
  const stopping = new AbortController();
  const run = async () => {
    while (!stopping.signal.aborted && session.dead() === null) {
      await orGiveUp(session.call('plain'));
    }
  };
  const all = Promise.all(Array.from({ length: callers }, run));
  return {
    stop: async () => {
      stopping.abort();
      await all;
    },
  };
}

/**
 * Calls fall due by a schedule fixed beforehand, whatever became of those before: what a stall delays counts from the
 * instant at which it should have been sent. Each turn of the event loop sends all that is due.
 */
export function openLoop(session: Session, perSecond: number, kind: Kind = 'plain'): Drive {
  const everyMs = 1_000 / perSecond;
  const under = new Set<Promise<Call>>();
  let nextAtMs = nowMs() + everyMs;
  let timer: NodeJS.Timeout;
  const turn = () => {
    const now = nowMs();
    while (nextAtMs <= now && session.dead() === null) {
      const call = session.call(kind, nextAtMs);
      under.add(call);
      void call.then(() => under.delete(call));
      nextAtMs += everyMs;
    }
    timer = setTimeout(turn, Math.min(1, Math.max(0, nextAtMs - nowMs())));
  };
  turn();
  return {
    stop: async () => {
      clearTimeout(timer);
      await Promise.all(under);
    },
  };
}

function orGiveUp(call: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, giveUpAfterMs);
    void call.then(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Every kind of the mix at its own rate, each beginning at a random instant of its period. */
export function mixedLoop(session: Session, mix: Mix, random: Random): Drive {
  const drives: Drive[] = [];
  const timers: NodeJS.Timeout[] = [];
  for (const [kind, perSecond] of Object.entries(mix) as [Kind, number][]) {
    const begin = () => drives.push(openLoop(session, perSecond, kind));
    timers.push(setTimeout(begin, (random.fraction() * 1_000) / perSecond));
  }
  return {
    stop: async () => {
      for (const timer of timers) clearTimeout(timer);
      await Promise.all(drives.map((drive) => drive.stop()));
    },
  };
}

/** Ends each; resolves after `withinMs` at the latest, so that a lost call does not hold the test. */
export async function stopAll(drives: readonly Drive[], withinMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, withinMs);
  });
  await Promise.race([Promise.all(drives.map((drive) => drive.stop())), late]);
  clearTimeout(timer);
}
