import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import type { SignalSpec } from '../policy/policy.ts';
import type { ConsumerContext } from './target.ts';
import { ownUid } from './guards.ts';
import { type ProcessTable, procTable, psTable } from './processes.ts';
import { createSignaller } from './signal.ts';

const isRoot = ownUid() === 0;
if (!isRoot) console.warn('skipping the tests that need another account: not run as root');
const isLinux = process.platform === 'linux';

let directory = '';
let children: ChildProcess[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-signal-'));
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children = [];
  await rm(directory, { recursive: true, force: true });
});

function context(overrides: Partial<ConsumerContext> = {}): ConsumerContext {
  return {
    directory,
    read: { read: async () => [] },
    resolveReference: async () => ({}),
    clock: systemClock(),
    random: systemRandom(),
    redactor: { add: () => undefined },
    ...overrides,
  };
}

const patience = () => AbortSignal.timeout(30_000);
const byPidfile: SignalSpec = {
  signal: 'SIGHUP',
  target: { kind: 'pidfile', path: 'server.pid' },
  owner: null,
};

/** A process that says so when it gets a SIGHUP, and repeats what it is sent. `mark` stands in its arguments. */
async function server(mark = 'none', uid?: number): Promise<ChildProcess & { pid: number }> {
  const source = `process.on('SIGHUP', () => process.send('told')); process.on('message', (m) => process.send(m)); process.on('disconnect', () => process.exit()); process.send('up');`;
  const child = spawn(process.execPath, ['-e', source, '--', mark, '--reload'], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    ...(uid === undefined ? {} : { uid }),
  });
  children.push(child);
  await once(child, 'message');
  return child as ChildProcess & { pid: number };
}

async function pidfile(content: string | number): Promise<string> {
  const path = join(directory, 'server.pid');
  await writeFile(path, `${content}\n`, { mode: 0o600 });
  return path;
}

function find(spec: SignalSpec = byPidfile, overrides: Partial<ConsumerContext> = {}) {
  return createSignaller(spec, context(overrides)).find(patience());
}

test('a pidfile with more lines than the pid, as PostgreSQL writes it, is understood', async () => {
  const child = await server();
  await pidfile(`${child.pid}\n/var/lib/postgresql\n1764000000`);
  const told = once(child, 'message');
  await createSignaller(byPidfile, context()).send(patience());
  expect((await told)[0]).toBe('told');
});

test.each([['0'], ['1'], ['-5'], ['abc'], [''], ['99999999999'], [`${process.pid}`]])(
  'the pidfile content %j is refused',
  async (content) => {
    await pidfile(content);
    await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe', effect: 'none' });
  },
);

test('a pidfile that others can write is refused', async () => {
  const child = await server();
  const path = await pidfile(child.pid);
  for (const mode of [0o620, 0o602]) {
    await chmod(path, mode);
    await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  }
  await chmod(path, 0o644);
  expect(await find()).toMatchObject([{ pid: child.pid }]);
});

test('a pidfile in a folder that everybody can write is refused, unless everybody keeps their own there', async () => {
  const child = await server();
  await pidfile(child.pid);
  await chmod(directory, 0o777);
  await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  await chmod(directory, 0o1777);
  expect(await find()).toMatchObject([{ pid: child.pid }]);
});

test('a pidfile that is a link is refused', async () => {
  const child = await server();
  await writeFile(join(directory, 'real.pid'), `${child.pid}`, { mode: 0o600 });
  await symlink('real.pid', join(directory, 'server.pid'));
  await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
});

test.runIf(isRoot)(
  'a pidfile of another account is refused, unless it is the declared owner',
  async () => {
    const child = await server('none', 12_345);
    const path = await pidfile(child.pid);
    await chown(path, 12_345, 12_345);
    await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
    expect(await find({ ...byPidfile, owner: '12345' })).toMatchObject([{ uid: 12_345 }]);
  },
);

test.runIf(isRoot)(
  'a process of another account is refused, unless it is the declared owner',
  async () => {
    const child = await server('none', 12_345);
    await pidfile(child.pid);
    await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
    await expect(find({ ...byPidfile, owner: 'root' })).rejects.toMatchObject({
      code: 'consumer-unsafe',
    });
    expect(await find({ ...byPidfile, owner: '12345' })).toMatchObject([{ pid: child.pid }]);
  },
);

test('an account that does not exist is a mistake of the policy', async () => {
  const child = await server();
  await pidfile(child.pid);
  for (const owner of ['no-such-account-here', '-u', '$(id)']) {
    await expect(find({ ...byPidfile, owner })).rejects.toMatchObject({ code: 'policy-invalid' });
  }
});

test('a process that began after its pidfile was written is not the one meant', async () => {
  const child = await server();
  const path = await pidfile(child.pid);
  expect(await find()).toHaveLength(1);
  const before = (await stat(path)).mtimeMs / 1_000 - 60;
  await utimes(path, before, before);
  await expect(find()).rejects.toMatchObject({ code: 'consumer-unsafe' });
});

