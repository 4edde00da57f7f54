/** Cron in zones whose clocks jump, against Intl asked minute by minute. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createCronTable } from './cron-table.ts';
import { nextCron } from './next-cron.ts';
import { createZones } from './wall-clock.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
console.info(`seed ${seed} (set SEED to repeat)`);

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const crons = createCronTable();
const zones = createZones();

/** Years in which the zone changes its clock, São Paulo's at midnight until 2019. */
const cases = [
  ['Europe/Berlin', 2026],
  ['America/New_York', 2027],
  ['Australia/Lord_Howe', 2026],
  ['Asia/Kathmandu', 2026],
  ['America/Sao_Paulo', 2017],
  ['Africa/Casablanca', 2026],
  ['UTC', 2026],
] as const;

const formatters = new Map<string, Intl.DateTimeFormat>();

/** Another way to the local time than the code under test takes. */
function local(zone: string, instant: number): { readonly date: string; readonly time: string } {
  let format = formatters.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('sv-SE', {
      timeZone: zone,
      dateStyle: 'short',
      timeStyle: 'medium',
    });
    formatters.set(zone, format);
  }
  const [date = '', time = ''] = format.format(instant).split(' ');
  return { date, time };
}

function runs(expression: string, zone: string, from: number, to: number): number[] {
  const found: number[] = [];
  let at = nextCron(crons, expression, zones.get(zone), from);
  while (at !== null && at <= to) {
    found.push(at);
    at = nextCron(crons, expression, zones.get(zone), at);
  }
  return found;
}

/** Instants of the year at which the offset changes, found by Intl hour by hour. */
function changes(zone: string, year: number): number[] {
  const found: number[] = [];
  const offset = (instant: number) => {
    const { date, time } = local(zone, instant);
    return Date.parse(`${date}T${time}Z`) - instant;
  };
  for (let at = Date.UTC(year, 0, 1); at < Date.UTC(year + 1, 0, 1); at += hour / 2) {
    if (offset(at) !== offset(at + hour / 2)) found.push(at + hour / 2);
  }
  return found;
}

describe('time of day', () => {
  for (const [zone, year] of cases) {
    test(`in ${zone} each day has exactly one run, and it is at its time unless the clock jumps over it`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }), (h, m) => {
          const expression = `${m} ${h} * * *`;
          const found = runs(expression, zone, Date.UTC(year, 0, 1), Date.UTC(year, 11, 30));
          const wanted = `${String(h).padStart(2, '0')}:${String(m).padStart(2, '0')}:00`;
          const dates = found.map((at) => local(zone, at).date);
          const first = Date.parse(`${dates[0]}T00:00Z`);
          expect(dates).toEqual(
            dates.map((_, index) => new Date(first + index * day).toISOString().slice(0, 10)),
          );
          for (const at of found) {
            const shown = local(zone, at);
            if (shown.time === wanted) {
              // The first of two: no earlier instant of that night shows the same.
              for (let back = minute * 30; back <= 2 * hour; back += minute * 30) {
                expect(local(zone, at - back)).not.toEqual(shown);
              }
              continue;
            }
            // In a gap: a moment before, the clock showed less than the time wanted, and now it shows more.
            expect(
              local(zone, at - 1_000).time < wanted || local(zone, at - 1_000).date < shown.date,
            ).toBe(true);
            expect(shown.time > wanted).toBe(true);
          }
        }),
        {
          seed,
          numRuns: 12,
          examples: [
            [2, 30],
            [0, 30],
            [1, 0],
            [3, 0],
            [2, 0],
          ],
        },
      );
    });
  }

  test('02:30 in Berlin runs at 03:00 on the day the hour is missing, and once when it comes twice', () => {
    const spring = runs(
      '30 2 * * *',
      'Europe/Berlin',
      Date.UTC(2026, 2, 28, 12),
      Date.UTC(2026, 2, 30, 12),
    );
    expect(spring.map(iso)).toEqual(['2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z']);
    const autumn = runs(
      '30 2 * * *',
      'Europe/Berlin',
      Date.UTC(2026, 9, 24, 12),
      Date.UTC(2026, 9, 26, 12),
    );
    expect(autumn.map(iso)).toEqual(['2026-10-25T00:30:00Z', '2026-10-26T01:30:00Z']);
  });

  test('several times in one gap are one run, and every ten minutes of a repeated hour come once', () => {
    const spring = runs(
      '*/10 2 * * *',
      'Europe/Berlin',
      Date.UTC(2026, 2, 29),
      Date.UTC(2026, 2, 29, 12),
    );
    expect(spring.map(iso)).toEqual(['2026-03-29T01:00:00Z']);
    const autumn = runs(
      '*/10 2 * * *',
      'Europe/Berlin',
      Date.UTC(2026, 9, 24, 12),
      Date.UTC(2026, 9, 25, 12),
    );
    expect(autumn).toHaveLength(6);
  });

  test('a run asked for in the second pass of a repeated hour does not repeat the first pass', () => {
    // 02:10 for the second time; 02:30 ran an hour ago.
    const at = nextCron(
      crons,
      '30 2 * * *',
      zones.get('Europe/Berlin'),
      Date.parse('2026-10-25T01:10:00Z'),
    );
    expect(iso(at ?? 0)).toBe('2026-10-26T01:30:00Z');
  });
});

