/** The crash tests' own checks find what they are for; the mutants show the rest. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkLog, checkPlaintext } from './checks.ts';
import { canary, type LogLine } from './protocol.ts';

const lease = (fence: number): LogLine => ({ kind: 'lease', pid: fence, fence });
const commit = (fence: number, version: number): LogLine => ({
  kind: 'commit',
  pid: fence,
  fence,
  rotation: 'r',
  version,
});

test('a log in order has nothing to report', () => {
  expect(checkLog([lease(1), commit(1, 1), commit(1, 2), lease(2), commit(2, 3)])).toEqual([]);
});

test('a commit of an owner that was overtaken is found', () => {
  const found = checkLog([lease(1), commit(1, 1), lease(2), commit(1, 2)]);
  expect(found).toMatchObject([{ invariant: 'fences-rise' }]);
});

test('a fence given twice is found', () => {
  expect(checkLog([lease(3), lease(3)])).toMatchObject([{ invariant: 'fences-rise' }]);
});

test('a version left out or written twice is found', () => {
  expect(checkLog([lease(1), commit(1, 1), commit(1, 3)])).toMatchObject([
    { invariant: 'versions-rise' },
  ]);
  expect(checkLog([lease(1), commit(1, 1), commit(1, 1)])).toMatchObject([
    { invariant: 'versions-rise' },
  ]);
});

test('a key in a state file is found raw and in every alignment of base64', () => {
  const directory = mkdtempSync(join(tmpdir(), 'rotated-checks-'));
  try {
    mkdirSync(join(directory, 'state'));
    const file = join(directory, 'state', 'state.sqlite');
    writeFileSync(file, 'nothing of interest');
    expect(checkPlaintext(directory)).toEqual([]);
    const value = `${canary}abcdefgh`;
    for (const text of [value, ...['', 'x', 'xy'].map((before) => btoa(`${before}${value}`))]) {
      writeFileSync(file, `before ${text} after`);
      expect(checkPlaintext(directory)).toMatchObject([{ invariant: 'no-plaintext' }]);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
