/** The next instant of a cron expression in a zone: what a jump of the clock does to times of day and to intervals. */
import { type CronTable, countsElapsedTime } from './cron-table.ts';
import type { Zone } from './wall-clock.ts';

/** No clock was ever set back by more than a day. */
const setBackMost = 86_400_000;
/** Matches of one repeated hour, second by second: the most that can lie behind us and still be looked at. */
const matchesMost = 100_000;

/**
 * The first instant strictly after `after`; null where none ever comes. An expression that names hours (`30 2 * * *`) runs
 * at the first instant after a gap, and once where its hour comes twice. One that leaves the hour open (`*\/10 * * * *`)
 * counts elapsed time: it skips the gap, and runs on in the repeated hour.
 */
export function nextCron(
  crons: CronTable,
  expression: string,
  zone: Zone,
  after: number,
): number | null {
  return countsElapsedTime(expression)
    ? nextElapsed(crons, expression, zone, after)
    : nextTimeOfDay(crons, expression, zone, after);
}

function nextTimeOfDay(
  crons: CronTable,
  expression: string,
  zone: Zone,
  after: number,
): number | null {
  let local = crons.next(expression, zone.toLocal(after));
  // In a repeated hour the first matches lie behind: they ran when the clock showed them first.
  for (let match = 0; local !== null && match < matchesMost; match++) {
    const instant = zone.toInstant(local);
    if (instant > after) return instant;
    local = crons.next(expression, local);
  }
  return null;
}

function nextElapsed(
  crons: CronTable,
  expression: string,
  zone: Zone,
  after: number,
): number | null {
  let found: number | null = null;
  let local = crons.next(expression, zone.toLocal(after));
  for (let match = 0; local !== null && match < matchesMost; match++) {
    const instant = zone.instantsOf(local).find((one) => one > after);
    if (instant !== undefined) {
      found = instant;
      break;
    }
    local = crons.next(expression, local);
  }
  // Where the clock is set back before that, times that lie behind on it come again.
  const until = Math.min(found ?? Number.POSITIVE_INFINITY, after + setBackMost);
  const back = zone.transitionIn(after, until);
  if (back === null || zone.offsetAt(back) >= zone.offsetAt(after)) return found;
  const again = crons.next(expression, zone.toLocal(back) - 1);
  const instant = again === null ? undefined : zone.instantsOf(again).find((one) => one >= back);
  return instant === undefined || (found !== null && found <= instant) ? found : instant;
}
