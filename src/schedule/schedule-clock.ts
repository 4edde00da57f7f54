/** The time that schedules run on: the wall clock, except that it never goes back. */

export interface ClockReading {
  /** The newest wall instant that was ever journalled; 0 where none was. */
  readonly newestInstantAt: number;
  /** What the wall clock shows. */
  readonly wallNow: number;
  /** Monotonic time since the newest instant was journalled; 0 where it was journalled in another boot. */
  readonly elapsedMs: number;
}

export interface ScheduleTime {
  /** Never less than for an earlier reading of the same journal. */
  readonly now: number;
  /** How far the wall clock is behind; 0 where it is not. */
  readonly setBackMs: number;
  /** It was set back by more than drift and leap seconds explain: status warns. */
  readonly isSetBack: boolean;
}

/** NTP steps and the granularity of journalled instants stay below it. */
const toleratedMs = 60_000;

/** After a clock was set back, time goes on from where it had been. */
export function scheduleClock({ newestInstantAt, wallNow, elapsedMs }: ClockReading): ScheduleTime {
  const floor = newestInstantAt + Math.max(0, elapsedMs);
  const setBackMs = Math.max(0, floor - wallNow);
  return { now: Math.max(wallNow, floor), setBackMs, isSetBack: setBackMs > toleratedMs };
}
