/** The feed as a client's servers meet it: the real service, real shims, grants from the command line. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Daemon, runProgram, startDaemon } from '../../test/support/rotated.ts';
import { commandHash } from '../gate/feed/identity.ts';
import { type Shim, startShim } from '../hub/testing/shims.ts';

const command = ['npx', '-y', 'search-mcp'] as const;
const reference = 'local://mcp/search';
const quick = { retryFirstMs: 10, retryMostMs: 100 };

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const granted = `
    consumers: [{ gate: { server: search, command: [npx, -y, search-mcp], drain: 7s } }]`;

function policies(consumers: string): string {
  return `secrets:
  search:
    provider: { use: generated, kind: random }
    backend: local://mcp/search
    schedule: manual
    grace: 0s${consumers}
  issuer-admin:
    provider: { use: generated, kind: random }
    backend: local://admin/issuer
    schedule: manual
    consumers: [{ http: { url: "http://127.0.0.1:9/reload", key: local://admin/hook } }]
`;
}

function scene(consumers = '') {
  const folder = mkdtempSync(path.join(tmpdir(), 'gate-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const schedules = path.join(folder, 'schedules');
  mkdirSync(schedules);
  writeFileSync(path.join(schedules, 'search.yaml'), policies(consumers));
  const state = path.join(folder, 'state');
  const args = ['--state', state, '--policies', schedules, '--key', path.join(folder, 'key')];
  const rotate = async (...words: string[]) => {
    const end = words.indexOf('--');
    const before = end === -1 ? words : words.slice(0, end);
    const after = end === -1 ? [] : words.slice(end);
    const ended = await runProgram('rotate', [...before, '--json', ...args, ...after], {
      cwd: folder,
    });
    const answer = ended.out === '' ? {} : (JSON.parse(ended.out) as Record<string, unknown>);
    return { code: ended.code, err: ended.err, answer };
  };
  const shim = async (more: object = {}): Promise<Shim> => {
    const started = await startShim({
      state,
      server: 'search',
      hash: commandHash(command, folder),
      references: [reference],
      timing: quick,
      ...more,
    });
    cleanups.push(() => started.kill());
    return started;
  };
  return { folder, state, args, rotate, shim };
}

async function run(args: readonly string[]): Promise<Daemon> {
  const daemon = startDaemon(args);
  cleanups.push(() => daemon[Symbol.asyncDispose]());
  await daemon.said('ready');
  return daemon;
}

type Scene = ReturnType<typeof scene>;

const first = async ({ rotate }: Scene) => {
  expect((await rotate('run', 'search', '--wait', '20s')).code).toBe(0);
};

/** A rotation that runs beside the test. */
const rotation = ({ rotate }: Scene, ...more: string[]) =>
  rotate('run', 'search', '--wait', '30s', ...more);

function serve(shim: Shim, generation: number, problem: string | null = null): void {
  shim.tell({
    do: 'report',
    status: {
      state: 'serving',
      generations: { search: generation },
      problem: problem === null ? null : { code: 'swap-failed', message: problem },
    },
  });
}

async function statusOf({ rotate }: Scene) {
  const { answer } = await rotate('status');
  return answer as {
    secrets: {
      secret: string;
      generation: number;
      instances: { instance: string; state: string; generation: number | null }[];
      active: { waitsFor: string | null } | null;
    }[];
    warnings: string[];
    owner: { pid: number };
  };
}