describe('open hours count elapsed time', () => {
  for (const [zone, year] of cases) {
    test(`in ${zone} around each change the runs are exactly the instants whose minute fits`, () => {
      const around = changes(zone, year);
      if (zone !== 'UTC' && zone !== 'Asia/Kathmandu') expect(around.length).toBeGreaterThan(0);
      for (const change of around.length === 0 ? [Date.UTC(year, 5, 1)] : around) {
        for (const every of [10, 15, 20, 30]) {
          const [from, to] = [change - 3 * hour, change + 3 * hour];
          const wanted: number[] = [];
          for (let at = from + minute; at <= to; at += minute) {
            if (Number(local(zone, at).time.slice(3, 5)) % every === 0) wanted.push(at);
          }
          expect(runs(`*/${every} * * * *`, zone, from, to).map(iso)).toEqual(wanted.map(iso));
        }
      }
    });
  }
});

describe('the table of expressions', () => {
  test('agrees with croner on whole expressions', async () => {
    const { Cron } = await import('croner');
    const field = (max: number, low = 0) =>
      fc.oneof(
        fc.constant('*'),
        fc.integer({ min: low, max }).map(String),
        fc.integer({ min: 2, max: Math.min(20, max - low) }).map((step) => `*/${step}`),
        fc
          .tuple(fc.integer({ min: low, max }), fc.integer({ min: low, max }))
          .map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
        fc
          .array(fc.integer({ min: low, max }), { minLength: 1, maxLength: 4 })
          .map((list) => list.join(',')),
      );
    fc.assert(
      fc.property(
        fc.tuple(field(59), field(59), field(23), field(28, 1), field(12, 1), field(6)),
        fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2030, 0, 1) }),
        (fields, after) => {
          const expression = fields.join(' ');
          const whole = new Cron(expression, { utcOffset: 0, mode: '6-part', paused: true });
          expect(crons.next(expression, after)).toBe(
            whole.nextRun(new Date(after))?.getTime() ?? null,
          );
        },
      ),
      { seed, numRuns: 300 },
    );
  });

  test('five fields have second 0, six name it', () => {
    const from = Date.UTC(2026, 0, 1, 3, 0, 5);
    expect(crons.next('* * * * *', from)).toBe(Date.UTC(2026, 0, 1, 3, 1));
    expect(crons.next('*/10 * * * * *', from)).toBe(Date.UTC(2026, 0, 1, 3, 0, 10));
  });

  test('an expression of a day that never comes has no next run and no gap', () => {
    expect(crons.next('0 0 31 2 *', 0)).toBeNull();
    expect(crons.shortestGapMs('0 0 31 2 *')).toBeNull();
    expect(crons.shortestGapMs('0 3 * * 0')).toBe(7 * day);
    expect(crons.shortestGapMs('0 3 1,3 * *')).toBe(2 * day);
    expect(crons.shortestGapMs('0 0 29 2 *')).toBeGreaterThan(365 * day);
    expect(crons.shortestGapMs('0 1,23 * * *')).toBe(2 * hour);
    expect(crons.shortestGapMs('0 9-17 * * 1')).toBe(hour);
    expect(crons.shortestGapMs('*/7 * * * *')).toBe(4 * minute);
    expect(crons.shortestGapMs('* * * * * *')).toBe(1_000);
    expect(crons.shortestGapMs('0 3 28,31 * *')).toBe(3 * day);
  });

  test('says what is wrong with an expression', () => {
    expect(crons.mistake('0 3 * * 0')).toBeNull();
    expect(crons.mistake('0 0 3 * * MON-FRI')).toBeNull();
    expect(crons.mistake('0 3 * *')).toMatch(/here are 4/);
    expect(crons.mistake('0 0 3 * * 0 2030')).toMatch(/here are 7/);
    expect(crons.mistake('61 3 * * *')).toMatch(/minute cannot be 61/);
    expect(crons.mistake('0 25 * * *')).toMatch(/hour cannot be 25/);
    expect(crons.mistake('? 3 * * *')).toMatch(/no fixed meaning/);
    expect(crons.mistake('@daily')).toMatch(/here are 1/);
    expect(crons.mistake('a b c d e')).toBe('this is no cron expression');
  });
});

function iso(instant: number): string {
  return new Date(instant).toISOString().replace('.000', '');
}
