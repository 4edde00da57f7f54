/** Finding the daemon, and starting it, without one: what is refused, what a started one gets to see. */
import { missingCondition } from '../../../test/support/servers/required.ts';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { gateSocketPath, prepareSocketFolder } from '../../control/socket-path.ts';
import { databaseName } from '../../state-place.ts';
import { connectDaemon, type DaemonPlace } from './daemon.ts';

const reference = 'local://mcp/search';
let folder = '';
let state = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'feed-'));
  state = path.join(folder, 'state');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function makeState(): void {
  mkdirSync(state, { mode: 0o700 });
  writeFileSync(path.join(state, databaseName), '', { mode: 0o600 });
}

const connect = (needed: boolean, more: Partial<DaemonPlace> = {}) =>
  connectDaemon({
    env: { PATH: process.env['PATH'], HOME: folder },
    directory: folder,
    state,
    references: ['vault://other', reference],
    startWithinMs: 200,
    ...more,
  })({ needed, signal: AbortSignal.timeout(30_000) });

/** In place of the daemon. */
function program(source: string): readonly [string, ...string[]] {
  const file = path.join(folder, 'daemon.mjs');
  writeFileSync(file, source);
  return [process.execPath, file];
}

describe('a state directory', () => {
  test('that is none, or is empty, is named with the reference that needs it', async () => {
    const missing = {
      code: 'state-missing',
      message: expect.stringContaining(reference),
      next: expect.stringContaining('rotate import'),
    };
    await expect(connect(true)).rejects.toMatchObject(missing);
    mkdirSync(state, { mode: 0o700 });
    await expect(connect(true)).rejects.toMatchObject(missing);
  });

  test('is found as rotate finds it where nobody names it', async () => {
    const env = { XDG_STATE_HOME: folder };
    const said = connect(false, { state: undefined, env });
    await expect(said).rejects.toMatchObject({
      message: expect.stringContaining(`${folder}/rotated`),
    });
    const named = connect(false, { state: undefined, env: { ...env, ROTATED_STATE: 'there' } });
    await expect(named).rejects.toMatchObject({
      message: expect.stringContaining(`${folder}/there`),
    });
  });

  const notRoot = missingCondition(
    process.getuid?.() === 0,
    'root, to make a folder of another account',
  );
  test.skipIf(notRoot !== null)(
    'of another account is refused: its key is not for this one',
    () => {
      makeState();
      chmodSync(folder, 0o755);
      chownSync(state, 65_533, 65_533);
      // Another account cannot load the sources of this one's checkout: it asks through what this process has read.
      const source = `
process.setgid(65534); process.setuid(65534);
await connect({ needed: true, signal: AbortSignal.timeout(30000) }).catch((error) => console.log(JSON.stringify(error)));`;
      const module = JSON.stringify(new URL('./daemon.ts', import.meta.url).href);
      const place = JSON.stringify({ env: {}, directory: '/', state, references: [reference] });
      const { stdout } = spawnSync(process.execPath, [
        '--input-type=module',
        '-e',
        `const { connectDaemon } = await import(${module}); const connect = connectDaemon(${place});${source}`,
      ]);
      expect(JSON.parse(stdout.toString())).toMatchObject({
        code: 'refused',
        message: expect.stringMatching(/local:\/\/mcp\/search .* another account \(uid 65533\)/),
      });
    },
  );

  test('whose socket folder others may enter is not believed', async () => {
    makeState();
    prepareSocketFolder(gateSocketPath(state));
    chmodSync(path.dirname(gateSocketPath(state)), 0o755);
    await expect(connect(true)).rejects.toMatchObject({ code: 'refused' });
  });
});

describe('starting a daemon', () => {
  test('happens only where a value is needed', async () => {
    makeState();
    await expect(connect(false, { program: program('') })).rejects.toMatchObject({
      code: 'daemon-silent',
    });
    expect(existsSync(path.join(state, 'on-demand.log'))).toBe(false);
  });

  test('is refused in a directory that came with something else, such as a clone', async () => {
    makeState();
    chmodSync(state, 0o755);
    await expect(connect(true, { program: program('') })).rejects.toMatchObject({
      code: 'policy-unsafe',
      next: expect.stringContaining('chmod 700'),
    });
    expect(existsSync(path.join(state, 'on-demand.log'))).toBe(false);
  });

  test('gives it its state, and nothing that a config file could turn it with', async () => {
    makeState();
    const listening = program(`
import { createServer } from 'node:net';
console.log(JSON.stringify([process.argv.slice(2), process.cwd(), process.env]));
process.umask(0o077);
import { mkdirSync } from 'node:fs';
mkdirSync('run', { mode: 0o700, recursive: true });
createServer((socket) => { socket.end(); process.exit(0); }).listen('run/gate.sock');
`);
    const env = {
      PATH: process.env['PATH'],
      HOME: folder,
      LANG: 'C',
      ROTATED_POLICIES: '/evil',
      ROTATED_KEY_FILE: '/evil',
      NODE_OPTIONS: '--require=/evil',
      LD_PRELOAD: '/evil',
      API_KEY: 'a-value',
    };
    const socket = await connect(true, { program: listening, env, startWithinMs: 20_000 });
    socket.destroy();
    const [args, cwd, seen] = JSON.parse(
      readFileSync(path.join(state, 'on-demand.log'), 'utf8'),
    ) as [string[], string, Record<string, string>];
    expect(args).toEqual(['--state', state, '--log-level', 'warn']);
    expect(cwd).toBe(state);
    expect(Object.keys(seen).filter((name) => !/^(PATH|HOME|LANG)$/.test(name))).toEqual([]);
    expect(existsSync(path.join(state, 'on-demand.lock'))).toBe(false);
  });

  test('that fails names the log, in which its own words stand', async () => {
    makeState();
    const failing = program(`console.error('no key'); process.exit(1);`);
    await expect(connect(true, { program: failing, startWithinMs: 20_000 })).rejects.toMatchObject({
      code: 'daemon-silent',
      next: expect.stringContaining('on-demand.log'),
    });
    expect(readFileSync(path.join(state, 'on-demand.log'), 'utf8')).toBe('no key\n');
    await expect(connect(true, { program: ['/no/such/program'] })).rejects.toMatchObject({
      code: 'daemon-silent',
    });
  });

  test('is left to whoever is at it; one that died at it is not waited for', async () => {
    makeState();
    const lock = path.join(state, 'on-demand.lock');
    writeFileSync(lock, `${process.pid}`);
    await expect(connect(true, { program: program('') })).rejects.toMatchObject({
      code: 'daemon-silent',
    });
    expect(existsSync(path.join(state, 'on-demand.log'))).toBe(false);
    expect(existsSync(lock)).toBe(true);
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    writeFileSync(lock, `${pid}`);
    await expect(connect(true, { program: program('') })).rejects.toMatchObject({
      code: 'daemon-silent',
    });
    expect(existsSync(path.join(state, 'on-demand.log'))).toBe(true);
    expect(existsSync(lock)).toBe(false);
  });

  test('is not needed where one listens', async () => {
    makeState();
    prepareSocketFolder(gateSocketPath(state));
    const server = createServer().listen(gateSocketPath(state));
    await once(server, 'listening');
    const socket = await connect(false);
    socket.destroy();
    server.close();
  });
});
