/** Cron expressions as they are: on a wall clock without a zone, where no hour is missing and none comes twice. */
import { Cron } from 'croner';

export interface CronTable {
  /**
   * The next match strictly after a wall-clock instant, both as milliseconds that read as UTC; null where none ever comes.
   * The expression must have passed `cronMistake`.
   */
  next(expression: string, afterLocalMs: number): number | null;
}

/** A Cron costs 83 KB: so many are kept for the expressions last used, and a new one takes 17 µs. */
const keptMost = 256;

/** One Cron per distinct expression, shared by all zones: zones are counted in elsewhere. Owned by the caller. */
export function createCronTable(most: number = keptMost): CronTable {
  const crons = new Map<string, Cron>();
  return {
    next(expression, afterLocalMs) {
      let cron = crons.get(expression);
      if (cron === undefined) cron = open(expression);
      else crons.delete(expression);
      // Last used, last in order: the first is the one to let go.
      crons.set(expression, cron);
      if (crons.size > most) {
        const oldest = crons.keys().next();
        if (oldest.done !== true) crons.delete(oldest.value);
      }
      return cron.nextRun(new Date(afterLocalMs))?.getTime() ?? null;
    },
  };
}

/** What is wrong with the expression as written; null where nothing is. */
export function cronMistake(expression: string): string | null {
  const fields = expression.trim().split(/\s+/);
  if (expression.trim() === '' || fields.length < 5 || fields.length > 6) {
    return `a cron expression has five fields (minute hour day month weekday), or six with seconds first; here are ${expression.trim() === '' ? 0 : fields.length}`;
  }
  // Croner reads "?" as the moment at which the expression is parsed: the schedule would move with each restart.
  if (expression.includes('?')) return '"?" has no fixed meaning: write "*"';
  try {
    open(expression);
    return null;
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^CronPattern: /, '') : '';
    const known = /^Invalid value for \w+: [\w-]{1,12}/.exec(reason);
    return known === null
      ? 'this is no cron expression'
      : known[0].replace(/^Invalid value for (\w+): (.*)$/, 'the $1 cannot be $2');
  }
}

/** Whether hours are left open (`*`, `*\/2`): such a schedule counts elapsed time, the others name times of day. */
export function countsElapsedTime(expression: string): boolean {
  const fields = expression.trim().split(/\s+/);
  return /[*/]/.test(fields.at(-4) ?? '');
}

/** The years 2026 and 2027 hold every pattern of weekdays and month lengths but the leap day's. */
const sampleFrom = Date.UTC(2026, 0, 1) - 1;
const sampleTo = Date.UTC(2028, 0, 1);
/** Enough to see a year of weekly runs, and the denser patterns show their shortest gap sooner. */
const sampleRuns = 64;

/** The shortest time between two runs, as far as a sample of two years shows; null where it never fires. */
export function shortestGapMs(table: CronTable, expression: string): number | null {
  let last = table.next(expression, sampleFrom);
  if (last === null) return null;
  let shortest = Number.POSITIVE_INFINITY;
  for (let run = 0; run < sampleRuns && last < sampleTo; run++) {
    const next = table.next(expression, last);
    if (next === null) break;
    shortest = Math.min(shortest, next - last);
    last = next;
  }
  return shortest;
}

function open(expression: string): Cron {
  // Without a zone and a callback: no timer is started, and the arithmetic is that of plain dates.
  return new Cron(expression, { utcOffset: 0, mode: '5-or-6-parts', paused: true });
}
