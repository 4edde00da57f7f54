/** A clock that only moves when a test moves it, for wall time and uptime apart. */
import type { Clock } from '../../../src/clock.ts';

export interface SimulatedClock extends Clock {
  /** Time passes: wall clock and monotonic clock together; due sleepers wake. */
  pass(ms: number): void;
  /** Somebody sets the wall clock; no time passes. */
  setWall(at: number): void;
  /** What a clock that nobody touches shows: the issuer's. */
  trueTime(): number;
  /** The machine restarts: a new boot whose monotonic clock begins anew, after `downMs` of wall time. */
  reboot(downMs: number): void;
}

export function simulatedClock(startAt: number = Date.UTC(2026, 0, 5, 12)): SimulatedClock {
  let wall = startAt;
  let untouched = startAt;
  let monotonic = 1_000;
  let boot = 1;
  let sleepers: { at: number; wake: () => void }[] = [];
  return {
    now: () => Math.floor(wall),
    monotonicMs: () => monotonic,
    get bootId() {
      return `boot-${boot}`;
    },
    sleep: (ms, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      if (signal?.aborted) return Promise.reject(signal.reason as Error);
      sleepers.push({ at: monotonic + Math.max(0, ms), wake: resolve });
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      return promise;
    },
    trueTime: () => Math.floor(untouched),
    pass: (ms) => {
      wall += ms;
      untouched += ms;
      monotonic += ms;
      const due = sleepers.filter((one) => one.at <= monotonic);
      sleepers = sleepers.filter((one) => one.at > monotonic);
      for (const one of due) one.wake();
    },
    setWall: (at) => {
      wall = at;
    },
    reboot: (downMs) => {
      boot += 1;
      monotonic = 1_000;
      wall += downMs;
      untouched += downMs;
      sleepers = [];
    },
  };
}
