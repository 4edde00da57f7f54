/** What a fault case may find at its client: each throws with what was seen instead, or says it in words. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Totals } from '../load/ledger.ts';

export function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

export function mustEqual<T>(seen: T, expected: T, what: string): void {
  must(seen === expected, `${what}: ${String(seen)} instead of ${String(expected)}`);
}

/** No call failed, was lost, came twice or got another's answer. In words. */
export function spotless(totals: Totals): string {
  const { total, failed, lost, doubled, mismatched, problems } = totals;
  must(total > 0, 'There were no calls.');
  must(failed + lost + doubled + mismatched === 0, `Calls went wrong: ${problems.join('; ')}`);
  return `${total} calls answered, none failed`;
}

/** Each call that failed got one error, and none was lost or came twice. In words. */
export function oneErrorEach(totals: Totals, failedMost: number): string {
  const { total, failed, lost, doubled, mismatched, problems } = totals;
  must(lost + doubled + mismatched === 0, `Calls went wrong: ${problems.join('; ')}`);
  must(failed <= failedMost, `${failed} calls failed: ${problems.join('; ')}`);
  return `${total} calls answered, ${failed} of them by one error each`;
}

/** What it rejects with; throws where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
  throw new Error('It was answered as if nothing had happened.');
}

/** Its value, or a failure that says what was waited for. */
export async function within<T>(what: string, promise: Promise<T>, ms: number): Promise<T> {
  const waiting = new AbortController();
  const late = delay(ms, undefined, { signal: waiting.signal }).then(() => {
    throw new Error(`Not within ${ms} ms: ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    waiting.abort();
    late.catch(() => {});
  }
}

const lookEveryMs = 20;

export async function until(what: string, holds: () => boolean, ms = 10_000): Promise<void> {
  const endAt = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > endAt) throw new Error(`Not within ${ms} ms: ${what}`);
    await delay(lookEveryMs);
  }
}
