/** When a secret is rotated next: its trigger, moved by window, freeze and splay, and forced by age and expiry. */
import { createHash } from 'node:crypto';
import { type CronTable, createCronTable } from './cron-table.ts';
import type { Schedule } from '../policy/policy.ts';
import { isAllowed, stretchAfter, stretchBefore } from './allowed.ts';
import { nextCron } from './next-cron.ts';
import { createZones, type Zone } from './wall-clock.ts';

/** What the journal knows of a secret: the same shape as the rotation's port has. */
export interface DueContext {
  /** The schedule's clock: wall time that never goes back. */
  readonly now: number;
  /** The instant the schedule last fired, whether or not a rotation came of it; null when it never did. */
  readonly firedAt: number | null;
  /** When current was promoted; null before the first. */
  readonly currentSince: number | null;
  /** When the current credential expires by itself, as the issuer says. */
  readonly expiresAt: number | null;
  /** Since when this schedule stands: nothing before it was missed, and an interval counts from it where nothing is current. */
  readonly knownSince: number;
}

export interface Scheduler {
  /**
   * The next due instant, epoch milliseconds; null where the schedule never fires by itself. `context.now` where a missed
   * run is made good at once; else later than that, and always later than `context.firedAt`. The same arguments give the
   * same instant. `seed`: what the splay is drawn from; secrets of one group share the group's name, to fall due together.
   */
  nextDue(schedule: Schedule, context: DueContext, seed: string): number | null;
  /** The next instants in order, as if each rotation succeeded when it fell due. */
  nextRuns(schedule: Schedule, context: DueContext, seed: string, count: number): readonly number[];
  /** Whether a scheduled rotation may begin now: inside the window, outside every freeze. */
  mayBegin(schedule: Schedule, now: number): boolean;
}

/** What a computation needs of the machine-wide tables. */
interface Tools {
  readonly crons: CronTable;
  readonly zone: Zone;
}

interface Question extends Tools {
  readonly schedule: Schedule;
  readonly context: DueContext;
  readonly seed: string;
}

const hour = 3_600_000;
const day = 24 * hour;
/** Rotate when a third of its life is left, as cert-manager does: time for retries, adoption and grace. */
const lifetimeUsed = 2 / 3;
/** No forced run in the first half of the span that forces it: a window may be early, but not so early that runs never end. */
const earliestShare = 1 / 2;

/** Holds one Cron for each distinct expression and one formatter for each zone; it knows no time and no policy. */
export function createScheduler(): Scheduler {
  const crons = createCronTable();
  const zones = createZones();
  const ask = (schedule: Schedule, context: DueContext, seed: string): Question => ({
    crons,
    zone: zones.get(schedule.timezone),
    schedule,
    context,
    seed,
  });
  const nextDue: Scheduler['nextDue'] = (schedule, context, seed) => {
    const question = ask(schedule, context, seed);
    return earlier(regular(question), forced(question));
  };
  return {
    nextDue,
    nextRuns(schedule, context, seed, count) {
      const runs: number[] = [];
      let state = context;
      while (runs.length < count) {
        const due = nextDue(schedule, state, seed);
        if (due === null) break;
        runs.push(due);
        state = succeeded(state, due);
      }
      return runs;
    },
    mayBegin: (schedule, now) => isAllowed(schedule, zones.get(schedule.timezone), now),
  };
}

/** What the trigger asks for. */
function regular(question: Question): number | null {
  const { schedule, context } = question;
  const { now, firedAt, currentSince, knownSince } = context;
  // What fell due before the last run, before a rotation by hand or before anybody knew the schedule is nobody's loss.
  const floor = Math.max(
    knownSince,
    firedAt ?? Number.NEGATIVE_INFINITY,
    currentSince ?? Number.NEGATIVE_INFINITY,
  );
  const youngest =
    currentSince === null || schedule.ageMinMs === null
      ? floor
      : Math.max(floor, currentSince + schedule.ageMinMs - 1);
  const base = nextBase(question, youngest);
  if (base === null) return null;
  const due = place(question, base);
  if (due === null || due > now) return due;
  const next = nextBase(question, Math.max(now, youngest));
  const onTime = next === null ? null : place(question, next);
  switch (schedule.missed) {
    case 'skip':
      return onTime;
    case 'once':
      return earlier(chance(question, now, base), onTime);
    default:
      return schedule.missed satisfies never;
  }
}

