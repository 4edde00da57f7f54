/** Due instants: window, freeze, splay, missed runs, ages, and that nothing fires twice. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Schedule } from '../policy/policy.ts';
import type { DueContext as PortContext } from '../rotation/ports.ts';
import { createScheduler, type DueContext } from './due.ts';
import { scheduleClock } from './schedule-clock.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
console.info(`seed ${seed} (set SEED to repeat)`);

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const scheduler = createScheduler();
const at = (text: string) => Date.parse(text);
const iso = (instant: number | null) =>
  instant === null ? null : new Date(instant).toISOString().replace('.000', '');

const base: Schedule = {
  trigger: { kind: 'cron', expression: '0 3 * * *' },
  timezone: 'UTC',
  splayMs: 0,
  window: null,
  freeze: [],
  missed: 'once',
  ageMinMs: null,
  ageMaxMs: null,
};
const monday = at('2026-11-23T12:00:00Z');
const fresh: DueContext = {
  now: monday,
  firedAt: null,
  currentSince: null,
  expiresAt: null,
  knownSince: monday,
};
const due = (schedule: Partial<Schedule>, context: Partial<DueContext> = {}, name = 'reports-db') =>
  iso(scheduler.nextDue({ ...base, ...schedule }, { ...fresh, ...context }, name));

test("the rotation's port and the schedule mean the same context", () => {
  const port: PortContext = fresh;
  const own: DueContext = port;
  expect(own).toBe(fresh);
});

describe('triggers', () => {
  test('cron fires at its next time of day in its zone', () => {
    expect(due({})).toBe('2026-11-24T03:00:00Z');
    expect(due({ timezone: 'Asia/Kathmandu' })).toBe('2026-11-23T21:15:00Z');
  });

  test('an interval counts from the current credential, else from when the policy was first seen', () => {
    const every = { trigger: { kind: 'every', everyMs: 30 * day } } as const;
    expect(due(every, { currentSince: monday - 10 * day })).toBe('2026-12-13T12:00:00Z');
    expect(due(every)).toBe('2026-12-23T12:00:00Z');
  });

  test('manual never fires by itself, but age and expiry force it', () => {
    const manual = { trigger: { kind: 'manual' } } as const;
    expect(due(manual, { currentSince: monday })).toBeNull();
    expect(due({ ...manual, ageMaxMs: 90 * day }, { currentSince: monday })).toBe(
      '2027-02-21T12:00:00Z',
    );
    expect(due(manual, { currentSince: monday, expiresAt: monday + 30 * day })).toBe(
      '2026-12-13T12:00:00Z',
    );
  });
});

describe('window and freeze', () => {
  const weekend = { days: ['sat', 'sun'], from: '01:00', to: '06:00' } as const;

  test('a run outside the window waits for it to open', () => {
    expect(due({ window: weekend, timezone: 'Europe/Berlin' })).toBe('2026-11-28T00:00:00Z');
  });

  test('a window over midnight belongs to the day on which it opens', () => {
    const night = { days: ['fri'], from: '22:00', to: '02:00' } as const;
    const saturday = { now: at('2026-11-27T12:00:00Z'), knownSince: at('2026-11-27T12:00:00Z') };
    expect(
      due({ window: night, trigger: { kind: 'cron', expression: '0 1 * * *' } }, saturday),
    ).toBe('2026-11-28T01:00:00Z');
    expect(
      due({ window: night, trigger: { kind: 'cron', expression: '0 3 * * *' } }, saturday),
    ).toBe('2026-12-04T22:00:00Z');
  });

  test('a window that the clock jumps over does not open that night', () => {
    const gap = { days: ['sun', 'mon'], from: '02:10', to: '02:50' } as const;
    const context = { now: at('2026-03-28T12:00:00Z'), knownSince: at('2026-03-28T12:00:00Z') };
    expect(due({ window: gap, timezone: 'Europe/Berlin' }, context)).toBe('2026-03-30T00:10:00Z');
  });

  test('a freeze moves the run to its end, and from there into the window', () => {
    const freeze = [{ from: '2026-11-24T00:00:00', to: '2026-11-30T00:00:00', reason: null }];
    expect(due({ freeze })).toBe('2026-11-30T00:00:00Z');
    expect(due({ freeze, window: weekend })).toBe('2026-12-05T01:00:00Z');
  });

  test('mayBegin says no outside the window and inside a freeze', () => {
    const freeze = [{ from: '2026-11-28T02:00:00', to: '2026-11-28T03:00:00', reason: null }];
    const may = (text: string) =>
      scheduler.mayBegin({ ...base, window: weekend, freeze }, at(text));
    expect(may('2026-11-28T01:00:00Z')).toBe(true);
    expect(may('2026-11-28T00:59:59Z')).toBe(false);
    expect(may('2026-11-28T02:30:00Z')).toBe(false);
    expect(may('2026-11-28T03:00:00Z')).toBe(true);
    expect(may('2026-11-28T06:00:00Z')).toBe(false);
  });
});

describe('missed runs', () => {
  const month = {
    now: monday,
    firedAt: monday - 30 * day,
    currentSince: monday - 30 * day,
    knownSince: 0,
  };

  test('a month of them is one run now, then the schedule goes on', () => {
    expect(due({}, month)).toBe('2026-11-23T12:00:00Z');
    expect(due({}, { ...month, firedAt: monday })).toBe('2026-11-24T03:00:00Z');
  });

  test('skip leaves them out', () => {
    expect(due({ missed: 'skip' }, month)).toBe('2026-11-24T03:00:00Z');
  });

  test('they wait for the window and for the end of a freeze', () => {
    const window = { days: ['sat'], from: '01:00', to: '06:00' } as const;
    const schedule = { window, trigger: { kind: 'cron', expression: '0 3 * * 6' } } as const;
    expect(due(schedule, month)).toBe('2026-11-28T01:00:00Z');
    const freeze = [{ from: '2026-11-20T00:00:00', to: '2026-11-24T00:00:00', reason: null }];
    expect(due({ freeze }, month)).toBe('2026-11-24T00:00:00Z');
  });

  test('a rotation by hand makes the run good that was missed before it', () => {
    expect(due({}, { ...month, currentSince: monday - hour })).toBe('2026-11-24T03:00:00Z');
  });

  test('asking again later does not put a splayed one off', () => {
    const schedule = { splayMs: hour };
    const first = at(due(schedule, month) ?? '');
    expect(first - monday).toBeLessThan(hour);
    for (let now = monday; now <= first; now += 7_000) {
      expect(due(schedule, { ...month, now })).toBe(iso(first));
    }
  });
});

describe('ages', () => {
  test('a credential younger than ageMin is left alone until the next regular run', () => {
    expect(due({ ageMinMs: 5 * day }, { currentSince: monday - day })).toBe('2026-11-28T03:00:00Z');
  });

  test('ageMax fires before the trigger, and inside the window before the limit', () => {
    const schedule: Partial<Schedule> = {
      trigger: { kind: 'every', everyMs: 300 * day },
      ageMaxMs: 30 * day,
    };
    expect(due(schedule, { currentSince: monday })).toBe('2026-12-23T12:00:00Z');
    const window = { days: ['sat'], from: '01:00', to: '06:00' } as const;
    expect(due({ ...schedule, window }, { currentSince: monday })).toBe('2026-12-19T01:00:00Z');
  });

  test('ageMax shorter than the way to the next window waits for it, and does not rotate again in this one', () => {
    const saturday = at('2026-11-28T01:00:00Z');
    const window = { days: ['sat'], from: '01:00', to: '06:00' } as const;
    // Promoted ten minutes after it fired, with the window still open.
    const promoted = saturday + 10 * minute;
    const context = { now: promoted, firedAt: saturday, currentSince: promoted };
    expect(due({ trigger: { kind: 'manual' }, ageMaxMs: 4 * day, window }, context)).toBe(
      '2026-12-05T01:00:00Z',
    );
  });

  test('a forced run that failed is tried again, not given up', () => {
    const context = { currentSince: monday - 90 * day, firedAt: monday - minute };
    expect(
      due({ trigger: { kind: 'manual' }, ageMaxMs: 90 * day }, { ...context, now: monday }),
    ).toBe('2026-11-23T12:00:00Z');
    const after = { ...context, firedAt: monday, now: monday };
    expect(due({ trigger: { kind: 'manual' }, ageMaxMs: 90 * day }, after)).toBe(
      '2026-11-24T12:00:00Z',
    );
  });

  test('rotates when a third of the life is left, though the interval is longer', () => {
    const context = { currentSince: monday, expiresAt: monday + 30 * day };
    expect(due({ trigger: { kind: 'every', everyMs: 60 * day } }, context)).toBe(
      '2026-12-13T12:00:00Z',
    );
  });
});

describe('for any schedule', () => {
  const time = fc
    .tuple(fc.integer({ min: 0, max: 23 }), fc.constantFrom('00', '30'))
    .map(([h, m]) => `${String(h).padStart(2, '0')}:${m}`);
  const freeze = fc
    .tuple(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 1, max: 40 }))
    .map(([start, length]) => {
      const dayAt = (index: number) =>
        new Date(Date.UTC(2026, 0, 1) + index * day).toISOString().slice(0, 19);
      return { from: dayAt(start), to: dayAt(start + length), reason: null };
    });
  const schedule: fc.Arbitrary<Schedule> = fc.record({
    trigger: fc.oneof(
      fc
        .constantFrom('0 3 * * *', '30 2 * * 0', '*/20 * * * *', '0 0 1 * *', '15 30 1 * * 1-5')
        .map((expression) => ({ kind: 'cron', expression }) as const),
      fc
        .integer({ min: 1, max: 60 * 24 })
        .map((hours) => ({ kind: 'every', everyMs: hours * hour }) as const),
      fc.constant({ kind: 'manual' } as const),
    ),
    timezone: fc.constantFrom(
      'UTC',
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'America/Sao_Paulo',
    ),
    splayMs: fc.constantFrom(0, 10 * minute, 3 * hour),
    window: fc.option(
      fc.record({
        days: fc.subarray(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const, {
          minLength: 1,
        }),
        from: time,
        to: time,
      }),
    ),
    freeze: fc.array(freeze, { maxLength: 3 }),
    missed: fc.constantFrom('once', 'skip'),
    ageMinMs: fc.option(fc.integer({ min: 0, max: 20 }).map((days) => days * day)),
    ageMaxMs: fc.option(fc.integer({ min: 21, max: 200 }).map((days) => days * day)),
  });
  const instant = fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2027, 0, 31) });
  const context: fc.Arbitrary<DueContext> = fc.record({
    now: instant,
    firedAt: fc.option(instant),
    currentSince: fc.option(instant),
    expiresAt: fc.option(fc.integer({ min: Date.UTC(2026, 6, 1), max: Date.UTC(2028, 0, 1) })),
    knownSince: instant,
  });

  /** Weekday and time as Intl shows them. */
  function shown(zone: string, instant: number): { day: number; time: string; text: string } {
    const text = new Intl.DateTimeFormat('sv-SE', {
      timeZone: zone,
      dateStyle: 'short',
      timeStyle: 'medium',
    })
      .format(instant)
      .replace(' ', 'T');
    return { day: (new Date(`${text}Z`).getUTCDay() + 6) % 7, time: text.slice(11), text };
  }
  const names = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
  function isInside({ window, timezone, freeze }: Schedule, instant: number): boolean {
    const { day, time, text } = shown(timezone, instant);
    if (freeze.some(({ from, to }) => from <= text && text < to)) return false;
    if (window === null) return true;
    const opens = `${window.from}:00`;
    const closes = `${window.to}:00`;
    const isOn = (index: number) => window.days.includes(names[(index + 7) % 7] ?? 'mon');
    if (opens < closes) return isOn(day) && opens <= time && time < closes;
    return (isOn(day) && opens <= time) || (isOn(day - 1) && time < closes);
  }

  test('what is due lies ahead, after what fired, inside the window and outside every freeze', () => {
    fc.assert(
      fc.property(schedule, context, (schedule, context) => {
        const due = scheduler.nextDue(schedule, context, 'x');
        expect(scheduler.nextDue(schedule, context, 'x')).toBe(due);
        if (due === null) {
          expect(schedule.trigger.kind).toBe('manual');
          return;
        }
        expect(due).toBeGreaterThanOrEqual(context.now);
        if (context.firedAt !== null) expect(due).toBeGreaterThan(context.firedAt);
        expect(scheduler.mayBegin(schedule, due)).toBe(true);
        // Where the clock changes that night, wall time alone does not tell two instants apart.
        const quiet = [-day, day].every(
          (shift) => Math.abs(wall(schedule, due + shift) - wall(schedule, due) - shift) < 1_000,
        );
        if (quiet) expect(isInside(schedule, due)).toBe(true);
      }),
      { seed, numRuns: 3_000 },
    );
    function wall({ timezone }: Schedule, instant: number): number {
      return Date.parse(`${shown(timezone, instant).text}Z`);
    }
  });

  test('however the clock jumps, no due instant fires twice and they only ever rise', () => {
    fc.assert(
      fc.property(
        schedule,
        fc.array(fc.integer({ min: -400, max: 400 }), { minLength: 5, maxLength: 30 }),
        fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }),
        (schedule, jumps, succeeds) => {
          let wall = Date.UTC(2026, 3, 1);
          let state: DueContext = {
            now: wall,
            firedAt: null,
            currentSince: wall,
            expiresAt: null,
            knownSince: wall,
          };
          const fired: number[] = [];
          for (const [index, hours] of jumps.entries()) {
            wall += hours * hour;
            state = { ...state, now: wall };
            const due = scheduler.nextDue(schedule, state, 'x');
            if (due === null || due > wall) continue;
            fired.push(due);
            state = {
              ...state,
              firedAt: due,
              currentSince: succeeds[index] === true ? due : state.currentSince,
            };
          }
          expect(fired).toEqual([...new Set(fired)].sort((a, b) => a - b));
        },
      ),
      { seed, numRuns: 500 },
    );
  });

  test('a clock that jumps forward coalesces to one run', () => {
    fc.assert(
      fc.property(schedule, fc.integer({ min: 1, max: 500 }), (schedule, days) => {
        const start = Date.UTC(2026, 3, 1);
        const now = start + days * day;
        const before: DueContext = {
          now,
          firedAt: start,
          currentSince: start,
          expiresAt: null,
          knownSince: start,
        };
        const due = scheduler.nextDue({ ...schedule, splayMs: 0 }, before, 'x');
        if (due !== now) return;
        // Fired and done: whatever else fell due in those days is made good.
        const after = scheduler.nextDue(
          { ...schedule, splayMs: 0 },
          { ...before, firedAt: now, currentSince: now },
          'x',
        );
        if (after !== null) expect(after).toBeGreaterThan(now);
      }),
      { seed, numRuns: 500 },
    );
  });

  test('the splay spreads names, stays below its span, and is the same each time', () => {
    const spread = Array.from({ length: 200 }, (_, index) => {
      const due = scheduler.nextDue({ ...base, splayMs: hour }, fresh, `secret-${index}`);
      return (due ?? 0) - at('2026-11-24T03:00:00Z');
    });
    expect(Math.min(...spread)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...spread)).toBeLessThan(hour);
    expect(new Set(spread).size).toBeGreaterThan(150);
    // Not past the end of the window, though the splay is longer.
    const window = { days: ['tue'], from: '02:00', to: '03:05' } as const;
    const late = Array.from(
      { length: 50 },
      (_, index) => scheduler.nextDue({ ...base, splayMs: hour, window }, fresh, `s${index}`) ?? 0,
    );
    expect(Math.max(...late)).toBeLessThan(at('2026-11-24T03:05:00Z'));
  });
});

describe('the schedule clock', () => {
  test('never goes back, and says how far the wall clock is behind', () => {
    expect(scheduleClock({ newestInstantAt: 1_000, wallNow: 5_000, elapsedMs: 100 })).toEqual({
      now: 5_000,
      setBackMs: 0,
      isSetBack: false,
    });
    expect(scheduleClock({ newestInstantAt: 10_000_000, wallNow: 5_000, elapsedMs: 700 })).toEqual({
      now: 10_000_700,
      setBackMs: 9_995_700,
      isSetBack: true,
    });
    expect(scheduleClock({ newestInstantAt: 10_000, wallNow: 9_000, elapsedMs: 0 }).isSetBack).toBe(
      false,
    );
  });
});

test('nextRuns are the instants one by one', () => {
  const runs = scheduler.nextRuns(base, fresh, 'x', 3);
  expect(runs.map(iso)).toEqual([
    '2026-11-24T03:00:00Z',
    '2026-11-25T03:00:00Z',
    '2026-11-26T03:00:00Z',
  ]);
  expect(scheduler.nextRuns({ ...base, trigger: { kind: 'manual' } }, fresh, 'x', 3)).toEqual([]);
});
