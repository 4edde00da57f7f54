/** What is read from the records of a run: flips, uses of an old key, growth. */
import { describe, expect, test } from 'vitest';
import type { Call } from './load/ledger.ts';
import { parseServerLog } from './load/server-log.ts';
import { grows } from './soak/trend.ts';
import { flipsOf, oldKeyUses } from './support/flips.ts';

function call(id: string, sentAtMs: number, answeredAtMs: number | null): Call {
  return {
    id,
    kind: 'plain',
    dueAtMs: sentAtMs,
    sentAtMs,
    answeredAtMs,
    answers: answeredAtMs === null ? 0 : 1,
    cancelledAtMs: null,
    verdict: null,
    rounds: 1,
  };
}

describe('from the records of both ends', () => {
  const calls = [call('a', 1, 30), call('b', 2, 5), call('c', 10, 20), call('d', 12, 13)];
  const log = parseServerLog(
    ['C a 1 k1 1 3', 'C b 1 k1 1 4', 'C c 2 k2 1 11', 'C d 2 k2 1 12', ''].join('\n'),
  );

  test('a flip is when the first call of a new process was sent', () => {
    expect(flipsOf(calls, log)).toEqual([{ pid: 2, key: 'k2', atMs: 10, inFlight: 1 }]);
  });

  test('a call under an old key after its successor was adopted is found', () => {
    const keys = ['k1', 'k2'];
    expect(oldKeyUses(calls, log, [{ generation: 2, atMs: 9 }], keys)).toBe(0);
    expect(oldKeyUses(calls, log, [{ generation: 2, atMs: 1.5 }], keys)).toBe(1);
  });

  test('a log that ends in the middle of a line says what stands before', () => {
    expect(parseServerLog('C a 1 k1 1 3\nC b').usesOf('a')).toHaveLength(1);
  });
});

describe('growth', () => {
  const flat = Array.from({ length: 50 }, (_, n) => 100 + (n % 3));

  test('is not seen where there is none, nor in a warm-up', () => {
    expect(grows(flat, 4)).toBe(false);
    expect(grows([60, 70, 80, 90, 95, 97, 98, ...flat], 4)).toBe(false);
  });

  test('is seen where each swap leaves a little behind', () => {
    expect(
      grows(
        flat.map((value, n) => value + n * 0.3),
        4,
      ),
    ).toBe(true);
  });

  test('is assumed where too little was measured', () => {
    expect(grows([1, 1, 1], 4)).toBe(true);
  });
});
