import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RotatedError } from '../../src/errors.ts';
import type { MintRequest, ProviderSession } from '../../src/provider/provider.ts';
import { missingPython } from '../../test/contract/subjects/exec.ts';
import { boxed, contextOf } from '../../test/contract/subjects/world.ts';
import provider from './index.ts';
import { optionsSchema, timeoutMsOf } from './options.ts';
import { withhold } from './protocol.ts';

const canary = 'canary-41aa90ce';
/** Never: the runner bounds each test by itself. */
const signal = new AbortController().signal;
let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'rotated-exec-test-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A command in JavaScript: `ask` is the request, `print` the answer. */
async function open(
  body: string,
  more: object = {},
  admin: Record<string, string> | null = { value: canary },
): Promise<ProviderSession> {
  const file = path.join(directory, 'command.mjs');
  await writeFile(
    file,
    `import { readFileSync } from 'node:fs';
     const ask = JSON.parse(readFileSync(0, 'utf8'));
     const print = (answer) => process.stdout.write(JSON.stringify(answer));
     ${body}`,
  );
  const options = optionsSchema.parse({
    command: [process.execPath, file],
    crashClass: 'blind',
    ...more,
  });
  return provider.open(options, contextOf('s', admin, directory));
}

const request: MintRequest = {
  secret: 's',
  rotation: 'r1',
  generation: 2,
  current: { ref: 'old', fields: boxed({ value: 'old-value-1234' }) },
  name: 'rotated-s-r1-1',
  idempotencyToken: '0'.repeat(32),
  inventory: [{ ref: 'old', enabled: true }],
  prepared: null,
  predecessor: { scopes: ['read'] },
};

