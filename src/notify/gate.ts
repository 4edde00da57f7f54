/** Which notices are left out: repeats of what was said lately, and whatever is too much in a minute. */
import type { Clock } from '../clock.ts';

export interface GateLimits {
  /** The same notice is said again only after this; an hour where absent. */
  readonly repeatMs?: number;
  /** So many in a minute at most, whatever they say; 30 where absent: a person reads no more. */
  readonly perMinuteMost?: number;
}

export interface Pass {
  /** How many were left out since the last that passed. */
  readonly suppressed: number;
  readonly at: number;
}

export interface Gate {
  /** null: leave it out. */
  enter(key: string): Pass | null;
  /** It passed but was not delivered after all. */
  undo(key: string, pass: Pass): void;
}

/** Repeats are remembered for so many different notices; the oldest is forgotten first. */
const keysMost = 10_000;
const minuteMs = 60_000;

export function createGate(
  clock: Pick<Clock, 'monotonicMs'>,
  { repeatMs = 3_600_000, perMinuteMost = 30 }: GateLimits = {},
): Gate {
  const saidAt = new Map<string, number>();
  let recent: number[] = [];
  let suppressed = 0;
  return {
    enter(key) {
      const at = clock.monotonicMs();
      recent = recent.filter((each) => at - each < minuteMs);
      const last = saidAt.get(key);
      if ((last !== undefined && at - last < repeatMs) || recent.length >= perMinuteMost) {
        suppressed += 1;
        return null;
      }
      saidAt.delete(key);
      saidAt.set(key, at);
      for (const oldest of saidAt.keys()) {
        if (saidAt.size <= keysMost) break;
        saidAt.delete(oldest);
      }
      recent.push(at);
      const pass = { suppressed, at };
      suppressed = 0;
      return pass;
    },
    undo(key, pass) {
      if (saidAt.get(key) === pass.at) saidAt.delete(key);
      suppressed += pass.suppressed;
    },
  };
}
