/** Wall clocks of the world: which instant a local time is, where the clock jumped and where it repeats. */

/**
 * Local times are milliseconds that read as UTC: 02:30 in Berlin is what 02:30 would be in UTC. So days and hours are
 * plain arithmetic, and only the way to and from instants knows of summer time.
 */
export type LocalMs = number;

export interface Zone {
  /** Local time minus UTC at an instant, milliseconds. */
  offsetAt(instant: number): number;
  toLocal(instant: number): LocalMs;
  /**
   * The instant of a local time. One that the clock jumps over is the first instant after the jump; of one that comes
   * twice it is the first.
   */
  toInstant(local: LocalMs): number;
  /** All instants at which the clock shows this: none in a gap, two where it comes twice. */
  instantsOf(local: LocalMs): readonly number[];
  /** The first instant in (from, to] with another offset than at `from`; null where there is none at `to`. */
  transitionIn(from: number, to: number): number | null;
}

const day = 86_400_000;

export interface Zones {
  get(name: string): Zone;
}

/** A zone costs a formatter (some 100 KB): kept by the caller, one for each name. */
export function createZones(): Zones {
  const zones = new Map<string, Zone>();
  return {
    get(name) {
      let zone = zones.get(name);
      if (zone === undefined) {
        zone = createZone(name);
        zones.set(name, zone);
      }
      return zone;
    },
  };
}

function createZone(name: string): Zone {
  const offsetAt = name === 'UTC' ? () => 0 : createOffsets(name);
  const toLocal = (instant: number): LocalMs => instant + offsetAt(instant);
  const instantsOf = (local: LocalMs): readonly number[] => {
    // No clock is further than a day from UTC, and none was set twice within two days.
    const before = offsetAt(local - day);
    const after = offsetAt(local + day);
    const candidates = before === after ? [local - before] : [local - before, local - after];
    return candidates.filter((instant) => toLocal(instant) === local).sort((a, b) => a - b);
  };
  const transitionIn = (from: number, to: number): number | null => {
    const start = offsetAt(from);
    if (offsetAt(to) === start) return null;
    let [low, high] = [from, to];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (offsetAt(middle) === start) low = middle;
      else high = middle;
    }
    return high;
  };
  return {
    offsetAt,
    toLocal,
    instantsOf,
    transitionIn,
    toInstant(local) {
      const [first] = instantsOf(local);
      if (first !== undefined) return first;
      return (
        transitionIn(local - offsetAt(local - day) - day, local - offsetAt(local + day) + day) ??
        local - offsetAt(local)
      );
    },
  };
}

/**
 * Asked of Intl once for each zone and year, week by week: no zone sets its clock twice within a week. After that an offset
 * is a look into a short list.
 */
function createOffsets(name: string): (instant: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: name,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  const measure = (instant: number): number => {
    const match = /^(\d+)\/(\d+)\/(\d+), (\d+):(\d+):(\d+)$/.exec(format.format(instant));
    if (match === null) throw new RangeError(`The time zone ${name} cannot be read.`);
    const [month = 0, date = 0, year = 0, hours = 0, minutes = 0, seconds = 0] = match
      .slice(1)
      .map(Number);
    return (
      Date.UTC(year, month - 1, date, hours, minutes, seconds) - Math.floor(instant / 1_000) * 1_000
    );
  };
  const years = new Map<number, readonly Era[]>();
  return (instant) => {
    const year = Math.floor(instant / blockMs);
    let eras = years.get(year);
    if (eras === undefined) {
      eras = erasOf(year * blockMs, measure);
      // A search that wanders off into the far future must not fill the memory.
      if (years.size >= blocksMost) years.clear();
      years.set(year, eras);
    }
    let offset = eras[0]?.offset ?? 0;
    for (const era of eras) {
      if (era.from > instant) break;
      offset = era.offset;
    }
    return offset;
  };
}

/** A stretch of time with one offset. */
interface Era {
  readonly from: number;
  readonly offset: number;
}

const week = 7 * day;
const blockMs = 52 * week;
const blocksMost = 200;

function erasOf(start: number, measure: (instant: number) => number): readonly Era[] {
  const eras: Era[] = [{ from: start, offset: measure(start) }];
  for (let low = start; low < start + blockMs; low += week) {
    const before = eras.at(-1)?.offset ?? 0;
    const after = measure(low + week);
    if (after === before) continue;
    // To the second: no clock was ever set at a fraction of one.
    let [left, right] = [low / 1_000, (low + week) / 1_000];
    while (right - left > 1) {
      const middle = Math.floor((left + right) / 2);
      if (measure(middle * 1_000) === before) left = middle;
      else right = middle;
    }
    eras.push({ from: right * 1_000, offset: after });
  }
  return eras;
}