describe('grants', () => {
  test('nothing is handed out unasked; allow shows what was refused and grants it to that command alone', async () => {
    const here = scene();
    await run(here.args);
    await first(here);
    const shim = await here.shim();
    expect(await shim.resolve()).toMatchObject({
      error: { code: 'not-granted', next: expect.stringContaining('rotate allow search') },
    });
    expect((await statusOf(here)).warnings.join()).toContain('rotate allow search');
    const listed = await here.rotate('allow', '--list');
    expect(listed.answer).toMatchObject({
      grants: [],
      refused: [{ server: 'search', what: 'npx -y search-mcp', references: [reference] }],
    });
    expect((await here.rotate('allow', 'search', '--yes', '--reason', 'ours')).code).toBe(0);
    await shim.next('notice');
    const read = await here.rotate('read', 'search', '--reveal');
    const answer = await shim.resolve();
    expect(answer).toMatchObject({ generations: { search: 1 } });
    expect(JSON.stringify(read.answer)).toContain(
      (answer['values'] as Record<string, string>)[reference],
    );
    expect((await here.rotate('allow', '--list')).answer).toMatchObject({
      grants: [{ server: 'search', program: 'npx', references: [reference] }],
      refused: [],
    });

    const changed = await here.shim({ hash: commandHash([...command, '--more'], here.folder) });
    expect(await changed.resolve()).toMatchObject({ error: { code: 'not-granted' } });
    const other = await here.shim({ server: 'other' });
    expect(await other.resolve()).toMatchObject({ error: { code: 'not-granted' } });
    const more = await here.shim({ references: [reference, 'local://mcp/else'] });
    expect(await more.resolve()).toMatchObject({
      error: { code: 'not-granted', message: expect.stringContaining('local://mcp/else') },
    });

    expect((await here.rotate('allow', 'search', '--revoke')).answer).toMatchObject({ ended: 1 });
    expect(await shim.resolve()).toMatchObject({ error: { code: 'not-granted' } });
    const audit = await here.rotate('audit');
    const actions = (audit.answer['lines'] as { event: { action: string; reason: string } }[]).map(
      ({ event }) => event.action,
    );
    expect(actions.filter((one) => one.startsWith('grant.'))).toEqual([
      'grant.refused',
      'grant.allowed',
      'grant.refused',
      'grant.refused',
      'grant.refused',
      'grant.revoked',
      'grant.refused',
    ]);
  });

  test('what rotated itself works with is never granted, nor handed out', async () => {
    const here = scene();
    await run(here.args);
    const asked = await here.rotate('allow', 'search', 'local://admin/hook#key', '--', 'npx');
    expect(asked.code).toBe(3);
    expect(asked.answer).toMatchObject({ error: { code: 'refused' } });
    const shim = await here.shim({ references: ['local://admin/hook#key'] });
    expect(await shim.resolve()).toMatchObject({
      error: { code: 'not-granted', message: expect.stringContaining('never handed') },
    });
    expect((await here.rotate('allow', '--list')).answer).toMatchObject({ refused: [] });
  });

  test('a grant can be made while no daemon runs, and holds for the daemon that comes', async () => {
    const here = scene();
    const made = await here.rotate('allow', 'search', reference, '--', ...command);
    expect(made.code, made.err).toBe(0);
    await run(here.args);
    await first(here);
    const shim = await here.shim();
    expect(await shim.resolve()).toMatchObject({ generations: { search: 1 } });
  });

  test('a policy that states the command grants its own secret, and its settings arrive', async () => {
    const here = scene(granted);
    await run(here.args);
    await first(here);
    const shim = await here.shim();
    expect(await shim.resolve()).toMatchObject({ generations: { search: 1 } });
    shim.tell({ do: 'settings' });
    expect((await shim.next('settings'))['settings']).toMatchObject({ drainMs: 7_000 });
    const other = await here.shim({ references: [reference, 'local://admin/issuer'] });
    expect(await other.resolve()).toMatchObject({ error: { code: 'not-granted' } });
  });
});

