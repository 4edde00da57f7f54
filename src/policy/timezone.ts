/** Which names of time zones exist, and how a local date and time is written. */

/** An IANA name such as `Europe/Berlin`; offsets such as `+01:00` are refused, since they know no summer time. */
export function isTimezone(name: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+){0,2}$/.test(name)) return false;
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

export function knownTimezones(): readonly string[] {
  return ['UTC', ...Intl.supportedValuesOf('timeZone')];
}

export const localInstantPattern = '^\\d{4}-\\d{2}-\\d{2}([T ]\\d{2}:\\d{2}(:\\d{2})?)?$';
const localInstant = /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?$/;

/**
 * `2026-12-20`, `2026-12-20T18:00` or `2026-12-20 18:00:30` as `2026-12-20T18:00:30`; null where there is no such day
 * or time. A day alone means its first instant.
 */
export function canonicalLocal(text: string): string | null {
  const match = localInstant.exec(text);
  if (match === null) return null;
  const [, year = '', month = '', day = '', hour = '00', minute = '00', second = '00'] = match;
  const canonical = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const asUtc = Date.parse(`${canonical}Z`);
  // Date.parse rolls 31 February over to March: such a day is a mistake.
  if (Number.isNaN(asUtc) || !new Date(asUtc).toISOString().startsWith(canonical)) return null;
  return canonical;
}

export const timeOfDayPattern = '^([01]\\d|2[0-3]):[0-5]\\d$|^24:00$';
