import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import type { ReportSpec } from '../policy/policy.ts';
import { createConsumer } from './create.ts';

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-report-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const canary = 'canary-8a20';
const patience = () => AbortSignal.timeout(30_000);
const context = () => ({
  directory,
  read: { read: async () => [] },
  resolveReference: async () => ({}),
  clock: systemClock(),
  random: systemRandom(),
  redactor: { add: () => undefined },
});

function consumer(script: string, report: ReportSpec | null = null, folder = directory) {
  const command = [process.execPath, '-e', script] as const;
  return createConsumer(
    { kind: 'exec', command: [...command], role: 'user', report, timeoutMs: 20_000 },
    { ...context(), directory: folder },
  );
}

function reporting(script: string) {
  const command = [process.execPath, '-e', script] as const;
  return consumer('', { kind: 'exec', command: [...command] }).report('reports-db', patience());
}

const change = { secret: 'reports-db', generation: 7, stage: 'current' } as const;

test('a reload command that fails has not told, perhaps, and what it printed is not kept', async () => {
  for (const [how, script] of [
    ['exit code 3', `console.error('${canary}'); process.exit(3)`],
    [
      'SIGKILL',
      `console.log('${canary}'); process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 99)`,
    ],
  ] as const) {
    const error = await consumer(script)
      .reload([change], patience())
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'consumer-failed',
      effect: 'unknown',
      message: expect.stringContaining(how) as string,
    });
    expect(JSON.stringify(error) + String((error as Error).stack)).not.toContain(canary);
  }
});

test('the same command in another folder is another consumer, in the same one the same', () => {
  expect(consumer('1').id).toBe(consumer('1', null, `${directory}/x/..`).id);
  expect(consumer('1').id).not.toBe(consumer('1', null, tmpdir()).id);
  expect(consumer('1').id).not.toBe(consumer('2').id);
});

test('a report command is asked about one secret, and only exit 0 answers', async () => {
  const print = `console.log(JSON.stringify({ instances: [{ id: process.env.ROTATED_SECRET, generation: 7, state: 'serving' }] }));`;
  expect(await reporting(print)).toEqual([
    { instance: 'reports-db', generation: 7, state: 'serving' },
  ]);
  await expect(reporting(`${print} process.exitCode = 1`)).rejects.toMatchObject({
    code: 'unavailable',
    secret: 'reports-db',
  });
});

test('a report command that speaks of another secret is not understood', async () => {
  const print = `console.log(JSON.stringify({ instances: [{ id: 'a', generation: 7, state: 'serving', secret: 'search' }] }))`;
  await expect(reporting(print)).rejects.toMatchObject({ code: 'invalid-answer' });
});

const file = () => join(directory, 'generation.json');
const fromFile = () =>
  consumer('', { kind: 'file', path: 'generation.json' }).report('reports-db', patience());

test('a report file may be about several secrets', async () => {
  const instances = [
    { id: 'a', generation: 7, state: 'serving', secret: 'reports-db' },
    { id: 'a', generation: 2, state: 'serving', secret: 'search' },
    { id: 'b', generation: 6, state: 'idle' },
  ];
  await writeFile(file(), JSON.stringify({ instances }));
  expect(await fromFile()).toEqual([
    { instance: 'a', generation: 7, state: 'serving' },
    { instance: 'b', generation: 6, state: 'idle' },
  ]);
});

test('a report file that anybody could have written is not believed', async () => {
  await expect(fromFile()).rejects.toMatchObject({ code: 'not-found' });
  await writeFile(file(), '{"instances":[]}');
  expect(await fromFile()).toEqual([]);
  await chmod(file(), 0o666);
  await expect(fromFile()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  await chmod(file(), 0o664);
  expect(await fromFile()).toEqual([]);
  await chmod(directory, 0o777);
  await expect(fromFile()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  await chmod(directory, 0o755);
  await rm(file());
  await writeFile(join(directory, 'real.json'), '{"instances":[]}');
  await symlink('real.json', file());
  await expect(fromFile()).rejects.toMatchObject({ code: 'consumer-unsafe' });
});