describe('a rotation', () => {
  test('waits for every instance, says what keeps one, and ends when all have it', async () => {
    const here = scene(granted);
    await run(here.args);
    await first(here);
    const [a, b] = [await here.shim(), await here.shim()];
    for (const one of [a, b]) {
      await one.resolve();
      serve(one, 1);
    }
    const going = rotation(here);
    await Promise.all([a.next('notice'), b.next('notice')]);
    expect(await a.resolve()).toMatchObject({ generations: { search: 2 } });
    serve(a, 2);
    await b.resolve();
    serve(b, 1, 'The new process did not start.');
    await expect
      .poll(async () => (await statusOf(here)).secrets.find(({ secret }) => secret === 'search'))
      .toMatchObject({
        active: { waitsFor: expect.stringContaining('The new process did not start') },
      });
    serve(b, 2);
    const ended = await going;
    expect(ended.code, JSON.stringify(ended)).toBe(0);
    expect(
      (await statusOf(here)).secrets.find(({ secret }) => secret === 'search')?.instances,
    ).toHaveLength(2);
  });

  test('a server that was granted the secret is told, though its policy does not name it', async () => {
    const here = scene();
    await run(here.args);
    await here.rotate('allow', 'search', reference, '--', ...command);
    await first(here);
    const shim = await here.shim();
    await shim.resolve();
    serve(shim, 1);
    const going = rotation(here);
    await shim.next('notice');
    await shim.resolve();
    serve(shim, 2);
    expect((await going).code).toBe(0);
  });

  test('an emergency says so', async () => {
    const here = scene(granted);
    await run(here.args);
    await first(here);
    const shim = await here.shim();
    await shim.resolve();
    serve(shim, 1);
    const going = here.rotate('now', 'search', '--yes');
    expect(await shim.next('notice')).toMatchObject({ urgent: true });
    await shim.resolve();
    serve(shim, 2);
    expect((await going).code).toBe(0);
  });

  test('one that dies meanwhile is proven gone, and keeps nobody waiting', async () => {
    const here = scene(granted);
    await run(here.args);
    await first(here);
    const shim = await here.shim();
    await shim.resolve();
    serve(shim, 1);
    const going = rotation(here);
    await shim.next('notice');
    await shim.kill();
    expect((await going).code).toBe(0);
  });

  test('a daemon that was killed beside its shims knows who is left: one comes back, the dead are proven gone', async () => {
    const here = scene(granted);
    const daemon = await run(here.args);
    await first(here);
    const [dies, lives] = [await here.shim(), await here.shim()];
    for (const one of [dies, lives]) {
      await one.resolve();
      serve(one, 1);
    }
    await expect
      .poll(async () => (await statusOf(here)).secrets.flatMap(({ instances }) => instances))
      .toHaveLength(2);
    daemon.child.kill('SIGKILL');
    await daemon.exit();
    await dies.kill();
    await run(here.args);
    await lives.next('notice');
    const going = rotation(here);
    await lives.next('notice');
    await lives.resolve();
    serve(lives, 2);
    expect((await going).code).toBe(0);
    const { secrets } = await statusOf(here);
    expect(secrets.flatMap(({ instances }) => instances)).toMatchObject([
      { instance: lives.instance, generation: 2, state: 'serving' },
    ]);
  });

  test('an instance that is cut off keeps the old key alive until it is back, also over a restart of the daemon', async () => {
    const here = scene(granted);
    const daemon = await run(here.args);
    await first(here);
    const shim = await here.shim();
    await shim.resolve();
    serve(shim, 1);
    await expect
      .poll(async () => (await statusOf(here)).secrets.flatMap(({ instances }) => instances))
      .toMatchObject([{ state: 'serving', generation: 1 }]);
    shim.signal('SIGSTOP');
    daemon.child.kill('SIGKILL');
    await daemon.exit();
    await run(here.args);
    const going = rotation(here);
    await expect
      .poll(async () => (await statusOf(here)).secrets.find(({ secret }) => secret === 'search'))
      .toMatchObject({ active: { waitsFor: expect.stringContaining('unreachable') } });
    shim.signal('SIGCONT');
    await shim.next('notice');
    await shim.resolve();
    serve(shim, 2);
    expect((await going).code).toBe(0);
  });

  test('a command that does the work itself tells the servers as the daemon would', async () => {
    const here = scene(granted);
    const daemon = await run(here.args);
    await first(here);
    const shim = await here.shim();
    await shim.resolve();
    serve(shim, 1);
    await expect
      .poll(async () => (await statusOf(here)).secrets.flatMap(({ instances }) => instances))
      .toMatchObject([{ state: 'serving', generation: 1 }]);
    await daemon.stop();
    const going = rotation(here);
    await shim.next('notice');
    await expect
      .poll(async () => {
        const answer = await shim.resolve();
        return answer['generations'];
      })
      .toEqual({ search: 2 });
    serve(shim, 2);
    expect((await going).code).toBe(0);
  });
});

describe('a daemon on demand', () => {
  test('the first server that needs a value starts it, those beside it wait for the same one', async () => {
    const here = scene(granted);
    const daemon = await run(here.args);
    await first(here);
    await daemon.stop();
    const shims = await Promise.all([here.shim(), here.shim(), here.shim()]);
    const answers = await Promise.all(shims.map((one) => one.resolve()));
    const { owner } = await statusOf(here);
    cleanups.push(() => process.kill(owner.pid, 'SIGKILL'));
    for (const answer of answers) expect(answer).toMatchObject({ generations: { search: 1 } });
    expect(readFileSync(path.join(here.state, 'on-demand.log'), 'utf8')).toBe('');
  });

  test('where nothing was set up none is started, and where it cannot start the log is named', async () => {
    const here = scene(granted);
    const shim = await here.shim();
    expect(await shim.resolve()).toMatchObject({ error: { code: 'state-missing' } });
    const daemon = await run(here.args);
    await daemon.stop();
    rmSync(path.join(here.folder, 'key'));
    expect(await shim.resolve()).toMatchObject({
      error: { code: 'daemon-silent', next: expect.stringContaining('on-demand.log') },
    });
    expect(readFileSync(path.join(here.state, 'on-demand.log'), 'utf8')).toContain('key');
  });
});
