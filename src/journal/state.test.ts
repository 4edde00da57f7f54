/** The state directory under everything that goes wrong with disks, processes and versions. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAuditChain } from '../audit/chain.ts';
import { type Clock, systemClock } from '../clock.ts';
import {
  auditEvent,
  holder,
  manualClock,
  rotationRow,
  secretRow,
  ttlMs,
} from './contract-support.ts';
import { openDatabase } from './database.ts';
import { systemProcesses } from './process.ts';
import { openSqliteJournal, type SqliteJournal, type SqliteJournalOptions } from './sqlite.ts';

const chain = createAuditChain(Buffer.alloc(32, 7));
let root = '';
let directory = '';
const children: ChildProcess[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'rotated-state-'));
  directory = join(root, 'state');
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(root, { recursive: true, force: true });
});

const opened = (options: Partial<SqliteJournalOptions> = {}): Promise<SqliteJournal> =>
  openSqliteJournal({ directory, clock: manualClock(), chain, ...options });

async function made(): Promise<void> {
  await using journal = await opened();
  const { fence } = await journal.acquire(holder, ttlMs);
  const secrets = Array.from({ length: 200 }, (_, index) => ({
    expectVersion: 0,
    row: secretRow(`s${index}`, { data: { filler: 'x'.repeat(500) } }),
  }));
  await journal.commit({ fence, secrets, audit: [auditEvent('made')] });
  await journal.release(fence);
}

/** Starts the fixture and waits for its first line. */
async function started(mode: string): Promise<ChildProcess & { lines: string[] }> {
  const program = join(import.meta.dirname, 'testing', 'committer.ts');
  const child = spawn(process.execPath, [program, directory, mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
  await once(child.stdout, 'data');
  return Object.assign(child, { lines });
}

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
const bytes = (): string => readFileSync(join(directory, 'state.sqlite')).toString('base64');

test.each([0o000, 0o022, 0o377])(
  'whatever the umask, only the owner can read the state: %o',
  async (mask) => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const old = process.umask(mask);
    try {
      await using journal = await opened();
      await journal.acquire(holder, ttlMs);
      for (const name of readdirSync(directory))
        expect(mode(join(directory, name)), name).toBe('600');
      expect(readdirSync(directory).length).toBe(3);
    } finally {
      process.umask(old);
    }
  },
);

test('a missing state directory is made for its owner alone', async () => {
  const old = process.umask(0);
  try {
    await using _ = await opened({ directory: join(root, 'deep', 'state') });
    expect(mode(join(root, 'deep', 'state'))).toBe('700');
  } finally {
    process.umask(old);
  }
});

test('a state directory that others can write is refused with the command that mends it', async () => {
  await made();
  await chmod(directory, 0o777);
  await expect(opened()).rejects.toMatchObject({
    code: 'policy-unsafe',
    next: `chmod 700 ${directory}`,
  });
});

test('a process killed between commits loses none that it was told of', async () => {
  for (let round = 0; round < 3; round++) {
    const child = await started('commit');
    while (child.lines.length < 400 + round * 97) await once(child.stdout ?? child, 'data');
    child.kill('SIGKILL');
    await once(child, 'close');
    await using journal = await openSqliteJournal({ directory, clock: systemClock(), chain });
    for (const writer of [0, 1, 2]) {
      const told = child.lines.filter((line) => line.startsWith(`${writer} `)).length;
      const row = await journal.rotation(`r${writer}`);
      expect(row?.version).toBeGreaterThanOrEqual(told);
      expect(told).toBeGreaterThan(100);
    }
    const lines = await journal.auditLines(1, 1_000_000);
    expect(await chain.verify(lines, await journal.auditHead())).toBeNull();
    await rm(directory, { recursive: true });
  }
});

test('a second daemon is refused, a killed one is succeeded at once', async () => {
  const child = await started('own');
  await using journal = await openSqliteJournal({ directory, clock: systemClock(), chain });
  const next = { pid: process.pid, host: 'test', what: 'next' };
  await expect(journal.acquire(next, ttlMs)).rejects.toMatchObject({
    code: 'state-busy',
    message: expect.stringContaining(`Process ${child.pid} (committer)`),
  });
  child.kill('SIGSTOP');
  await expect(journal.acquire(next, ttlMs)).rejects.toMatchObject({ code: 'state-busy' });
  child.kill('SIGKILL');
  await once(child, 'close');
  // Its lease has nine minutes left.
  expect((await journal.acquire(next, ttlMs)).fence).toBe(2);
});

test('a process that died on another host keeps its lease: nobody here can know', async () => {
  const child = await started('own');
  child.kill('SIGKILL');
  await once(child, 'close');
  await using journal = await openSqliteJournal({ directory, clock: systemClock(), chain });
  await expect(
    journal.acquire({ pid: process.pid, host: 'another', what: 'next' }, ttlMs),
  ).rejects.toMatchObject({ code: 'state-busy' });
});

test('a process stopped inside a transaction is named, readers go on, and its work is undone with it', async () => {
  const child = await started('hang');
  child.kill('SIGSTOP');
  // Waiting is done on this clock, so five seconds pass at once.
  const clock: Clock = { ...manualClock(), bootId: systemClock().bootId };
  await using journal = await opened({ clock: withSteps(clock) });
  await expect(journal.cache([{ key: 'k', digest: '', value: '' }])).rejects.toMatchObject({
    code: 'state-busy',
    effect: 'none',
    message: expect.stringContaining(`Process ${child.pid} (committer)`),
    next: expect.stringContaining(`kill -9 ${child.pid}`),
  });
  expect(await journal.currentLease()).toMatchObject({ holder: { pid: child.pid } });
  await using reader = await opened({ readOnly: true });
  expect(await reader.secrets()).toEqual([]);
  child.kill('SIGKILL');
  await once(child, 'close');
  await journal.cache([{ key: 'k', digest: '1', value: '' }]);
  expect(await journal.cached('k')).toEqual({ digest: '1', value: '' });
  expect(await journal.cached('unfinished')).toBeNull();
});

/** A sleep moves the clock, and lets the event loop turn. */
function withSteps(clock: Clock): Clock {
  let upMs = 0;
  return {
    ...clock,
    monotonicMs: () => upMs,
    sleep: async (ms) => {
      upMs += ms;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test('only a process of this namespace, certainly ended, counts as gone', async () => {
  const processes = systemProcesses();
  const child = await started('own');
  const pid = child.pid ?? 0;
  const identity = processes.identity(pid);
  expect(processes.isGone(pid, identity)).toBe(false);
  expect(processes.isGone(process.pid, processes.identity(process.pid))).toBe(false);
  // The number was given to another process since.
  expect(processes.isGone(process.pid, identity)).toBe(true);
  child.kill('SIGKILL');
  await once(child, 'close');
  expect(processes.isGone(pid, identity)).toBe(true);
  expect(processes.isGone(pid, identity.replace('pid:', 'pid:9'))).toBe(false);
});

test('every connection syncs each commit, logs ahead, and overwrites what it deletes', async () => {
  await made();
  const database = openDatabase(join(directory, 'state.sqlite'));
  try {
    expect(database.get('PRAGMA synchronous')).toEqual({ synchronous: 2 });
    expect(database.get('PRAGMA journal_mode')).toEqual({ journal_mode: 'wal' });
    expect(database.get('PRAGMA secure_delete')).toEqual({ secure_delete: 1 });
  } finally {
    database.close();
  }
});

test('a newer state is refused and left as it is', async () => {
  await made();
  const database = new DatabaseSync(join(directory, 'state.sqlite'));
  database.exec('PRAGMA user_version = 99');
  database.close();
  const before = bytes();
  for (const readOnly of [false, true]) {
    await expect(opened({ readOnly })).rejects.toMatchObject({
      code: 'state-newer',
      message: expect.stringContaining('format 99'),
    });
  }
  expect(bytes()).toBe(before);
});

test.each([
  ['another file', 0, Buffer.from('this is a text file, not a database\n'.repeat(50))],
  ['a damaged header', 20, Buffer.alloc(60, 0xff)],
  ['a damaged first table', 5_000, Buffer.alloc(3_000, 0x5a)],
  ['a damaged page of data', 24 * 4_096, Buffer.alloc(900, 0x5a)],
])(
  'a corrupt state is refused, says what to do, and is left as it is: %s',
  async (_, at, damage) => {
    await made();
    const file = await open(join(directory, 'state.sqlite'), 'r+');
    await file.write(damage, 0, damage.length, at);
    await file.close();
    const before = bytes();
    await expect(opened()).rejects.toMatchObject({
      code: 'state-corrupt',
      effect: 'none',
      next: expect.stringContaining('backup'),
    });
    expect(bytes()).toBe(before);
  },
);

test('the database of another program is refused', async () => {
  await mkdir(directory, { mode: 0o700 });
  const database = new DatabaseSync(join(directory, 'state.sqlite'));
  database.exec('CREATE TABLE theirs (x)');
  database.close();
  await expect(opened()).rejects.toMatchObject({
    code: 'state-corrupt',
    message: expect.stringContaining('another program'),
  });
});

test('reading where there is no state is an answer, and makes none', async () => {
  await expect(opened({ readOnly: true })).rejects.toMatchObject({ code: 'state-missing' });
  expect(existsSync(directory)).toBe(false);
  await mkdir(directory, { mode: 0o700 });
  await writeFile(join(directory, 'state.sqlite'), '');
  await expect(opened({ readOnly: true })).rejects.toMatchObject({ code: 'state-missing' });
});

test.each([
  [0x6969, 'nfs4', 'nfs4'],
  [0xfe534d42, null, 'SMB2'],
  [0x01021997, '9p', '9p'],
  [0x65735546, 'fuse.sshfs', 'fuse.sshfs'],
])(
  'a network file system is refused before anything is written: %i %s',
  async (magic, name, shown) => {
    await expect(opened({ fileSystemOf: () => ({ magic, name }) })).rejects.toMatchObject({
      code: 'state-network',
      message: expect.stringContaining(shown),
    });
    expect(readdirSync(directory)).toEqual([]);
  },
);

test('a FUSE file system on a local disk is accepted', async () => {
  const fileSystemOf = () => ({ magic: 0x65735546, name: 'fuseblk' });
  await using journal = await opened({ fileSystemOf });
  expect(await journal.secrets()).toEqual([]);
});

test('a full disk refuses the commit, loses nothing, and goes on once there is room', async (context) => {
  await mkdir(directory);
  if (!mounted(['-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', directory])) {
    context.skip('mounting a small file system needs root');
  }
  try {
    await using journal = await opened();
    const { fence } = await journal.acquire(holder, 1e9);
    await writeFile(join(directory, 'ballast'), Buffer.alloc(1_000_000));
    let stored = 0;
    const fill = async () => {
      for (; stored < 100_000; stored++) {
        const row = secretRow(`s${stored}`, { data: { filler: 'x'.repeat(2_000) } });
        await journal.commit({
          fence,
          secrets: [{ expectVersion: 0, row }],
          audit: [auditEvent('x')],
        });
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'state-full', effect: 'none' });
    expect(stored).toBeGreaterThan(10);
    expect((await journal.secrets()).length).toBe(stored);
    await rm(join(directory, 'ballast'));
    const last = secretRow('last');
    await journal.commit({
      fence,
      secrets: [{ expectVersion: 0, row: last }],
      audit: [auditEvent('x')],
    });
    const lines = await journal.auditLines(1, 1e6);
    expect(lines.length).toBe(stored + 1);
    expect(await chain.verify(lines, await journal.auditHead())).toBeNull();
  } finally {
    execFileSync('umount', [directory]);
  }
});

test('a read-only state directory is refused for writing, and can be read', async (context) => {
  await made();
  if (!mounted(['--bind', directory, directory])) context.skip('mounting needs root');
  try {
    execFileSync('mount', ['-o', 'remount,ro,bind', directory]);
    await expect(opened()).rejects.toMatchObject({ code: 'state-read-only' });
    await using reader = await opened({ readOnly: true });
    expect((await reader.secrets()).length).toBe(200);
  } finally {
    execFileSync('umount', [directory]);
  }
});

test('a read-only state that a killed process left is not shown as older than it is', async (context) => {
  const child = await started('own');
  child.kill('SIGKILL');
  await once(child, 'close');
  if (!mounted(['--bind', directory, directory])) context.skip('mounting needs root');
  try {
    execFileSync('mount', ['-o', 'remount,ro,bind', directory]);
    await expect(opened({ readOnly: true })).rejects.toMatchObject({ code: 'state-read-only' });
  } finally {
    execFileSync('umount', [directory]);
  }
});

function mounted(options: string[]): boolean {
  try {
    execFileSync('mount', options, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

test('a hundred commits of one turn are one transaction in the log', async () => {
  await using journal = await opened();
  const { fence } = await journal.acquire(holder, ttlMs);
  const before = commitsInLog();
  await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      journal.commit({ fence, secrets: [{ expectVersion: 0, row: secretRow(`s${index}`) }] }),
    ),
  );
  // One for the first of the turn's microtasks, which here is all of them; one to spare.
  expect(commitsInLog() - before).toBeLessThanOrEqual(2);
  expect((await journal.secrets()).length).toBe(100);
});

/** Frames that end a transaction: their header's second word is not zero (sqlite.org/fileformat2.html, 4.1). */
function commitsInLog(): number {
  const log = readFileSync(join(directory, 'state.sqlite-wal'));
  const frame = log.readUInt32BE(8) + 24;
  let commits = 0;
  for (let at = 32; at + frame <= log.length; at += frame) {
    if (log.readUInt32BE(at + 4) !== 0) commits++;
  }
  return commits;
}

test('the questions asked in every tick use an index, so sleeping rows cost nothing', async () => {
  await made();
  const database = new DatabaseSync(join(directory, 'state.sqlite'));
  const plan = (sql: string): string =>
    database
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map((row) => String(row['detail']))
      .join('; ');
  try {
    expect(
      plan(
        'SELECT * FROM rotation WHERE active = 1 AND parked = 0 AND wake <= 5 ORDER BY wake, seq LIMIT 9',
      ),
    ).toMatch(/^SEARCH rotation USING INDEX rotation_due/);
    expect(
      plan(
        'SELECT * FROM secret WHERE paused = 0 AND due_at IS NOT NULL AND due_at <= 5 ORDER BY due_at LIMIT 9',
      ),
    ).toMatch(/^SEARCH secret USING INDEX secret_due/);
    expect(plan('SELECT * FROM debt WHERE parked = 0 AND wake <= 5 ORDER BY wake LIMIT 9')).toMatch(
      /^SEARCH debt USING INDEX debt_due/,
    );
    expect(
      plan(
        'SELECT * FROM rotation AS r WHERE r.seq IN (SELECT rotation FROM rotation_secret WHERE active = 1) ORDER BY r.seq',
      ),
    ).toMatch(/SEARCH r .*SCAN rotation_secret USING COVERING INDEX one_active/);
    expect(
      plan(
        "SELECT r.id FROM rotation_secret AS s JOIN rotation AS r ON r.seq = s.rotation WHERE s.secret = 'x' ORDER BY s.rotation DESC LIMIT 3",
      ),
    ).not.toMatch(/SCAN|TEMP/);
  } finally {
    database.close();
  }
});

test('a backup taken while others write opens as a state of its own', async () => {
  await using journal = await opened();
  const { fence } = await journal.acquire(holder, ttlMs);
  await mkdir(join(root, 'copy'), { mode: 0o700 });
  const target = join(root, 'copy', 'state.sqlite');
  const writes = Array.from({ length: 50 }, async (_, index) => {
    const row = rotationRow(`r${index}`);
    await journal.commit({
      fence,
      rotations: [{ expectVersion: 0, row }],
      audit: [auditEvent('x')],
    });
  });
  await Promise.all([journal.backup(target), ...writes]);
  await expect(journal.backup(target)).rejects.toMatchObject({ code: 'refused' });
  expect(mode(target)).toBe('600');
  await using copy = await opened({ directory: join(root, 'copy') });
  const head = await copy.auditHead();
  expect(await chain.verify(await copy.auditLines(1, 1_000), head)).toBeNull();
});

test('a process that sits in its transaction for a moment is waited for', async () => {
  await using journal = await opened({ clock: systemClock() });
  const other = new DatabaseSync(join(directory, 'state.sqlite'));
  try {
    other.exec('BEGIN IMMEDIATE');
    const order: string[] = [];
    const written = journal
      .cache([{ key: 'k', digest: '1', value: '' }])
      .then(() => order.push('written'));
    setTimeout(() => {
      order.push('freed');
      other.exec('COMMIT');
    }, 60);
    await written;
    expect(order).toEqual(['freed', 'written']);
  } finally {
    other.close();
  }
});

test('the newest audit lines in the state row stay within a page, however many are written', async () => {
  await using journal = await opened();
  const { fence } = await journal.acquire(holder, ttlMs);
  for (let round = 0; round < 40; round++) {
    const events = Array.from({ length: 1 + (round % 5) * 7 }, () => auditEvent('x', { round }));
    await journal.commit({ fence, audit: events });
    const database = new DatabaseSync(join(directory, 'state.sqlite'), { readOnly: true });
    const row = database.prepare('SELECT length(recent) AS characters FROM state').get();
    database.close();
    expect(row?.['characters']).toBeLessThanOrEqual(3_000);
  }
});

test('work waiting when a journal is closed is still written; later work is refused', async () => {
  const journal = await opened();
  const { fence } = await journal.acquire(holder, ttlMs);
  const last = journal.commit({ fence, secrets: [{ expectVersion: 0, row: secretRow('last') }] });
  await journal[Symbol.asyncDispose]();
  await last;
  await expect(journal.commit({ fence })).rejects.toMatchObject({ code: 'unexpected' });
  await using again = await opened();
  expect((await again.secret('last'))?.version).toBe(1);
});
