/** A server as a process: what passes, how it is stopped, and that nothing of it is left; real processes throughout. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Secret } from '../secret/secret.ts';
import type { Launch } from './entry.ts';
import { frameBytesMax } from './frames.ts';
import type { Link } from './link.ts';
import { processLink, type StopTimes, writeValueFile } from './process-link.ts';

type ProcessLaunch = Extract<Launch, { kind: 'process' }>;

const secret = 's3cret-value-of-a-test';
const resolved = {
  values: new Map([['local://v', new Secret(secret)]]),
  generations: {},
};
/** Long enough that a process which ends by itself is never hurried. */
const patient: StopTimes = { eofMs: 30_000, termMs: 30_000 };
const brisk: StopTimes = { eofMs: 200, termMs: 200 };

const links: Link[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'process-link-'));
});
afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.stop('now')));
  rmSync(folder, { recursive: true, force: true });
});

class Seen {
  readonly frames: string[] = [];
  readonly logs: string[] = [];
  readonly tooLong: [string, string][] = [];
  drains = 0;
  readonly #waiters: (() => void)[] = [];

  changed(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }

  async until(isIt: () => boolean): Promise<void> {
    while (!isIt()) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  async frame(text: string): Promise<void> {
    await this.until(() => this.frames.includes(`${text}\n`));
  }
}

function start(script: string, times = patient, more: Partial<ProcessLaunch> = {}) {
  const launch: ProcessLaunch = {
    kind: 'process',
    command: process.execPath,
    args: ['-e', script],
    cwd: folder,
    env: {},
    files: [],
    ...more,
  };
  const seen = new Seen();
  const link = processLink(launch, times)(resolved, {
    onFrames(frames) {
      seen.frames.push(...frames.map(String));
      seen.changed();
    },
    onDrain() {
      seen.drains += 1;
      seen.changed();
    },
    onLog(lines) {
      seen.logs.push(lines.toString());
      seen.changed();
    },
    onTooLong(head, tail) {
      seen.tooLong.push([head.toString(), tail.toString()]);
      seen.changed();
    },
  });
  links.push(link);
  return { link, seen };
}

/** Gone, or dead and not collected by whoever adopted it. */
function isRunning(pid: number): boolean {
  try {
    const [, state] = /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
    return state !== 'Z' && state !== 'X';
  } catch {
    return false;
  }
}

const say = 'const say = (text) => process.stdout.write(`${text}\\n`);';
const stays = 'setInterval(() => {}, 1_000);';
const stubborn = `${say} process.stdin.on('end', () => say('eof')).resume();
  process.on('SIGTERM', () => say('term')); ${stays} say('ready');`;

describe('what a process says', () => {
  test('passes as frames, junk included, a last line without its newline too', async () => {
    const { link, seen } = start(
      `process.stdout.write('Listening...\\n\\n{"a":1}\\nnot { json\\n{"last":true}')`,
    );
    await link.ended;
    expect(seen.frames).toEqual(['Listening...\n', '{"a":1}\n', 'not { json\n', '{"last":true}\n']);
  });

  test('for people passes as whole lines, a very long one cut', async () => {
    const { link, seen } = start(
      `process.stderr.write('one\\ntw'); process.stderr.write('o\\n' + 'x'.repeat(200_000) + '\\nend')`,
    );
    await link.ended;
    const lines = seen.logs.join('').split('\n');
    expect(lines).toHaveLength(5);
    expect([lines[0], lines[1], lines[3], lines[4]]).toEqual(['one', 'two', 'end', '']);
    expect(lines[2]?.length).toBeLessThan(70_000);
    for (const log of seen.logs) expect(log.endsWith('\n')).toBe(true);
  });

  test('in a frame beyond the cap is dropped and reported once, with both its ends', async () => {
    const { link, seen } = start(
      `process.stdout.write('{"head":1,"x":"' + 'x'.repeat(${frameBytesMax}) + '","id":5}\\n{"next":1}\\n')`,
    );
    await link.ended;
    expect(seen.frames).toEqual(['{"next":1}\n']);
    expect(seen.tooLong).toHaveLength(1);
    expect(seen.tooLong[0]?.[0].startsWith('{"head":1,"x":"xxx')).toBe(true);
    expect(seen.tooLong[0]?.[1].endsWith('xxx","id":5}\n')).toBe(true);
  });

  test('waits while its reader is paused, and comes whole and in order after that', async () => {
    const { link, seen } = start(
      `for (let n = 0; n < 20_000; n++) process.stdout.write(n + '-'.repeat(50) + '\\n');
       process.stderr.write('written\\n');`,
    );
    link.pause();
    await seen.until(() => seen.logs.includes('written\n'));
    expect(seen.frames).toEqual([]);
    link.resume();
    await link.ended;
    expect(seen.frames.map((frame) => Number.parseInt(frame, 10))).toEqual([
      ...Array(20_000).keys(),
    ]);
  });
});

describe('what is said to a process', () => {
  test('arrives', async () => {
    const { link, seen } = start(`process.stdin.pipe(process.stdout)`);
    expect(link.send(Buffer.from('{"a":1}\n'))).toBe(true);
    await seen.frame('{"a":1}');
  });

  test('waits where it does not read: send says so, and the drain says when to go on', async () => {
    const { link, seen } = start(
      `${say} let got = 0; process.stdin.on('data', (d) => { got += d.length; if (d.at(-1) === 10) say(got); }).pause();
       process.on('SIGUSR2', () => process.stdin.resume()); ${stays} say(process.pid);`,
    );
    await seen.until(() => seen.frames.length > 0);
    const pid = Number(seen.frames[0]);
    const chunk = Buffer.alloc(100_000, 'x');
    let sent = 0;
    for (; link.send(chunk) || sent === 0; sent += chunk.length);
    sent += chunk.length;
    expect(link.send(Buffer.from('\n'))).toBe(false);
    expect(seen.drains).toBe(0);
    process.kill(pid, 'SIGUSR2');
    await seen.frame(`${sent + 1}`);
    await seen.until(() => seen.drains > 0);
    expect(link.send(Buffer.from('\n'))).toBe(true);
  });

  test('after its end, or after it closed its input, harms nobody', async () => {
    const ended = start('');
    await ended.link.ended;
    expect(ended.link.send(Buffer.from('late\n'))).toBe(false);
    const closed = start(`${say} require('fs').closeSync(0); ${stays} say('closed');`);
    await closed.seen.frame('closed');
    for (let count = 0; count < 3; count++) closed.link.send(Buffer.alloc(1_000_000));
    expect(await closed.link.stop('now')).toMatchObject({ why: 'closed', signal: 'SIGKILL' });
  });
});

describe('the end of a process', () => {
  test.each([0, 1, 7, 255])('by itself is passed on: exit code %i', async (exitCode) => {
    const { link } = start(`process.exit(${exitCode})`);
    expect(await link.ended).toEqual({ why: 'exited', exitCode, signal: null, message: null });
  });

  test('by a signal is passed on', async () => {
    const { link } = start(`process.kill(process.pid, 'SIGTERM'); ${stays}`);
    expect(await link.ended).toMatchObject({ why: 'exited', exitCode: null, signal: 'SIGTERM' });
  });

  test('comes with the end of its input, and no signal is needed', async () => {
    const { link, seen } = start(
      `${say} process.on('SIGTERM', () => say('term'));
       process.stdin.on('end', () => { say('answer'); process.exitCode = 3; }).resume(); say('ready');`,
    );
    await seen.frame('ready');
    expect(await link.stop('gentle')).toEqual({
      why: 'closed',
      exitCode: 3,
      signal: null,
      message: null,
    });
    expect(seen.frames).toEqual(['ready\n', 'answer\n']);
  });

  test('comes with TERM where it goes on past the end of its input', async () => {
    const { link, seen } = start(
      `${say} process.on('SIGTERM', () => { say('term'); process.exit(4); });
       process.stdin.on('end', () => say('eof')).resume(); ${stays} say('ready');`,
      { ...patient, eofMs: 200 },
    );
    await seen.frame('ready');
    expect(await link.stop('gentle')).toMatchObject({ why: 'closed', exitCode: 4, signal: null });
    expect(seen.frames).toEqual(['ready\n', 'eof\n', 'term\n']);
  });

  test('comes with KILL where it ignores both, in this order', async () => {
    const { link, seen } = start(stubborn, brisk);
    await seen.frame('ready');
    expect(await link.stop('gentle')).toMatchObject({
      why: 'closed',
      exitCode: null,
      signal: 'SIGKILL',
    });
    expect(seen.frames).toEqual(['ready\n', 'eof\n', 'term\n']);
  });

  test('comes at once where told so, also to one that is being stopped gently', async () => {
    const one = start(stubborn);
    await one.seen.frame('ready');
    expect(await one.link.stop('now')).toMatchObject({ why: 'closed', signal: 'SIGKILL' });
    const two = start(stubborn);
    await two.seen.frame('ready');
    const gentle = two.link.stop('gentle');
    await two.seen.frame('eof');
    expect(await two.link.stop('now')).toMatchObject({ why: 'closed', signal: 'SIGKILL' });
    expect(await gentle).toBe(await two.link.ended);
    expect(two.seen.frames).not.toContain('term\n');
  });

  test('comes though its reader was paused, with all that it still said', async () => {
    const { link, seen } = start(
      `${say} process.stderr.write('up\\n'); process.stdin.on('end', () => say('x'.repeat(500_000))).resume();`,
    );
    await seen.until(() => seen.logs.length > 0);
    link.pause();
    const end = link.stop('gentle');
    link.pause();
    expect(await end).toMatchObject({ exitCode: 0 });
    expect(seen.frames).toEqual([`${'x'.repeat(500_000)}\n`]);
  });

  test('leaves no zombie', async () => {
    const { link, seen } = start(`console.log(process.pid)`);
    await link.ended;
    expect(() => statSync(`/proc/${Number(seen.frames[0])}`)).toThrow('ENOENT');
  });
});

describe('what a process started itself', () => {
  const grandchild = (stdio: string) =>
    `const deaf = "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.error('deaf')";
     const one = require('child_process').spawn(process.execPath, ['-e', deaf], { stdio: ${stdio} });`;

  test('is gone with it, though it ignores TERM', async () => {
    const { link, seen } = start(
      `${say} ${grandchild("['ignore', 'ignore', 'pipe']")}
       one.stderr.on('data', () => { one.stderr.destroy(); one.unref(); say(one.pid); }); process.stdin.resume();`,
    );
    await seen.until(() => seen.frames.length > 0);
    const pid = Number(seen.frames[0]);
    expect(isRunning(pid)).toBe(true);
    expect(await link.stop('gentle')).toMatchObject({ why: 'closed', exitCode: 0 });
    await expect.poll(() => isRunning(pid)).toBe(false);
  });

  test('is gone as soon as that has ended, though it holds the pipes', async () => {
    const { link, seen } = start(
      `${grandchild("['ignore', 'inherit', 'inherit']")} one.unref(); console.log(one.pid); process.stdin.resume();`,
    );
    await seen.until(() => seen.frames.length > 0 && seen.logs.includes('deaf\n'));
    // Nobody waits 30 s for it.
    expect(await link.stop('gentle')).toMatchObject({ why: 'closed', exitCode: 0 });
    await expect.poll(() => isRunning(Number(seen.frames[0]))).toBe(false);
  }, 20_000);

  test('is gone after it ended by itself, and does not keep its pipes open for ever', async () => {
    const { link, seen } = start(
      `${grandchild("['ignore', 'inherit', 'inherit']")} one.unref(); console.log(one.pid); process.exitCode = 5;`,
      brisk,
    );
    expect(await link.ended).toMatchObject({ why: 'exited', exitCode: 5 });
    await expect.poll(() => isRunning(Number(seen.frames[0]))).toBe(false);
  });
});

describe('a process that cannot be started', () => {
  const hiding = { args: ['{{local://v}}'], env: { KEY: 'local://v' } };

  test.each([
    ['is not there', { command: '/nowhere/server' }, /^\/nowhere\/server was not found\. /],
    [
      'is not there, by its name',
      { command: 'no-such-server-anywhere' },
      /^no-such-server-anywhere was not found\. /,
    ],
    [
      'is no program',
      { command: '/etc/passwd' },
      /^\/etc\/passwd could not be started \(EACCES\)\.$/,
    ],
    ['has no folder', { cwd: '/nowhere' }, /there is no folder \/nowhere\.$/],
    [
      'has a file in a place that is none',
      { files: [{ path: '/dev/null/key', content: 'local://v', reread: false }] },
      /^A file that .* could not be written \(\w+\)\.$/,
    ],
    ['lacks a value', { env: { A: 'local://gone' } }, /^Nothing stands behind local:\/\/gone\.$/],
  ])('since it %s ends as failed and says why, without values', async (_, given, message) => {
    const { link } = start('', patient, { ...hiding, ...given });
    expect(link.send(Buffer.from('x\n'))).toBeTypeOf('boolean');
    const end = await link.ended;
    expect(end).toMatchObject({ why: 'failed', exitCode: null, signal: null });
    expect(end.message).toMatch(message);
    expect(end.message).not.toContain(secret);
    expect(await link.stop('gentle')).toEqual(end);
  });

  test('for want of descriptors ends as failed, and the gate goes on', () => {
    const script = `
      import { openSync } from 'node:fs';
      import { processLink } from ${JSON.stringify(path.join(import.meta.dirname, 'process-link.ts'))};
      const start = processLink({ kind: 'process', command: '/bin/true', args: [], cwd: '/', env: {}, files: [] });
      const say = (text) => process.stdout.write(text);
      say('ready ');
      try { for (;;) openSync('/dev/null'); } catch {}
      const link = start({ values: new Map(), generations: {} }, {});
      const end = await link.ended;
      await new Promise(setImmediate);
      say(end.message);`;
    const { stdout, status } = spawnSync(
      'sh',
      ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, script],
      { encoding: 'utf8' },
    );
    expect(stdout).toBe('ready /bin/true could not be started (EMFILE).');
    expect(status).toBe(0);
  });
});