/** The first instant of the bare trigger strictly after `after`. */
function nextBase({ schedule, context, crons, zone }: Question, after: number): number | null {
  const { trigger } = schedule;
  switch (trigger.kind) {
    case 'cron':
      return nextCron(crons, trigger.expression, zone, after);
    case 'every': {
      const anchor = context.currentSince ?? context.knownSince;
      const count = Math.max(1, Math.floor((after - anchor) / trigger.everyMs) + 1);
      return anchor + count * trigger.everyMs;
    }
    case 'manual':
      return null;
    default:
      return trigger satisfies never;
  }
}

/** An instant moved to where a rotation may begin, and by its share of the splay, but not out of there. */
function place(question: Question, base: number): number | null {
  const { schedule, zone } = question;
  const stretch = stretchAfter(schedule, zone, base);
  if (stretch === null) return null;
  return stretch.from + delay(question, base, stretch.to - stretch.from);
}

/**
 * The next chance for a run that was missed. Each secret has a fixed moment in every splay, so that asking again later
 * does not put it off: a daemon that restarts all the time still gets to it.
 */
function chance(question: Question, now: number, base: number): number | null {
  const { schedule, zone } = question;
  const stretch = stretchAfter(schedule, zone, now);
  if (stretch === null) return null;
  if (stretch.from > now || schedule.splayMs === 0) {
    return stretch.from + delay(question, base, stretch.to - stretch.from);
  }
  const moment = delay(question, base, schedule.splayMs);
  const sinceMoment = (((now - moment) % schedule.splayMs) + schedule.splayMs) % schedule.splayMs;
  const due = sinceMoment === 0 ? now : now + schedule.splayMs - sinceMoment;
  return due < stretch.to ? due : now;
}

/** What age or expiry ask for, whatever the trigger says; also for one that rotates only when asked. */
function forced(question: Question): number | null {
  const { schedule, context } = question;
  const { currentSince, knownSince, expiresAt } = context;
  const byAge =
    schedule.ageMaxMs === null || currentSince === null
      ? null
      : force(question, currentSince, currentSince + schedule.ageMaxMs, schedule.ageMinMs ?? 0);
  const start = Math.min(currentSince ?? knownSince, expiresAt ?? Number.POSITIVE_INFINITY);
  const byExpiry =
    expiresAt === null
      ? null
      : force(question, start, Math.floor(start + (expiresAt - start) * lifetimeUsed), 0);
  return earlier(byAge, byExpiry);
}

function force(question: Question, start: number, limit: number, ageMinMs: number): number | null {
  const { now, firedAt } = question.context;
  const due = placeLimit(question, start, limit, ageMinMs);
  if (due === null) return null;
  if (firedAt !== null && firedAt >= due) {
    // It fired and the credential is still the old one: try again, the sooner the shorter its life.
    const again = firedAt + Math.min(day, Math.max(hour, (limit - start) / 10));
    const retry = place(question, Math.ceil(again));
    return retry !== null && retry <= now ? chance(question, now, limit) : retry;
  }
  return due > now ? due : chance(question, now, limit);
}

/** At the limit or before it; after it only where nothing before is allowed. */
function placeLimit(
  question: Question,
  start: number,
  limit: number,
  ageMinMs: number,
): number | null {
  const { schedule, zone, seed } = question;
  const notBefore = Math.ceil(start + Math.max(ageMinMs, (limit - start) * earliestShare));
  if (isAllowed(schedule, zone, limit)) {
    const stretch = stretchBefore(schedule, zone, limit, notBefore);
    const room = stretch === null ? 0 : limit - stretch.from;
    return limit - spread(seed, limit, Math.min(schedule.splayMs, room));
  }
  const before = stretchBefore(schedule, zone, limit, notBefore);
  if (before === null) return place(question, limit);
  return before.from + delay(question, limit, before.to - before.from);
}

/** Its share of the splay, below `room`. */
function delay({ schedule, seed }: Question, base: number, room: number): number {
  return spread(seed, base, Math.min(schedule.splayMs, room));
}

/** Evenly in [0, spanMs), the same for the same seed and instant; in whole seconds where there is room for them. */
function spread(seed: string, instant: number, spanMs: number): number {
  if (spanMs <= 0) return 0;
  const hash = createHash('sha256').update(`${seed}\0${instant}`).digest();
  const offset = Math.floor((hash.readUIntBE(0, 6) / 2 ** 48) * spanMs);
  return spanMs >= 10_000 ? offset - (offset % 1_000) : offset;
}

function succeeded(state: DueContext, at: number): DueContext {
  const { expiresAt, currentSince, knownSince } = state;
  const life = expiresAt === null ? null : expiresAt - (currentSince ?? knownSince);
  return {
    ...state,
    now: at,
    firedAt: at,
    currentSince: at,
    expiresAt: life === null || life <= 0 ? null : at + life,
  };
}

function earlier(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
