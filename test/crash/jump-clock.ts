/** A clock that several processes share and that a test moves on by hand: the machine's own, plus an offset kept in a file. */
import { readFileSync, writeFileSync } from 'node:fs';
import { systemClock, type Clock } from '../../src/clock.ts';

export interface JumpClock extends Clock {
  /** For every process on this file: waits and leases pass by without anybody waiting. */
  jump(ms: number): void;
  /** What other processes did to the file meanwhile. */
  refresh(): void;
}

/** Sleeps are real: what sleeps here are deadlines of calls on loopback, which must not pass by themselves. */
export function openJumpClock(file: string): JumpClock {
  const real = systemClock();
  let offsetMs = readOffset(file);
  return {
    ...real,
    monotonicMs: () => real.monotonicMs() + offsetMs,
    jump: (ms) => {
      offsetMs = readOffset(file) + ms;
      writeFileSync(file, String(offsetMs));
    },
    refresh: () => {
      offsetMs = readOffset(file);
    },
  };
}

function readOffset(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
}
