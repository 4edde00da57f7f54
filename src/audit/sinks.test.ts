/** The audit sinks against real files and processes, and against being interrupted. */
import {
  chmod,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { AuditHead, AuditLine } from '../journal/journal.ts';
import { createAuditChain } from './chain.ts';
import { checkpointKey } from './checkpoint.ts';
import { parseExport } from './export.ts';
import { type AuditSink, execSink, fileSink } from './sinks.ts';

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

/** What the sink lacks, in batches; where it cannot tell, from a number on. */
async function run(sink: AuditSink, from = 1): Promise<void> {
  const held = await sink.newest();
  const rest = lines.slice(held === null ? from - 1 : held.seq);
  for (let start = 0; start < rest.length; start += 500) {
    await sink.append(rest.slice(start, start + 500), signal);
  }
}
const commandOf = (program: string) =>
  execSink([process.execPath, '-e', program], {
    key: `exec:${process.execPath} -e …`,
    cwd: directory,
    timeoutMs: 30_000,
  });
const inFile = async (): Promise<AuditLine[]> => [
  ...parseExport(await readFile(path, 'utf8')).lines,
];

test('a file gets every line once, in order, readable by its owner alone', async () => {
  const old = process.umask(0);
  try {
    await using sink = fileSink(path);
    await run(sink);
    grow(3);
    await run(sink);
    expect(await inFile()).toEqual(lines);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  } finally {
    process.umask(old);
  }
});

test('after a restart a file goes on where it ended, without being told', async () => {
  {
    await using sink = fileSink(path);
    await run(sink);
  }
  grow(10);
  await using sink = fileSink(path);
  expect(await sink.newest()).toMatchObject({ seq: 1_200, mac: lines[1_199]?.mac });
  await run(sink);
  expect(await inFile()).toEqual(lines);
});

test('a line torn by a crash is written again as a whole', async () => {
  {
    await using sink = fileSink(path);
    await run(sink);
  }
  await truncate(path, (await stat(path)).size - 30);
  await using sink = fileSink(path);
  expect(await sink.newest()).toMatchObject({ seq: 1_199 });
  await run(sink);
  const parsed = parseExport(await readFile(path, 'utf8'));
  expect(parsed.lines).toEqual(lines);
  expect(parsed.unreadable.length).toBe(1);
  expect(await chain.verify(parsed.lines, head)).toBeNull();
});

test('checkpoints stand between the lines and do not disturb them', async () => {
  await using sink = fileSink(path);
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
  await using sink = fileSink(path);
  await expect(sink.newest()).rejects.toMatchObject({
    code: 'policy-unsafe',
    next: `chmod 600 ${path}`,
  });
  await chmod(path, 0o600);
  expect(await sink.newest()).toEqual({ seq: 0, mac: '' });
});

test("a link, a folder, and somebody else's file are refused, and left as they were", async () => {
  await writeFile(path, 'not ours\n', { mode: 0o600 });
  const link = join(directory, 'link.jsonl');
  await symlink(path, link);
  for (const wrong of [path, link, directory]) {
    await using sink = fileSink(wrong);
    await expect(sink.newest(), wrong).rejects.toThrow();
    await expect(sink.append(lines.slice(0, 1), signal), wrong).rejects.toThrow();
  }
  expect(await readFile(path, 'utf8')).toBe('not ours\n');
});

test('a file that was moved aside, cut or removed is noticed before the next line', async () => {
  await using sink = fileSink(path);
  await run(sink);
  await rename(path, `${path}.1`);
  expect(await sink.newest()).toEqual({ seq: 0, mac: '' });
  await run(sink);
  expect(await inFile()).toEqual(lines);
  const text = await readFile(path, 'utf8');
  await writeFile(
    path,
    text
      .split('\n')
      .slice(0, 700)
      .map((line) => `${line}\n`)
      .join(''),
  );
  expect(await sink.newest()).toMatchObject({ seq: 700 });
  await rm(path);
  await run(sink);
  expect(await inFile()).toEqual(lines);
});

test('a command gets the lines on its stdin', async () => {
  const program = `require('node:fs').appendFileSync(${JSON.stringify(path)}, require('node:fs').readFileSync(0))`;
  await using sink = commandOf(program);
  await run(sink, 701);
  expect(await inFile()).toEqual(lines.slice(700));
});

test('a command that fails is told with its exit code, and the caller gives it the same lines again', async () => {
  const program = `process.exit(require('node:fs').existsSync(${JSON.stringify(path)}) ? 0 : 3)`;
  await using sink = commandOf(program);
  await expect(run(sink, 1_000)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringContaining('exited with 3'),
  });
  await writeFile(path, '');
  await run(sink, 1_000);
});
