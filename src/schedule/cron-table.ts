/** Cron expressions as they are: on a wall clock without a zone, where no hour is missing and none comes twice. */
import { Cron } from 'croner';

export interface CronTable {
  /**
   * The next match strictly after a wall-clock instant, both as milliseconds that read as UTC; null where none ever comes.
   * Throws where `mistake` finds something.
   */
  next(expression: string, afterLocalMs: number): number | null;
  /** What is wrong with the expression as written, as the beginning of a sentence; null where nothing is. */
  mistake(expression: string): string | null;
  /** The shortest time between two runs, as far as a sample of two years shows; null where it never fires. */
  shortestGapMs(expression: string): number | null;
}

interface Fields {
  readonly second: string;
  readonly minute: string;
  readonly hour: string;
  /** Day of month, month, weekday. */
  readonly date: string;
}

const dayMs = 86_400_000;
/** A Cron costs 83 KB, and 10,000 policies may have 10,000 expressions: they share their fields, and of dates these many. */
const datesMost = 256;
const valuesMost = 4_096;
/** A new year's day: every hour, minute and second occurs on it. */
const sampleDay = Date.UTC(2026, 0, 1);

/**
 * croner reads the fields and counts the calendar; times within a day are put together here. So the distinct Crons are
 * those of the dates alone, shared by all times of day and all zones. Owned by the caller.
 */
export function createCronTable(): CronTable {
  const dates = new Map<string, Cron>();
  const values = new Map<string, readonly number[]>();
  const dayGaps = new Map<string, number | null>();

  const valuesOf = (unit: 'second' | 'minute' | 'hour', text: string): readonly number[] => {
    const key = `${unit} ${text}`;
    const known = values.get(key);
    if (known !== undefined) return known;
    const found = listValues(unit, text);
    if (values.size >= valuesMost) values.clear();
    values.set(key, found);
    return found;
  };
  const dateCron = (date: string): Cron => {
    const cron = dates.get(date) ?? open(`0 0 0 ${date}`);
    // Last used, last in order: the first is the one to let go.
    dates.delete(date);
    dates.set(date, cron);
    const oldest = dates.size > datesMost ? dates.keys().next() : null;
    if (oldest?.done === false) dates.delete(oldest.value);
    return cron;
  };
  /** The first time of day at or after `fromSecond`, in seconds; null where the day has none left. */
  const timeFrom = ({ second, minute, hour }: Fields, fromSecond: number): number | null => {
    for (const h of valuesOf('hour', hour)) {
      if (h * 3_600 + 3_599 < fromSecond) continue;
      for (const m of valuesOf('minute', minute)) {
        if (h * 3_600 + m * 60 + 59 < fromSecond) continue;
        for (const s of valuesOf('second', second)) {
          const time = h * 3_600 + m * 60 + s;
          if (time >= fromSecond) return time;
        }
      }
    }
    return null;
  };
  /** The fewest days between two dates. */
  const dayGapOf = (date: string): number | null => {
    const known = dayGaps.get(date);
    if (known !== undefined) return known;
    const cron = dateCron(date);
    let last = cron.nextRun(new Date(sampleDay - 1_000))?.getTime();
    let shortest = last === undefined ? null : Number.POSITIVE_INFINITY;
    while (last !== undefined && last < sampleTo && shortest !== dayMs) {
      const next = cron.nextRun(new Date(last))?.getTime();
      if (next === undefined) break;
      shortest = Math.min(shortest ?? next - last, next - last);
      last = next;
    }
    if (dayGaps.size >= valuesMost) dayGaps.clear();
    dayGaps.set(date, shortest);
    return shortest;
  };
  return {
    shortestGapMs(expression) {
      const fields = split(expression);
      const dayGap = dayGapOf(fields.date);
      const first = timeFrom(fields, 0);
      if (dayGap === null || first === null) return null;
      let shortest = dayMs;
      let last = first;
      for (let count = 0; count < timesMost; count++) {
        const next = timeFrom(fields, last + 1);
        if (next === null)
          return Math.min(count === 0 ? dayGap : shortest, dayGap - (last - first) * 1_000);
        shortest = Math.min(shortest, (next - last) * 1_000);
        last = next;
      }
      return shortest;
    },
    next(expression, afterLocalMs) {
      const fields = split(expression);
      const cron = dateCron(fields.date);
      const today = Math.floor(afterLocalMs / dayMs) * dayMs;
      if (cron.nextRun(new Date(today - 1_000))?.getTime() === today) {
        const time = timeFrom(fields, Math.floor((afterLocalMs - today) / 1_000) + 1);
        if (time !== null) return today + time * 1_000;
      }
      const day = cron.nextRun(new Date(today))?.getTime();
      const first = timeFrom(fields, 0);
      return day === undefined || first === null ? null : day + first * 1_000;
    },
    mistake(expression) {
      const count = expression.trim() === '' ? 0 : expression.trim().split(/\s+/).length;
      if (count < 5 || count > 6) {
        return `a cron expression has five fields (minute hour day month weekday), or six with seconds first; here are ${count}`;
      }
      // Croner reads "?" as the moment at which the expression is parsed: the schedule would move with each restart.
      if (expression.includes('?')) return '"?" has no fixed meaning: write "*"';
      const { second, minute, hour, date } = split(expression);
      return firstMistake([
        () => valuesOf('second', second),
        () => valuesOf('minute', minute),
        () => valuesOf('hour', hour),
        () => dateCron(date),
      ]);
    },
  };
}

/** Whether hours are left open (`*`, `*\/2`): such a schedule counts elapsed time, the others name times of day. */
export function countsElapsedTime(expression: string): boolean {
  return /[*/]/.test(split(expression).hour);
}

/** The years 2026 and 2027 hold every pattern of weekdays and month lengths but the leap day's. */
const sampleTo = Date.UTC(2028, 0, 1);
/** More times of a day than this lie so close together that the shortest gap shows in these. */
const timesMost = 64;

function split(expression: string): Fields {
  const fields = expression.trim().split(/\s+/);
  const [second = '', minute = '', hour = '', ...date] =
    fields.length === 5 ? ['0', ...fields] : fields;
  return { second, minute, hour, date: date.join(' ') };
}

function listValues(unit: 'second' | 'minute' | 'hour', text: string): readonly number[] {
  const [expression, stepMs, end] = {
    second: [`${text} 0 0 * * *`, 1_000, sampleDay + 60_000] as const,
    minute: [`0 ${text} 0 * * *`, 60_000, sampleDay + 3_600_000] as const,
    hour: [`0 0 ${text} * * *`, 3_600_000, sampleDay + dayMs] as const,
  }[unit];
  const cron = open(expression);
  const found: number[] = [];
  let at = cron.nextRun(new Date(sampleDay - 1_000))?.getTime();
  while (at !== undefined && at < end) {
    found.push((at - sampleDay) / stepMs);
    at = cron.nextRun(new Date(at))?.getTime();
  }
  return found;
}

function open(expression: string): Cron {
  // Without a zone and a callback: no timer is started, and the arithmetic is that of plain dates.
  return new Cron(expression, { utcOffset: 0, mode: '6-part', paused: true });
}

function firstMistake(tries: readonly (() => unknown)[]): string | null {
  for (const attempt of tries) {
    try {
      attempt();
    } catch (error) {
      const reason = error instanceof Error ? error.message : '';
      const known = /Invalid value for (\w+): ([\w-]{1,12})/.exec(reason);
      return known === null
        ? 'this is no cron expression'
        : `the ${known[1]} cannot be ${known[2]}`;
    }
  }
  return null;
}
