/** Whether samples of a resource grow over a run: pure. */
import { median } from '../../bench/stats.ts';

/**
 * The first fifth is left out: caches fill and code is compiled. Of the rest, the medians of the first and the last third
 * are compared. Fewer than ten samples say nothing: that counts as growth, since nothing was shown.
 */
export function grows(samples: readonly number[], tolerance: number): boolean {
  if (samples.length < 10) return true;
  const settled = samples.slice(Math.ceil(samples.length / 5));
  const third = Math.max(1, Math.floor(settled.length / 3));
  return median(settled.slice(-third)) - median(settled.slice(0, third)) > tolerance;
}
