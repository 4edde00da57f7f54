import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ChildCall, runChild } from './child.ts';
import { RotatedError } from './errors.ts';

const canary = 'canary-4f1c2b';
let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-child-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function run(script: string, call: Partial<ChildCall> = {}) {
  const path = join(directory, 'child.mjs');
  await writeFile(path, script);
  return runChild({
    command: [process.execPath, path],
    cwd: directory,
    timeoutMs: 20_000,
    signal: AbortSignal.timeout(30_000),
    ...call,
  });
}

async function failure(work: Promise<unknown>): Promise<RotatedError> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RotatedError);
  return error as RotatedError;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a child gets the named environment and nothing else of ours but PATH, HOME, LANG and TZ', async () => {
  process.env['ROTATED_TEST_CANARY'] = canary;
  try {
    const result = await run('process.stdout.write(JSON.stringify(process.env))', {
      env: { GIVEN: 'yes' },
      outputBytesMax: 10_000,
    });
    const env = JSON.parse(result.stdout) as Record<string, string>;
    expect(env['GIVEN']).toBe('yes');
    const allowed = ['PATH', 'HOME', 'LANG', 'TZ', 'GIVEN', '__CF_USER_TEXT_ENCODING'];
    expect(Object.keys(env).filter((name) => !allowed.includes(name))).toEqual([]);
  } finally {
    delete process.env['ROTATED_TEST_CANARY'];
  }
});

test('an exit code is an answer, and no shell reads the arguments', async () => {
  const result = await run('', {
    command: [
      process.execPath,
      '-e',
      'process.stdout.write(process.argv[1]); process.exit(7)',
      '$(id); "x"',
    ],
    outputBytesMax: 100,
  });
  expect(result).toEqual({ exitCode: 7, endedBy: null, stdout: '$(id); "x"' });
});

test('a child that never reads a large input still ends well', async () => {
  const result = await run('process.stdin.destroy();', { input: 'x'.repeat(2_000_000) });
  expect(result.exitCode).toBe(0);
});

test('a child ended by a signal says which', async () => {
  const result = await run('process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 1000);');
  expect(result).toMatchObject({ exitCode: null, endedBy: 'SIGKILL' });
});

// The child announces itself on a file, so the test knows both are up before it ends them.
const stubborn = `
  import { spawn } from 'node:child_process';
  import { writeFileSync } from 'node:fs';
  const deaf = "process.on('SIGTERM', () => {}); process.send('up'); setInterval(() => {}, 1000)";
  const grandchild = spawn(process.execPath, ['-e', deaf], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  grandchild.once('message', () => {
    writeFileSync('pids', process.pid + ' ' + grandchild.pid);
    console.log('${canary}');
  });
  setInterval(() => {}, 1000);
`;

test('the deadline ends the whole group, also a descendant that ignores SIGTERM', async () => {
  // Twice as long each time, until it was long enough for both to come up.
  let error = new RotatedError('unexpected', '');
  for (let timeoutMs = 500; !existsSync(join(directory, 'pids')); timeoutMs *= 2) {
    error = await failure(run(stubborn, { timeoutMs, killAfterMs: 200, outputBytesMax: 1_000 }));
  }
  expect(error).toMatchObject({ code: 'timeout', effect: 'unknown' });
  expect(JSON.stringify(error) + String(error.stack) + String(error.cause)).not.toContain(canary);
  const pids = (await readFile(join(directory, 'pids'), 'utf8')).split(' ').map(Number);
  expect(pids).toHaveLength(2);
  await expect.poll(() => pids.filter(alive)).toEqual([]);
});

test('an abort ends the child, and an aborted caller starts none', async () => {
  const controller = new AbortController();
  const running = run(
    `import { writeFileSync } from 'node:fs'; writeFileSync('up', ''); setInterval(() => {}, 1000);`,
    { signal: controller.signal },
  );
  const caught = failure(running);
  await expect.poll(() => readFile(join(directory, 'up')).catch(() => null)).not.toBeNull();
  controller.abort();
  expect(await caught).toMatchObject({ code: 'timeout', effect: 'unknown' });

  await rm(join(directory, 'up'));
  const second = await failure(
    run(`import { writeFileSync } from 'node:fs'; writeFileSync('up', '');`, {
      signal: AbortSignal.abort(),
    }),
  );
  expect(second).toMatchObject({ code: 'timeout', effect: 'none' });
  await expect(readFile(join(directory, 'up'))).rejects.toThrow('ENOENT');
});

test('too much output ends the child and is not kept', async () => {
  const error = await failure(
    run(`setInterval(() => console.log('${canary}'.repeat(100)), 1);`, { outputBytesMax: 1_000 }),
  );
  expect(error).toMatchObject({ code: 'invalid-answer' });
  expect(JSON.stringify(error) + String(error.stack)).not.toContain(canary);
});

test('a command that cannot be started says why, with effect none', async () => {
  const missing = await failure(run('', { command: [join(directory, 'none')] }));
  expect(missing).toMatchObject({ code: 'not-found', effect: 'none' });
  await writeFile(join(directory, 'plain'), 'text');
  const plain = await failure(run('', { command: [join(directory, 'plain')] }));
  expect(plain).toMatchObject({ code: 'denied', effect: 'none' });
});

test('what a child prints never reaches our own output', async () => {
  // From outside: a process of ours runs a noisy child, and its own output is what is looked at.
  const source = `
    import { runChild } from ${JSON.stringify(new URL('./child.ts', import.meta.url).href)};
    const noisy = "console.log('${canary}'); console.error('${canary}')";
    for (const outputBytesMax of [0, 1000]) {
      await runChild({
        command: [process.execPath, '-e', noisy], cwd: '/', timeoutMs: 20000,
        signal: AbortSignal.timeout(30000), outputBytesMax,
      });
    }
    console.log('done');`;
  const outer = spawn(process.execPath, ['--input-type=module', '-e', source]);
  let printed = '';
  for (const stream of [outer.stdout, outer.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
  }
  await once(outer, 'close');
  expect(printed.replaceAll(/^.*ExperimentalWarning.*\n|^\(Use `node.*\n/gm, '')).toBe('done\n');
});

test('a value that no environment can hold is not quoted in the error', async () => {
  const error = await failure(run('', { env: { VALUE: `${canary}\0` } }));
  expect(error).toMatchObject({ code: 'unavailable', effect: 'none' });
  expect(JSON.stringify(error) + String(error.stack)).not.toContain(canary);
});