async function failure(work: Promise<unknown>): Promise<RotatedError> {
  const error: unknown = await work.then(
    () => 'no error',
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(RotatedError);
  return error as RotatedError;
}

test.skipIf(missingPython() !== null)(
  'the 20 lines of the README are a whole provider',
  async () => {
    const readme = await readFile(path.join(import.meta.dirname, 'README.md'), 'utf8');
    const source = /```python\n([^`]*)```/.exec(readme)?.[1] ?? '';
    expect(source.trim().split('\n').length).toBeLessThanOrEqual(21);
    await writeFile(path.join(directory, 'tokens.py'), source);
    await mkdir(path.join(directory, 'tokens'));
    const session = await provider.open(
      optionsSchema.parse({
        command: ['python3', './tokens.py'],
        crashClass: 'chosen',
        env: { TOKENS: path.join(directory, 'tokens') },
      }),
      contextOf('s', null, directory),
    );
    const base = { secret: 's', rotation: 'r1', generation: 1, current: null };
    const prepared = (await session.prepare?.(base, signal)) ?? null;
    const minted = await session.mint({ ...request, prepared, current: null }, signal);
    expect(await session.verify(minted, signal)).toEqual({ ok: true });
    await session.revoke(minted.ref, signal);
    await session.revoke(minted.ref, signal);
    expect(await session.verify(minted, signal)).toMatchObject({ ok: false, kind: 'rejected' });
  },
);

test('the command sees its request on stdin, and nothing of it in arguments or environment', async () => {
  process.env['ROTATED_TEST_PASSED'] = 'passed-on';
  process.env['ROTATED_TEST_KEPT'] = 'kept-back';
  const session = await open(
    `print({ ref: 'r', fields: { value: JSON.stringify({ ask, argv: process.argv.slice(2), env: process.env }) } })`,
    { env: { LITERAL: 'yes' }, passEnv: ['ROTATED_TEST_PASSED', 'ROTATED_TEST_ABSENT'] },
  );
  const { fields } = await session.mint(request, signal);
  delete process.env['ROTATED_TEST_PASSED'];
  delete process.env['ROTATED_TEST_KEPT'];
  const { ask, argv, env } = JSON.parse(fields['value']?.reveal() ?? '') as Record<string, unknown>;
  expect(ask).toEqual({
    protocol: 1,
    call: 'mint',
    secret: 's',
    admin: { value: canary },
    request: {
      rotation: 'r1',
      generation: 2,
      name: 'rotated-s-r1-1',
      idempotencyToken: '0'.repeat(32),
      inventory: ['old'],
      predecessor: { scopes: ['read'] },
      current: { ref: 'old', fields: { value: 'old-value-1234' } },
      prepared: null,
    },
  });
  expect(argv).toEqual([]);
  const usual = ['PATH', 'HOME', 'LANG', 'TZ'];
  const given = Object.entries(env as object).filter(([name]) => !usual.includes(name));
  expect(given).toEqual([
    ['LITERAL', 'yes'],
    ['ROTATED_TEST_PASSED', 'passed-on'],
  ]);
});

test('a policy without an admin credential asks without one', async () => {
  const session = await open(`print({ ref: String(ask.admin), fields: { value: 'v' } })`, {}, null);
  expect((await session.mint(request, signal)).ref).toBe('null');
});

const exits: readonly (readonly [string, string, string])[] = [
  ['process.exit(64)', 'unsupported', 'none'],
  ['process.exit(69)', 'unavailable', 'none'],
  ['process.exit(75)', 'throttled', 'none'],
  ['process.exit(77)', 'denied', 'none'],
  ['process.exit(1)', 'unexpected', 'unknown'],
  ["process.kill(process.pid, 'SIGKILL')", 'unexpected', 'unknown'],
  ["print({ ref: 'r', fields: { value: 'v' } }); process.exitCode = 1", 'unexpected', 'unknown'],
  ["print({ error: { code: 'limit-reached' } })", 'limit-reached', 'none'],
  ["print({ error: { code: 'limit-reached' } }); process.exitCode = 1", 'limit-reached', 'none'],
  ["print({ error: { code: 'unavailable' } })", 'unavailable', 'unknown'],
  ["print({ error: { code: 'conflict', effect: 'applied' } })", 'conflict', 'applied'],
  ["print({ error: { code: 'made-up' } })", 'unexpected', 'unknown'],
  ['', 'invalid-answer', 'unknown'],
  ['print({ ref: 1, fields: {} })', 'invalid-answer', 'unknown'],
  ["process.stdout.write('{}{}')", 'invalid-answer', 'unknown'],
  ["process.stdout.write('x'.repeat(5_000_000))", 'invalid-answer', 'unknown'],
];

for (const [body, code, effect] of exits) {
  test(`a mint that ends by ${body || 'saying nothing'} is ${code}, effect ${effect}`, async () => {
    const error = await failure((await open(body)).mint(request, signal));
    expect([error.code, error.effect]).toEqual([code, effect]);
    expect(error.next).not.toBe('');
  });
}

test('nothing that a command prints, on either stream, is in its error', async () => {
  const noise = `console.error('${canary}-stderr', process.argv, ask);`;
  const bodies = [
    `${noise} process.stdout.write('${canary}-stdout' + JSON.stringify(ask)); process.exitCode = 3`,
    `${noise} print({ error: { code: 'denied', message: '${canary}', next: '${canary}', [ask.admin.value]: 1 } })`,
    `${noise} throw new Error('${canary}')`,
  ];
  for (const body of bodies) {
    const error = await failure((await open(body)).mint(request, signal));
    const printed = inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error);
    expect(printed).not.toContain(canary);
    expect(printed).not.toContain('old-value-1234');
  }
});

test('what a command writes for people has everything taken out that it was given', async () => {
  const session = await open(
    `if (ask.call === 'verify') print({ ok: false, kind: 'rejected', reason: 'no: ' + ask.request.fields.value });
     else print({ findings: [{ name: 'x', level: 'red', message: Buffer.from('a' + ask.admin.value).toString('hex'), mend: ask.admin.value }] })`,
    { capabilities: { check: true } },
  );
  const credential = { ref: 'r', fields: boxed({ value: 'tried-value-99' }) };
  expect(await session.verify(credential, signal)).toEqual({
    ok: false,
    kind: 'rejected',
    reason: 'no: [withheld]',
  });
  const [finding] = await session.check(signal);
  expect([finding?.message, finding?.mend]).toEqual(['61[withheld]', '[withheld]']);
});

test('withholding knows the usual encodings', () => {
  const value = 'p@ss word/1';
  const bytes = Buffer.from(value);
  const forms = [
    value,
    encodeURIComponent(value),
    bytes.toString('base64url'),
    bytes.toString('hex'),
  ];
  expect(withhold(forms.join(' and '), [value])).toBe(forms.map(() => '[withheld]').join(' and '));
});

test('at its deadline a command ends with everything that it started', async () => {
  const marker = path.join(directory, 'grandchild');
  const grandchild = `process.on('SIGTERM', () => {}); require('fs').writeFileSync('${marker}', String(process.pid)); setInterval(() => {}, 1000)`;
  const parent = `const { spawn } = await import('node:child_process');
     spawn(process.execPath, ['-e', ${JSON.stringify(grandchild)}], { stdio: 'inherit' });
     process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)`;
  // Twice as long each time, until it was long enough for both to come up.
  for (let seconds = 1; !existsSync(marker); seconds *= 2) {
    const session = await open(parent, { timeout: `${seconds}s` });
    const error = await failure(session.mint(request, signal));
    expect([error.code, error.effect]).toEqual(['timeout', 'unknown']);
  }
  const pid = Number(await readFile(marker, 'utf8'));
  await expect.poll(() => isRunning(pid)).toBe(false);
});

test('an abort ends the command at once', async () => {
  const session = await open(`setInterval(() => {}, 1000)`);
  const stop = new AbortController();
  const failed = failure(session.verify({ ref: 'r', fields: {} }, stop.signal));
  stop.abort();
  expect((await failed).code).toBe('timeout');
});

test('a program that others can write is never handed the admin credential', async () => {
  const file = path.join(directory, 'open.sh');
  await writeFile(file, '#!/bin/sh\ntouch ran\n');
  await chmod(file, 0o777);
  const options = optionsSchema.parse({ command: ['./open.sh'], crashClass: 'blind' });
  const context = contextOf('s', { value: canary }, directory);
  await expect(provider.open(options, context)).rejects.toMatchObject({ code: 'policy-unsafe' });
  const missing = optionsSchema.parse({ command: ['./missing.sh'], crashClass: 'blind' });
  await expect(provider.open(missing, context)).rejects.toMatchObject({ code: 'not-found' });
});

test('options that contradict each other are refused', () => {
  const good = { command: ['x'], crashClass: 'blind' };
  expect(timeoutMsOf(optionsSchema.parse({ ...good, timeout: '2m' }))).toBe(120_000);
  const wrong = [
    { command: [], crashClass: 'blind' },
    { command: ['x'] },
    { command: ['x\0y'], crashClass: 'blind' },
    { ...good, crashClass: 'listable' },
    { ...good, crashClass: 'listable', capabilities: { list: true } },
    { ...good, timeout: '20' },
    { ...good, env: { 'A=B': 'x' } },
    { ...good, capabilities: { lists: true } },
  ];
  for (const options of wrong) {
    expect(optionsSchema.safeParse(options).success, JSON.stringify(options)).toBe(false);
  }
});

/** A process that has ended but that nobody has waited for is not running: in a container often nobody does. */
async function isRunning(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
    const state = /^State:\s+(\w)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
    return state !== 'Z';
  } catch {
    return false;
  }
}
