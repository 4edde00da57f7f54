/** When a rotation may begin: inside the window and outside every freeze, as stretches of time. */
import type { Schedule, Weekday } from '../policy/policy.ts';
import type { LocalMs, Zone } from './wall-clock.ts';

/** A stretch in which a rotation may begin; the end is not part of it. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
}

type Limits = Pick<Schedule, 'window' | 'freeze'>;

const day = 86_400_000;
const weekdays: readonly Weekday[] = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
/** A window opens at least once a week, but one of its nights may be lost to a gap. */
const windowDays = 15;
/** More freezes follow each other than any calendar has. */
const stretchesMost = 1_000;

/** The first stretch that ends after `instant`, from `instant` on; null where freezes leave none. */
export function stretchAfter(limits: Limits, zone: Zone, instant: number): Stretch | null {
  let from = instant;
  for (let round = 0; round < stretchesMost; round++) {
    const open = windowAfter(limits, zone, from);
    if (open === null) return null;
    const start = Math.max(open.from, from);
    const freeze = freezeAt(limits, zone, start);
    if (freeze !== null) {
      from = freeze.to;
      continue;
    }
    return { from: start, to: Math.min(open.to, nextFreeze(limits, zone, start)) };
  }
  return null;
}

/** The last stretch that begins before `instant` and ends after `notBefore`, cut to what lies between them. */
export function stretchBefore(
  limits: Limits,
  zone: Zone,
  instant: number,
  notBefore: number,
): Stretch | null {
  // From the front in steps of a window: a span has few, and what was skipped need not be right.
  let last: Stretch | null = null;
  let from = Math.max(notBefore, instant - windowDays * day);
  for (let round = 0; round < stretchesMost; round++) {
    const stretch = stretchAfter(limits, zone, from);
    if (stretch === null || stretch.from >= instant) break;
    last = { from: stretch.from, to: Math.min(stretch.to, instant) };
    from = stretch.to;
  }
  if (last !== null || instant - windowDays * day <= notBefore) return last;
  // Frozen for longer than two weeks: look from the beginning.
  return firstBefore(limits, zone, instant, notBefore);
}

export function isAllowed(limits: Limits, zone: Zone, instant: number): boolean {
  return stretchAfter(limits, zone, instant)?.from === instant;
}

function firstBefore(
  limits: Limits,
  zone: Zone,
  instant: number,
  notBefore: number,
): Stretch | null {
  // The freeze that covers the fortnight began somewhere: what lies just before it is the last chance.
  const freeze = limits.freeze
    .map((one) => span(one, zone))
    .filter(({ from, to }) => from > notBefore && from < instant && to > instant - windowDays * day)
    .sort((a, b) => a.from - b.from)[0];
  return freeze === undefined ? null : stretchBefore(limits, zone, freeze.from, notBefore);
}

/** The window that is open at `instant` or opens next; without a window all time is one. */
function windowAfter({ window }: Limits, zone: Zone, instant: number): Stretch | null {
  if (window === null) return { from: Number.NEGATIVE_INFINITY, to: Number.POSITIVE_INFINITY };
  const [opens, closes] = [timeOfDay(window.from), timeOfDay(window.to)];
  const today = startOfDay(zone.toLocal(instant));
  // Yesterday's may still be open.
  for (let offset = -1; offset < windowDays; offset++) {
    const date: LocalMs = today + offset * day;
    const weekday = weekdays[new Date(date).getUTCDay()];
    if (weekday === undefined || !window.days.includes(weekday)) continue;
    const from = zone.toInstant(date + opens);
    const to = zone.toInstant(date + closes + (closes <= opens ? day : 0));
    // Empty where the clock jumps over the whole of it.
    if (to > instant && to > from) return { from, to };
  }
  return null;
}

function freezeAt({ freeze }: Limits, zone: Zone, instant: number): Stretch | null {
  let found: Stretch | null = null;
  for (const one of freeze) {
    const { from, to } = span(one, zone);
    if (from <= instant && instant < to && (found === null || to > found.to)) found = { from, to };
  }
  return found;
}

function nextFreeze({ freeze }: Limits, zone: Zone, instant: number): number {
  return Math.min(
    Number.POSITIVE_INFINITY,
    ...freeze.map((one) => span(one, zone).from).filter((from) => from > instant),
  );
}

function span(freeze: Schedule['freeze'][number], zone: Zone): Stretch {
  return { from: instantOf(freeze.from, zone), to: instantOf(freeze.to, zone) };
}

function instantOf(text: string, zone: Zone): number {
  return zone.toInstant(Date.parse(`${text}Z`));
}

function timeOfDay(text: string): number {
  const [hours = 0, minutes = 0] = text.split(':').map(Number);
  return (hours * 60 + minutes) * 60_000;
}

function startOfDay(local: LocalMs): LocalMs {
  return Math.floor(local / day) * day;
}
