/** Time and randomness as arguments: the only file that reads the machine's clocks and random source. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Wall clock, milliseconds since the epoch. May jump either way. */
  now(): number;
  /** Milliseconds since the machine's boot, the same for every process on it. Never goes back within one boot. */
  monotonicMs(): number;
  /** Names the boot that `monotonicMs` counts from. */
  readonly bootId: string;
  /** Rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  bytes(length: number): Buffer;
  /** Uniform in [0, 1). */
  fraction(): number;
}

export function systemClock(): Clock {
  return {
    now: () => Date.now(),
    // CLOCK_MONOTONIC on Linux, mach_absolute_time on macOS: both count from boot, for all processes.
    monotonicMs() {
      const [seconds, nanoseconds] = process.hrtime();
      return seconds * 1_000 + Math.floor(nanoseconds / 1_000) / 1_000;
    },
    bootId: readBootId(),
    sleep: async (ms, signal) => {
      await delay(Math.max(0, ms), undefined, signal === undefined ? {} : { signal });
    },
  };
}

export function systemRandom(): Random {
  return {
    bytes: (length) => randomBytes(length),
    fraction: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  };
}

function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    // No such file off Linux: the boot instant, rounded, tells one boot from the next.
    const bootedAt = Date.now() - Number(process.hrtime.bigint() / 1_000_000n);
    return `boot-${Math.round(bootedAt / 60_000)}`;
  }
}

/** Sortable by creation instant: 12 hex digits of milliseconds, then 16 of randomness. */
export function newId(clock: Clock, random: Random): string {
  return Math.floor(clock.now()).toString(16).padStart(12, '0') + random.bytes(8).toString('hex');
}
