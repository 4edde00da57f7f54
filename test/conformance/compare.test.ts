/** What counts as a difference between two runs of the suite. */
import { expect, test } from 'vitest';
import { compare, type Outcome } from './compare.ts';

const success: Outcome = { status: 'SUCCESS', message: '' };
const failure: Outcome = { status: 'FAILURE', message: 'Expected 400, got 200' };
const info: Outcome = { status: 'INFO', message: '' };

test('two runs with the same outcomes do not differ', () => {
  const outcomes = new Map([
    ['ping/ping', success],
    ['ping/note', info],
  ]);
  expect(compare(outcomes, outcomes)).toEqual({
    checks: 1,
    directPassed: 1,
    gatePassed: 1,
    differences: [],
    excused: [],
  });
});

test('a check that fails through the gate alone is a difference, in the words of the suite', () => {
  const { gatePassed, differences } = compare(
    new Map([['a/b', success]]),
    new Map([['a/b', failure]]),
  );
  expect(gatePassed).toBe(0);
  expect(differences).toEqual(['a/b: direct SUCCESS, gate FAILURE (Expected 400, got 200)']);
});

test('a check that fails without the gate alone is a difference', () => {
  expect(
    compare(new Map([['a/b', failure]]), new Map([['a/b', success]])).differences,
  ).toHaveLength(1);
});

test('a check that is not made through the gate is a difference, and one that is only noted there', () => {
  const direct = new Map([
    ['a/b', success],
    ['a/c', success],
  ]);
  expect(compare(direct, new Map([['a/c', info]])).differences).toEqual([
    'a/b: direct SUCCESS, gate did not run it',
    'a/c: direct SUCCESS, gate INFO',
  ]);
});

test('what the suite only notes is compared with nothing', () => {
  expect(compare(new Map([['a/b', info]]), new Map()).differences).toEqual([]);
});

test('an excuse covers its check and no other, and is a difference once it is stale', () => {
  const direct = new Map([
    ['a/b', success],
    ['a/c', success],
    ['a/d', success],
  ]);
  const gate = new Map([
    ['a/b', failure],
    ['a/c', failure],
    ['a/d', success],
  ]);
  const result = compare(direct, gate, { 'a/b': 'no headers by stdio', 'a/d': 'outlived' });
  expect(result.excused).toEqual(['a/b']);
  expect(result.differences).toEqual([
    'a/c: direct SUCCESS, gate FAILURE (Expected 400, got 200)',
    'a/d: excused, and yet the same',
  ]);
});
