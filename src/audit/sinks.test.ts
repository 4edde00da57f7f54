/** The audit sinks against real files and processes, and against being interrupted. */
import { mkdtemp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { AuditHead, AuditLine } from '../journal/journal.ts';
import { createAuditChain } from './chain.ts';
import { checkpointKey } from './checkpoint.ts';
import { parseExport } from './export.ts';
import { type AuditSink, deliver, execSink, fileSink } from './sinks.ts';

const chain = createAuditChain(Buffer.alloc(32, 1));
const signal = new AbortController().signal;
let directory = '';
let path = '';
let lines: AuditLine[] = [];
let head: AuditHead | null = null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-sinks-'));
  path = join(directory, 'audit.jsonl');
  lines = [];
  head = null;
  grow(1_200);
});

afterEach(() => rm(directory, { recursive: true, force: true }));

function grow(count: number): void {
  for (let index = 0; index < count; index++) {
    const next = chain.next(head, {
      at: index,
      actor: { id: 'a', channel: 'daemon', proven: true },
      action: 'x',
      secret: null,
      rotation: null,
      reason: null,
      outcome: 'done',
      detail: {},
    });
    lines.push(next.entry);
    head = next.head;
  }
}

const journal = {
  auditLines: async (from: number, most: number) => lines.slice(from - 1, from - 1 + most),
};
const run = (sink: AuditSink, from = 1) => deliver(journal, sink, { from, signal });
const inFile = async (): Promise<AuditLine[]> => [
  ...parseExport(await readFile(path, 'utf8')).lines,
];

test('a file gets every line once, in order, readable by its owner alone', async () => {
  const old = process.umask(0);
  try {
    await using sink = await fileSink(path);
    expect(await run(sink)).toBe(1_201);
    grow(3);
    expect(await run(sink)).toBe(1_204);
    expect(await inFile()).toEqual(lines);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  } finally {
    process.umask(old);
  }
});

test('after a restart a file goes on where it ended, without being told', async () => {
  {
    await using sink = await fileSink(path);
    await run(sink);
  }
  grow(10);
  await using sink = await fileSink(path);
  expect(await sink.lastSeq()).toBe(1_200);
  await run(sink);
  expect(await inFile()).toEqual(lines);
});

test('a line torn by a crash is written again as a whole', async () => {
  {
    await using sink = await fileSink(path);
    await run(sink);
  }
  await truncate(path, (await stat(path)).size - 30);
  await using sink = await fileSink(path);
  expect(await sink.lastSeq()).toBe(1_199);
  await run(sink);
  const parsed = parseExport(await readFile(path, 'utf8'));
  expect(parsed.lines).toEqual(lines);
  expect(parsed.unreadable.length).toBe(1);
  expect(await chain.verify(parsed.lines, head)).toBeNull();
});

test('checkpoints stand between the lines and do not disturb them', async () => {
  await using sink = await fileSink(path);
  await run(sink);
  const checkpoint = checkpointKey(Buffer.alloc(32, 3)).sign(head as AuditHead, 7);
  await sink.append([checkpoint], signal);
  grow(1);
  await run(sink);
  const parsed = parseExport(await readFile(path, 'utf8'));
  expect(parsed.checkpoints).toEqual([checkpoint]);
  expect(parsed.lines).toEqual(lines);
});

test('an audit file that others can read is refused with the command that mends it', async () => {
  await writeFile(path, '', { mode: 0o644 });
  await expect(fileSink(path)).rejects.toMatchObject({
    code: 'policy-unsafe',
    next: `chmod 600 ${path}`,
  });
});

test('a command gets the lines on its stdin', async () => {
  const program = `require('node:fs').appendFileSync(${JSON.stringify(path)}, require('node:fs').readFileSync(0))`;
  await using sink = execSink([process.execPath, '-e', program], {
    cwd: directory,
    timeoutMs: 30_000,
  });
  expect(await run(sink, 701)).toBe(1_201);
  expect(await inFile()).toEqual(lines.slice(700));
});

test('a command that fails is told with its exit code, and the caller gives it the same lines again', async () => {
  const program = `process.exit(require('node:fs').existsSync(${JSON.stringify(path)}) ? 0 : 3)`;
  await using sink = execSink([process.execPath, '-e', program], {
    cwd: directory,
    timeoutMs: 30_000,
  });
  await expect(run(sink, 1_000)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('exited with 3'),
  });
  await writeFile(path, '');
  expect(await run(sink, 1_000)).toBe(1_201);
});
