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
const hour = 3_600_000;

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
      return transitionIn(local - offsetAt(local - day) - day, local - offsetAt(local + day) + day) ?? local - offsetAt(local);
    },
  };
}

/** Offsets change at whole quarters of an hour (since 1972 nowhere at another time): so many are remembered. */
const rememberedMost = 4_096;
const quarter = hour / 4;

function createOffsets(name: string): (instant: number) => number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: name,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    era: 'narrow',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  const known = new Map<number, number>();
  const measure = (instant: number): number => {
    const parts: Record<string, string> = {};
    for (const { type, value } of format.formatToParts(instant)) parts[type] = value;
    const number = (type: string) => Number(parts[type]);
    const local = Date.UTC(number('year'), number('month') - 1, number('day'), number('hour'), number('minute'), number('second'));
    return local - Math.floor(instant / 1_000) * 1_000;
  };
  return (instant) => {
    const slot = Math.floor(instant / quarter);
    const remembered = known.get(slot);
    if (remembered !== undefined) return remembered;
    const offset = measure(slot * quarter);
    if (known.size >= rememberedMost) known.clear();
    known.set(slot, offset);
    return offset;
  };
}
