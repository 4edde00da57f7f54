/** A clock that stands still until a run lets one sleeper after another wake, so that the order of events is the seed's. */
import type { Clock } from '../../../clock.ts';

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class StillClock implements Clock {
  readonly bootId = 'still';
  #nowMs = 0;
  readonly #sleepers = new Set<Sleeper>();

  now(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      // The promise rejects with what the signal was aborted with, as the clock's contract says.
      const abort = () => {
        this.#sleepers.delete(sleeper);
        // oxlint-disable-next-line prefer-promise-reject-errors
        reject(signal?.reason);
      };
      const sleeper: Sleeper = {
        dueMs: this.#nowMs + ms,
        wake: () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
      };
      if (signal?.aborted === true) return abort();
      signal?.addEventListener('abort', abort, { once: true });
      this.#sleepers.add(sleeper);
    });
  }

  /** Time passes, and whoever slept for less wakes, in order. */
  pass(ms: number): void {
    const untilMs = this.#nowMs + ms;
    while ((this.#next()?.dueMs ?? Infinity) <= untilMs) this.wakeNext();
    this.#nowMs = untilMs;
  }

  /** The next sleeper wakes, however far ahead that is. False where nobody sleeps. */
  wakeNext(): boolean {
    const next = this.#next();
    if (next === null) return false;
    this.#sleepers.delete(next);
    this.#nowMs = Math.max(this.#nowMs, next.dueMs);
    next.wake();
    return true;
  }

  #next(): Sleeper | null {
    let next: Sleeper | null = null;
    for (const one of this.#sleepers) if (next === null || one.dueMs < next.dueMs) next = one;
    return next;
  }

  get sleepers(): number {
    return this.#sleepers.size;
  }
}
