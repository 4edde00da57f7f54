/** What every check command prints, and how it ends: run as a process, since that is what CI sees. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

const check = path.join(import.meta.dirname, 'check.ts');

/** With `-e` no script's name stands in `argv`. */
function run(body: string, ...args: string[]) {
  const source = `import { runCheck } from ${JSON.stringify(check)};
    await runCheck({ name: 'sample', text: ({ count }) => 'count ' + count, run: async (context) => { ${body} } }, process.argv.slice(1));`;
  const child = spawnSync(
    process.execPath,
    ['--input-type=module-typescript', '-e', source, '--', ...args],
    { encoding: 'utf8', cwd: path.dirname(check) },
  );
  return { status: child.status, stdout: child.stdout, stderr: child.stderr };
}

test('with --json one object is printed, with what every check tells', () => {
  const { status, stdout, stderr } = run(
    `context.skip('redis', 'not installed'); context.progress('working');
     return { ok: true, count: context.args.length, seen: context.seed };`,
    'a',
    '--json',
    '--seed',
    '7',
    'b',
  );
  expect(status).toBe(0);
  expect(stdout.trimEnd().split('\n').length).toBe(1);
  expect(JSON.parse(stdout)).toEqual({
    ok: true,
    seed: 7,
    seen: 7,
    commit: expect.stringMatching(/^([0-9a-f]{40}\+?|unknown)$/) as string,
    node: process.version,
    durationMs: expect.any(Number) as number,
    skipped: [{ name: 'redis', reason: 'not installed' }],
    count: 2,
  });
  expect(stderr).toContain('seed 7');
  expect(stderr).toContain('skipped: redis: not installed');
  expect(stderr).toContain('working');
});

test('without --json a text for people is printed', () => {
  const { status, stdout } = run('return { ok: true, count: 3 };');
  expect([status, stdout]).toEqual([0, 'count 3\n']);
});

test('a check that fails or throws ends with 1 and still answers', () => {
  expect(run('return { ok: false, count: 0 };', '--json').status).toBe(1);
  const thrown = run(`setInterval(() => {}, 1000); throw new Error('broken');`, '--json');
  expect(thrown.status).toBe(1);
  expect(JSON.parse(thrown.stdout)).toMatchObject({ ok: false, error: 'broken', skipped: [] });
});

test('a seed that is no number ends with 2', () => {
  expect(run('return { ok: true, count: 0 };', '--seed', 'x').status).toBe(2);
});
