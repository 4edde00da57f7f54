/** When a secret is rotated, as written → `Schedule`, and the schedules that would never fire or contradict themselves. */
import { asList, type BuildTools, isMap, soundOnly } from './build-parts.ts';
import type { Path } from './document.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { nearest } from './nearest.ts';
import type { Schedule, Weekday } from './policy.ts';
import type { ScheduleInput, SecretInput } from './shape.ts';
import { canonicalLocal, isTimezone, knownTimezones } from './timezone.ts';

type ScheduleTools = Pick<BuildTools, 'report' | 'crons' | 'memo' | 'isSound'>;

const weekdays: readonly Weekday[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
type Written = Exclude<ScheduleInput, 'manual'>;

/** @param at the place of the secret: a schedule may stand under `schedule` or, short, under `every`. */
export function buildSchedule(input: SecretInput, at: Path, tools: ScheduleTools): Schedule | null {
  const { report } = tools;
  if (input.schedule !== undefined && input.every !== undefined) {
    report(
      [...at, 'every'],
      'conflict',
      'There is a schedule as well: every is short for schedule: { every: … }, write one of the two.',
      { at: 'key' },
    );
  }
  if (input.schedule === undefined && input.every === undefined) {
    report(
      at,
      'missing',
      'The key schedule is missing: say when it rotates, or that it does so only when asked.',
      {
        at: 'key',
        example: 'schedule: { cron: "0 3 * * 0" }',
      },
    );
    return null;
  }
  const isShort = input.schedule === undefined;
  const place = isShort ? at : [...at, 'schedule'];
  const written = asWritten(input, at, tools);
  if (written === null) return null;
  const trigger = buildTrigger(written, place, tools);
  const timezone = written.timezone ?? 'UTC';
  checkZone(timezone, [...place, 'timezone'], tools);
  const schedule: Schedule = {
    // Where the trigger is wrong the rest still gets its checks; the policy is not used.
    trigger: trigger ?? { kind: 'manual' },
    timezone,
    splayMs: ms(written.splay) ?? 0,
    window: buildWindow(written.window, [...place, 'window'], tools),
    freeze: asList(written.freeze, [...place, 'freeze']).flatMap(([freeze, at]) => {
      if (!tools.isSound(at)) return [];
      const from = canonicalLocal(freeze.from) ?? freeze.from;
      const to = canonicalLocal(freeze.to) ?? freeze.to;
      // Same form, so that the order of the texts is that of the instants.
      if (from >= to) {
        report(
          [...at, 'to'],
          'freeze-order',
          `The freeze ends at ${to}, which is not after its begin at ${from}.`,
        );
      }
      return [{ from, to, reason: freeze.reason ?? null }];
    }),
    missed: written.missed ?? 'once',
    ageMinMs: ms(written.ageMin),
    ageMaxMs: ms(written.ageMax),
  };
  checkSpans(schedule, place, tools);
  return schedule;
}

/** The schedule's map with the keys of known form; null where there is none. */
function asWritten(input: SecretInput, at: Path, tools: ScheduleTools): Written | null {
  const { schedule, every } = input;
  if (schedule === 'manual') return { manual: true };
  if (schedule === undefined)
    return tools.isSound([...at, 'every']) && every !== undefined ? { every } : null;
  if (!isMap(schedule)) return null;
  const place = [...at, 'schedule'];
  const written: Partial<Written> = soundOnly(schedule, place, tools);
  // A list keeps its sound entries.
  return Array.isArray(schedule.freeze) ? { ...written, freeze: schedule.freeze } : written;
}

/** The shortest time between two scheduled rotations; null where the trigger alone gives none. */
export function intervalMs(schedule: Schedule, tools: ScheduleTools): number | null {
  const { trigger, splayMs, ageMinMs } = schedule;
  switch (trigger.kind) {
    case 'every':
      return trigger.everyMs;
    case 'cron': {
      const gap = gapMs(trigger.expression, tools);
      if (gap === null) return null;
      // One run late and the next one early by the splay, but never before the youngest age.
      return Math.max(gap - splayMs, ageMinMs ?? 0);
    }
    case 'manual':
      return null;
    default:
      return trigger satisfies never;
  }
}

function buildTrigger(
  written: Written,
  place: Path,
  tools: ScheduleTools,
): Schedule['trigger'] | null {
  const { report } = tools;
  const given = (['cron', 'every', 'manual'] as const).filter((key) => written[key] !== undefined);
  const [first, second] = given;
  // One that is there in a form of its own has its mistake already.
  if (first === undefined && !tools.isSound(place)) return null;
  if (first === undefined) {
    report(place, 'missing', 'The schedule has neither cron nor every.', {
      example: 'schedule: { cron: "0 3 * * 0" }',
    });
    return null;
  }
  if (second !== undefined) {
    report(
      [...place, second],
      'conflict',
      `The schedule has both ${first} and ${second}: write one of them.`,
      { at: 'key' },
    );
    return null;
  }
  switch (first) {
    case 'manual':
      return { kind: 'manual' };
    case 'every': {
      const everyMs = ms(written.every) ?? 0;
      if (everyMs < 1_000)
        report([...place, 'every'], 'bad-duration', 'An interval is at least one second.');
      return { kind: 'every', everyMs };
    }
    case 'cron': {
      const expression = (written.cron ?? '').trim().replaceAll(/\s+/g, ' ');
      const mistake = once(tools.memo.mistakes, expression, () => tools.crons.mistake(expression));
      if (mistake !== null) {
        report(
          [...place, 'cron'],
          'bad-cron',
          `${mistake.charAt(0).toUpperCase()}${mistake.slice(1)}.`,
        );
        return null;
      }
      if (gapMs(expression, tools) === null) {
        report([...place, 'cron'], 'cron-never', 'This never fires: there is no such day.');
        return null;
      }
      return { kind: 'cron', expression };
    }
    default:
      return first satisfies never;
  }
}

function buildWindow(
  written: Written['window'],
  at: Path,
  { report }: ScheduleTools,
): Schedule['window'] {
  if (written === undefined) return null;
  const chosen =
    written.days === undefined ? weekdays : asList(written.days, at).map(([day]) => day);
  const days = weekdays.filter((day) => chosen.includes(day));
  if (days.length === 0) {
    report(
      [...at, 'days'],
      'window-never',
      'The window has no day on which it opens, so nothing would ever rotate.',
    );
  }
  // Midnight at the end of a day is the next day's begin.
  const to = written.to === '24:00' ? '00:00' : written.to;
  if (written.from === '24:00') report([...at, 'from'], 'bad-value', 'A day begins at "00:00".');
  return { days, from: written.from, to };
}

function checkZone(timezone: string, at: Path, { report, memo }: ScheduleTools): void {
  if (once(memo.zones, timezone, () => isTimezone(timezone))) return;
  const near = nearest(timezone, knownTimezones());
  const isOffset = /^([A-Z]{2,4})?[+-]\d/.test(timezone);
  const hint =
    near !== null
      ? ` Did you mean ${near}?`
      : isOffset
        ? ' An offset knows no summer time: name a place.'
        : '';
  report(at, 'bad-timezone', `There is no such time zone.${hint}`, {
    example: `timezone: ${near ?? 'Europe/Berlin'}`,
  });
}

function checkSpans(schedule: Schedule, place: Path, tools: ScheduleTools): void {
  const { report } = tools;
  const { trigger, splayMs, ageMinMs, ageMaxMs } = schedule;
  if (trigger.kind === 'every' && ageMinMs !== null && trigger.everyMs < ageMinMs) {
    report(
      [...place, 'ageMin'],
      'age-order',
      `The interval ${formatDuration(trigger.everyMs)} is shorter than ageMin: the runs between would all be left out.`,
      {
        example: `ageMin: ${formatDuration(trigger.everyMs)}`,
      },
    );
  }
  if (ageMinMs !== null && ageMaxMs !== null && ageMaxMs < ageMinMs) {
    report(
      [...place, 'ageMax'],
      'age-order',
      `ageMax is shorter than ageMin (${formatDuration(ageMinMs)}).`,
    );
  }
  if (ageMaxMs !== null && ageMaxMs < 1_000) {
    report([...place, 'ageMax'], 'bad-duration', 'ageMax is at least one second.');
  }
  const gap =
    trigger.kind === 'every'
      ? trigger.everyMs
      : trigger.kind === 'cron'
        ? gapMs(trigger.expression, tools)
        : null;
  if (gap !== null && splayMs >= gap && splayMs > 0) {
    report(
      [...place, 'splay'],
      'splay-too-long',
      `The splay is not shorter than the time between two runs (${formatDuration(gap)}).`,
      {
        example: `splay: ${formatDuration(Math.max(1_000, Math.floor(gap / 10_000) * 1_000))}`,
      },
    );
  }
}

function gapMs(expression: string, { crons, memo }: ScheduleTools): number | null {
  return once(memo.gaps, expression, () => crons.shortestGapMs(expression));
}

function ms(text: string | undefined): number | null {
  return text === undefined ? null : parseDuration(text);
}

function once<Value>(memo: Map<string, Value>, key: string, find: () => Value): Value {
  const known = memo.get(key);
  if (known !== undefined) return known;
  const value = find();
  memo.set(key, value);
  return value;
}