describe('a file with a value', () => {
  test('is there before the process starts, for this account alone', async () => {
    const target = path.join(folder, 'new', 'key');
    const { link, seen } = start(
      `const fs = require('fs'); console.log(fs.statSync(process.env.FILE).mode.toString(8), fs.readFileSync(process.env.FILE, 'utf8'));`,
      patient,
      {
        env: { FILE: target },
        files: [{ path: target, content: 'key={{local://v}}', reread: false }],
      },
    );
    await link.ended;
    expect(seen.frames).toEqual([`100600 key=${secret}\n`]);
    expect(statSync(path.dirname(target)).mode & 0o777).toBe(0o700);
  });

  test('replaces the one before, and never through what lies in the way', () => {
    const target = path.join(folder, 'key');
    const aside = `${target}.${process.pid}.new`;
    writeFileSync(target, 'old');
    chmodSync(target, 0o644);
    const elsewhere = path.join(folder, 'elsewhere');
    writeFileSync(elsewhere, 'untouched');
    symlinkSync(elsewhere, aside);
    writeValueFile({ path: target, content: 'new', reread: true });
    expect(readFileSync(target, 'utf8')).toBe('new');
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(readFileSync(elsewhere, 'utf8')).toBe('untouched');
    expect(() => statSync(aside)).toThrow('ENOENT');
  });
});

test('a process gets its environment and nothing else, but for the folder of its command at the end of PATH', async () => {
  const { link, seen } = start(`console.log(JSON.stringify(process.env))`, patient, {
    env: { KEY: 'local://v', PLAIN: '1', PATH: '/usr/bin' },
  });
  await link.ended;
  const PATH = `/usr/bin:${path.dirname(process.execPath)}`;
  expect(JSON.parse(seen.frames[0] ?? '')).toEqual({ KEY: secret, PLAIN: '1', PATH });
});
