/** What counts as a working credential in the answer of a canary. */
import { expect, test } from 'vitest';
import { canaryProblem } from './canary.ts';

const text = (value: string) => ({ content: [{ type: 'text', text: value }] });

test('a result that is an error is one, whatever it holds', () => {
  expect(canaryProblem({ ...text('results'), isError: true }, 'results')).toContain('error');
  expect(canaryProblem({ ...text('results'), isError: false }, undefined)).toBeNull();
});

test('an ordinary result without what is expected is one, too', () => {
  expect(canaryProblem(text('401 Unauthorized'), undefined)).toBeNull();
  expect(canaryProblem(text('401 Unauthorized'), 'libraries:')).toContain('expected');
  expect(canaryProblem(text('12 libraries: a, b'), 'libraries:')).toBeNull();
  expect(canaryProblem({ content: [], structuredContent: { found: 3 } }, '"found":')).toBeNull();
});

test('what is no result holds nothing', () => {
  for (const given of [null, undefined, 'results', { content: 'results' }, { content: [null] }]) {
    expect(canaryProblem(given, 'results')).toContain('expected');
  }
});