test('a process that has ended is consumer-failed, with its place and the next step', async () => {
  const child = await server();
  await pidfile(child.pid);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await expect(find()).rejects.toMatchObject({
    code: 'consumer-failed',
    effect: 'none',
    message: expect.stringContaining('server.pid') as string,
    next: expect.stringContaining('pid') as string,
  });
});

test.runIf(isLinux)('a zombie is a process that has ended', async () => {
  // The parent never collects its child, and says which pid it had.
  const source = `exec 3>&1; (exit 0) & echo $!; exec sleep 60`;
  const parent = spawn('sh', ['-c', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(parent);
  const [line] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(line.toString());
  const table = procTable(Date.now);
  await expect.poll(() => table.find(pid, patience())).toBeNull();
  await pidfile(pid);
  await expect(find()).rejects.toMatchObject({ code: 'consumer-failed' });
});

test('a pid that changes hands between the look and the signal is not signalled', async () => {
  const child = await server();
  await pidfile(child.pid);
  const real = procTable(Date.now);
  let looks = 0;
  const processes: ProcessTable = {
    list: real.list,
    async find(pid, signal) {
      const info = await real.find(pid, signal);
      looks += 1;
      return info === null || looks === 1 ? info : { ...info, birth: `${info.birth}0` };
    },
  };
  const spec: SignalSpec = { ...byPidfile, signal: 'SIGTERM' };
  await expect(
    createSignaller(spec, context({ processes })).send(patience()),
  ).rejects.toMatchObject({ code: 'consumer-failed', effect: 'none' });
  expect(looks).toBe(2);
  const echoed = once(child, 'message');
  child.send('alive');
  expect((await echoed)[0]).toBe('alive');
  const ended = once(child, 'exit');
  await createSignaller(spec, context()).send(patience());
  expect((await ended)[1]).toBe('SIGTERM');
});

test('several processes that match are several instances, and all are told', async () => {
  const mark = `mark-${process.pid}-several`;
  const [a, b] = [await server(mark), await server(mark)];
  const spec: SignalSpec = {
    signal: 'SIGHUP',
    target: { kind: 'match', command: [mark, '--reload'] },
    owner: null,
  };
  const found = await find(spec);
  expect(new Set(found.map((each) => each.pid))).toEqual(new Set([a.pid, b.pid]));
  const told = Promise.all([once(a, 'message'), once(b, 'message')]);
  await createSignaller(spec, context()).send(patience());
  expect((await told).map(([message]) => message as unknown)).toEqual(['told', 'told']);
});

test('parts that are not adjacent, or only begin alike, do not match', async () => {
  const mark = `mark-${process.pid}-adjacent`;
  await server(mark);
  for (const command of [['--reload', mark], [`${mark}x`], [mark, '--rel']] as const) {
    await expect(
      find({ signal: 'SIGHUP', target: { kind: 'match', command: [...command] }, owner: null }),
    ).rejects.toMatchObject({ code: 'consumer-failed' });
  }
});

test('this daemon never matches', async () => {
  const [program, ...args] = process.argv;
  await expect(
    find({
      signal: 'SIGHUP',
      target: { kind: 'match', command: [program ?? '', ...args, `only-${process.pid}`] },
      owner: null,
    }),
  ).rejects.toMatchObject({ code: 'consumer-failed' });
  const processes: ProcessTable = {
    find: async () => null,
    list: async () =>
      [1, process.pid].map((pid) => ({
        pid,
        uid: ownUid(),
        startedAt: 0,
        birth: '0',
        args: ['thing'],
      })),
  };
  await expect(
    find(
      { signal: 'SIGHUP', target: { kind: 'match', command: ['thing'] }, owner: null },
      { processes },
    ),
  ).rejects.toMatchObject({ code: 'consumer-failed' });
});

test.runIf(isRoot)('a match under another account alone is refused', async () => {
  const mark = `mark-${process.pid}-other`;
  await server(mark, 12_345);
  const target = { kind: 'match', command: [mark] } as const;
  await expect(find({ signal: 'SIGHUP', target, owner: null })).rejects.toMatchObject({
    code: 'consumer-unsafe',
  });
  expect(await find({ signal: 'SIGHUP', target, owner: '12345' })).toHaveLength(1);
});

test.runIf(isLinux)('/proc and ps tell the same of a process', async () => {
  const mark = `mark-${process.pid}-ps`;
  const child = await server(mark);
  const tables = [procTable(Date.now), psTable()];
  const [fromProc, fromPs] = await Promise.all(
    tables.map((table) => table.find(child.pid, patience())),
  );
  expect(fromPs).toMatchObject({ pid: child.pid, uid: fromProc?.uid });
  expect(Math.abs((fromPs?.startedAt ?? 0) - (fromProc?.startedAt ?? 0))).toBeLessThan(2_000);
  expect(fromPs?.args).toContain(mark);
  const listed = await psTable().list(patience());
  expect(listed.filter((each) => each.args.includes(mark))).toMatchObject([{ pid: child.pid }]);
  expect(await psTable().find(4_000_000, patience())).toBeNull();
});
