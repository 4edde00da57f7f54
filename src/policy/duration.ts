/** How a span of time is written in a policy: `10m`, `24h`, `30d`, `1h30m`. */

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;
const units = ['w', 'd', 'h', 'm', 's', 'ms'] as const;

/** Each unit at most once, the larger first: `1h30m`, not `30m1h`. */
export const durationPattern =
  '^(?=\\d)(\\d{1,9}w)?(\\d{1,9}d)?(\\d{1,9}h)?(\\d{1,9}m)?(\\d{1,9}s)?(\\d{1,9}ms)?$';
const duration = new RegExp(durationPattern);

/** Ten years: longer than any credential should live, and far from where dates overflow. */
export const durationMaxMs = 3_650 * unitMs.d;

/** Milliseconds; null where the text is no duration or is longer than ten years. */
export function parseDuration(text: string): number | null {
  const match = duration.exec(text);
  if (match === null) return null;
  let total = 0;
  for (const [index, unit] of units.entries()) {
    const part = match[index + 1];
    if (part !== undefined) total += Number.parseInt(part, 10) * unitMs[unit];
  }
  return total <= durationMaxMs ? total : null;
}

/** The shortest exact way to write it; `0s` for none. */
export function formatDuration(ms: number): string {
  let left = Math.max(0, Math.round(ms));
  let text = '';
  for (const unit of units) {
    // Weeks read badly in a message: 30d, not 4w2d.
    if (unit === 'w') continue;
    const count = Math.floor(left / unitMs[unit]);
    if (count > 0) text += `${count}${unit}`;
    left -= count * unitMs[unit];
  }
  return text === '' ? '0s' : text;
}
