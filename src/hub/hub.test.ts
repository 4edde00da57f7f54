import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { duplexPair } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import type { InstanceReport } from '../consumer/consumer.ts';
import { systemProcesses } from '../consumer/processes.ts';
import { gateSocketPath } from '../control/socket-path.ts';
import { type PrivateServer, servePrivately } from '../control/socket-server.ts';
import { RotatedError } from '../errors.ts';
import { newInstance } from '../gate/feed/identity.ts';
import { feedVersion, lineOf } from '../gate/feed/protocol.ts';
import { createFeedSource } from '../gate/feed/source.ts';
import { defaultSettings, type ServerSettings } from '../gate/settings.ts';
import type { Generations, Notice } from '../gate/source.ts';
import { Secret } from '../secret/secret.ts';
import { createHub, type Hub, type HubPorts } from './hub.ts';
import { type Shim, startShim } from './testing/shims.ts';

const hash = 'h'.repeat(43);
const references = ['local://mcp/search#api_key'];
const patience = () => AbortSignal.timeout(30_000);
const quick = { retryFirstMs: 10, retryMostMs: 50, lineWithinMs: 200 };

/** How far the hub's clock is ahead. */
let aheadMs = 0;
let state = '';
let hub: Hub;
let server: PrivateServer | null = null;
let fence = 0;
const shims: Shim[] = [];
/** What the backend serves. */
let current = { value: 'old-value', generation: 1 };
let settings: ServerSettings = defaultSettings;
let refusal: RotatedError | null = null;
/** What the journal would hold, by instance. */
let rows: Map<string, Generations>;
const logged = vi.fn();

beforeEach(async () => {
  state = await mkdtemp(path.join(tmpdir(), 'rotated-hub-'));
  current = { value: 'old-value', generation: 1 };
  settings = defaultSettings;
  refusal = null;
  aheadMs = 0;
  rows = new Map();
  logged.mockReset();
  await serve();
});

afterEach(async () => {
  for (const shim of shims.splice(0)) await shim.kill();
  await stopServing();
  await rm(state, { recursive: true, force: true });
});

function ports(): HubPorts {
  return {
    version: '1.2.3',
    clock: { ...systemClock(), monotonicMs: () => systemClock().monotonicMs() + aheadMs },
    log: { info: logged, warn: logged },
    processes: systemProcesses(() => systemClock().now()),
    redact: (text) => text.replaceAll('old-value', '[redacted]'),
    settings: () => settings,
    resolve: async () => {
      if (refusal !== null) throw refusal;
      return {
        values: [new Secret(current.value)],
        generations: { search: current.generation },
      };
    },
    secretsOf: (given) => (given.some((one) => one.includes('mcp/search')) ? ['search'] : []),
    remember: async (_server, instance, generations) => {
      rows.set(instance, generations);
    },
    forget: async (_server, instance) => {
      rows.delete(instance);
    },
  };
}

async function serve(): Promise<void> {
  fence += 1;
  hub = createHub(ports());
  server = await servePrivately({
    path: gateSocketPath(state),
    ownName: `g${fence}.sock`,
    connectionsMax: 64,
    onConnection: hub.accept,
  });
}

/** As a daemon that dies: every line is cut, nothing is said. */
async function stopServing(): Promise<void> {
  const closed = server?.close();
  server = null;
  await hub.close();
  await closed;
}

async function shim(more: object = {}): Promise<Shim> {
  const started = await startShim({
    socket: gateSocketPath(state),
    server: 'search',
    hash,
    references,
    timing: quick,
    ...more,
  });
  shims.push(started);
  return started;
}

const serving = (generation: number) => ({
  state: 'serving' as const,
  generations: { search: generation },
  problem: null,
});

/** Asks until it is so: instances report in their own time. */
async function until(
  holds: (reports: readonly InstanceReport[]) => boolean,
  known: readonly string[] = [],
): Promise<readonly InstanceReport[]> {
  const look = async () => {
    const reports = await hub.report('search', 'search', known, patience());
    return holds(reports) ? reports : null;
  };
  return vi.waitUntil(look, { timeout: 30_000, interval: 10 });
}

const isOne = (expected: Partial<InstanceReport>) => (reports: readonly InstanceReport[]) =>
  reports.length === 1 &&
  Object.entries(expected).every(([key, value]) =>
    Object.entries(reports[0] ?? {}).some(([k, v]) => k === key && v === value),
  );

describe('a shim and the hub', () => {
  test('values, generations and settings arrive; the journal knows the instance before', async () => {
    settings = { ...defaultSettings, drainMs: 1_234 };
    const one = await shim();
    expect(await one.resolve()).toMatchObject({
      values: { [references[0] ?? '']: 'old-value' },
      generations: { search: 1 },
    });
    expect(rows.get(one.instance)).toEqual({ search: 1 });
    one.tell({ do: 'settings' });
    expect((await one.next('settings'))['settings']).toMatchObject({ drainMs: 1_234 });
    expect(JSON.stringify(logged.mock.calls)).not.toContain('old-value');
  });

  test('one that never asked is idle, one that was answered serves what it was answered, until it says itself', async () => {
    const one = await shim();
    const { instance } = one;
    await until(isOne({ instance, generation: null, state: 'idle' }));
    await one.resolve();
    await until(isOne({ instance, generation: 1, state: 'serving' }));
    current = { value: 'new-value', generation: 2 };
    one.tell({ do: 'report', status: serving(1) });
    await one.resolve();
    // Answered with the new value, it still serves the old one.
    await until(isOne({ instance, generation: 1, state: 'serving' }));
    one.tell({ do: 'report', status: serving(2) });
    await until(isOne({ instance, generation: 2, state: 'serving' }));
    one.tell({ do: 'report', status: { ...serving(2), state: 'idle' } });
    await until(isOne({ instance, generation: 2, state: 'idle' }));
    // An idle one that asked may be starting with what was current then.
    await one.resolve();
    await until(isOne({ instance, state: 'serving' }));
    one.tell({ do: 'report', status: { ...serving(2), state: 'idle' } });
    await until(isOne({ instance, state: 'idle' }));
  });

  test('every instance of the server is told, no other; an emergency says so', async () => {
    const [a, b] = [await shim(), await shim()];
    const other = await shim({ server: 'other', references: ['local://else'] });
    for (const one of [a, b, other]) await one.resolve();
    await hub.tell('search', false);
    expect(await a.next('notice')).toMatchObject({ urgent: false });
    expect(await b.next('notice')).toMatchObject({ urgent: false });
    await hub.tell('search', true);
    expect(await a.next('notice')).toMatchObject({ urgent: true });
    await hub.tell('other', false);
    // Its first: nothing was said to it before.
    expect(await other.next('notice')).toMatchObject({ urgent: false });
    const reports = await hub.report('search', 'search', [], patience());
    expect(reports.map(({ instance }) => instance).toSorted()).toEqual(
      [a.instance, b.instance].toSorted(),
    );
  });

  test('a problem is reported with its instance, redacted, and logged once', async () => {
    const one = await shim();
    await one.resolve();
    const problem = { code: 'swap-failed', message: 'The new process said old-value.' };
    one.tell({ do: 'report', status: { ...serving(1), problem } });
    await until(isOne({ problem: 'The new process said [redacted].', generation: 1 }));
    one.tell({ do: 'report', status: { ...serving(1), state: 'idle', problem } });
    await until(isOne({ state: 'idle' }));
    const lines = logged.mock.calls.filter(
      ([, text]) => text === 'a server keeps its old credential',
    );
    expect(lines).toEqual([
      [
        {
          server: 'search',
          instance: one.instance,
          code: 'swap-failed',
          problem: 'The new process said [redacted].',
        },
        'a server keeps its old credential',
      ],
    ]);
  });

  test('what a shim says for people cannot forge a line', async () => {
    const one = await shim();
    await one.resolve();
    const message = `line\nline \u202eback\u0007${'x'.repeat(2_000)}`;
    one.tell({
      do: 'report',
      status: { ...serving(1), problem: { code: 'swap-failed', message } },
    });
    const [report] = await until(([first]) => first?.problem !== undefined);
    expect(report?.problem).toBe(`line?line ?back?${'x'.repeat(2_000)}`.slice(0, 1_000));
  });

  test('one that falls silent is unreachable, whatever it said last, until it speaks again', async () => {
    const one = await shim();
    await one.resolve();
    one.tell({ do: 'report', status: { ...serving(1), state: 'idle' } });
    await until(isOne({ state: 'idle' }));
    one.signal('SIGSTOP');
    aheadMs = 10_001;
    expect(await hub.report('search', 'search', [], patience())).toMatchObject([
      { instance: one.instance, state: 'unreachable' },
    ]);
    one.signal('SIGCONT');
    one.tell({ do: 'report', status: serving(1) });
    await until(isOne({ state: 'serving' }));
  });

  test('a refusal reaches the shim with its code and the next step', async () => {
    refusal = new RotatedError('not-granted', 'search was not granted it.', {
      next: 'rotate allow search',
    });
    const one = await shim();
    expect(await one.resolve()).toMatchObject({
      error: { code: 'not-granted', next: 'rotate allow search' },
    });
    expect(rows.size).toBe(0);
    refusal = null;
    hub.granted('search');
    await one.next('notice');
    expect(await one.resolve()).toMatchObject({ generations: { search: 1 } });
  });

  test('new settings arrive while it runs', async () => {
    const one = await shim();
    await one.resolve();
    settings = { ...defaultSettings, redact: false };
    hub.refresh();
    // Answered after the settings were sent on the same line.
    await one.resolve();
    one.tell({ do: 'settings' });
    expect((await one.next('settings'))['settings']).toEqual(settings);
  });
});

describe('a daemon that goes and comes', () => {
  test('what was resolved last stays usable; the line is found again, and it is asked again', async () => {
    const one = await shim();
    await one.resolve();
    one.tell({ do: 'report', status: serving(1) });
    await until(isOne({ state: 'serving' }));
    await stopServing();
    expect(await one.resolve()).toMatchObject({ generations: { search: 1 } });
    current = { value: 'new-value', generation: 2 };
    await serve();
    expect(await one.next('notice')).toMatchObject({ urgent: false });
    // The new daemon knows at once what it serves.
    await until(isOne({ instance: one.instance, generation: 1, state: 'serving' }));
    expect(rows.get(one.instance)).toEqual({ search: 1 });
    expect(await one.resolve()).toMatchObject({
      values: { [references[0] ?? '']: 'new-value' },
      generations: { search: 2 },
    });
  });

  test('an emergency that nobody heard is told to the instance that comes back', async () => {
    const one = await shim({ timing: { ...quick, retryFirstMs: 400, retryMostMs: 400 } });
    await one.resolve();
    await stopServing();
    await serve();
    hub.expect([{ server: 'search', secrets: ['search'], instance: one.instance }]);
    await hub.tell('search', true);
    await vi.waitUntil(async () => (await one.next('notice'))['urgent'] === true);
  });

  test('a second takes over while the first hangs: the shim notices the silence', async () => {
    const one = await shim({ timing: { ...quick, silenceMostMs: 300 } });
    await one.resolve();
    // The hung one keeps its lines and says nothing; its alive comes only every few seconds.
    const hung = hub;
    const old = server;
    await serve();
    await one.next('notice');
    await until(isOne({ instance: one.instance }));
    await hung.close();
    await old?.close();
  });

  test('without a daemon and without a value there is an error, and a value as soon as one is there', async () => {
    await stopServing();
    const one = await shim();
    expect(await one.resolve()).toMatchObject({ error: { effect: 'none' } });
    await serve();
    expect(await one.resolve()).toMatchObject({ generations: { search: 1 } });
  });
});

describe('proof that an instance has ended', () => {
  test('one that says goodbye is gone', async () => {
    const one = await shim();
    await one.resolve();
    one.tell({ do: 'close' });
    await one.next('closed');
    await until(isOne({ instance: one.instance, state: 'gone' }), [one.instance]);
    expect(rows.size).toBe(0);
    expect(await hub.report('search', 'search', [], patience())).toEqual([]);
  });

  test('one that was killed is unreachable or gone, never serving, and then gone', async () => {
    const one = await shim();
    await one.resolve();
    one.tell({ do: 'report', status: serving(1) });
    await until(isOne({ state: 'serving' }));
    await one.kill();
    await until(isOne({ state: 'gone' }), [one.instance]);
    expect(rows.size).toBe(0);
  });

  test('the daemon forgets one that was killed, also where nobody asks', async () => {
    const one = await shim();
    await one.resolve();
    await one.kill();
    await vi.waitUntil(() => rows.size === 0, { timeout: 30_000, interval: 10 });
  });

  test('a line cut while the process lives is unreachable, also for a daemon that never saw it', async () => {
    const one = await shim({ timing: { ...quick, retryFirstMs: 600_000, retryMostMs: 600_000 } });
    await one.resolve();
    await stopServing();
    await serve();
    const known = [one.instance];
    expect(await hub.report('search', 'search', known, patience())).toEqual([
      { instance: one.instance, generation: null, state: 'unreachable' },
    ]);
    await one.kill();
    expect(await hub.report('search', 'search', known, patience())).toEqual([
      { instance: one.instance, generation: null, state: 'gone' },
    ]);
  });

  test('one expected from the journal is unreachable until it comes back', async () => {
    const one = await shim({ timing: { ...quick, retryFirstMs: 400, retryMostMs: 400 } });
    await one.resolve();
    await stopServing();
    await serve();
    hub.expect([{ server: 'search', secrets: ['search'], instance: one.instance }]);
    expect(await hub.report('search', 'search', [], patience())).toMatchObject([
      { instance: one.instance, state: 'unreachable' },
    ]);
    await until(isOne({ instance: one.instance, state: 'serving' }));
  });

  test('a pid of another process proves the old one gone; a name that says nothing proves nothing', async () => {
    const reused = newInstance('search', systemRandom()).replace(/-\d+-([0-9a-f]{12})$/, '-1-$1');
    const known = [reused, 'no-instance-of-ours'];
    expect(await hub.report('search', 'search', known, patience())).toEqual([
      { instance: reused, generation: null, state: 'gone' },
      { instance: 'no-instance-of-ours', generation: null, state: 'unreachable' },
    ]);
  });

  test('a stopped process is told from one that lives, and is never taken for gone', async () => {
    const one = await shim();
    await one.resolve();
    one.signal('SIGSTOP');
    const report = await hub.report('search', 'search', [one.instance], patience());
    expect(report).toMatchObject([{ instance: one.instance }]);
    expect(report[0]?.state).not.toBe('gone');
    one.signal('SIGCONT');
  });

  test('a process that is not of this machine is refused', async () => {
    const socket = await connected();
    const instance = newInstance('search', systemRandom()).replace(/-\d+-([0-9a-f]{12})$/, '-1-$1');
    socket.write(hello({ instance }));
    expect(await said(socket)).toMatchObject({ type: 'refused', error: { code: 'unsupported' } });
  });
});

describe('what is not of this protocol', () => {
  test.each([
    ['junk', 'GET / HTTP/1.1\n'],
    ['no hello first', lineOf({ type: 'resolve', id: 1 })],
    ['a hello of another shape', hello({ references: [4] })],
    ['a server name that could forge a line', hello({ server: 'a\nb' })],
    ['an instance of another server', hello({ instance: newInstance('other', systemRandom()) })],
    ['an endless line', 'x'.repeat(300_000)],
    ['two hellos', hello({}) + hello({})],
  ])('%s closes the line, is not repeated, and harms nobody', async (_, text) => {
    const socket = await connected();
    // Not `once`, which fails at the ECONNRESET of what was written but not read.
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => {});
    socket.resume();
    socket.write(text);
    await closed;
    expect(JSON.stringify(logged.mock.calls)).not.toContain('HTTP');
    const one = await shim();
    expect(await one.resolve()).toMatchObject({ generations: { search: 1 } });
  });

  test('another version of the feed is told so', async () => {
    const socket = await connected();
    socket.write(hello({ feed: feedVersion + 1, more: 'of another version' }));
    expect(await said(socket)).toMatchObject({ type: 'refused', error: { code: 'unsupported' } });
  });
});

describe('inside one process', () => {
  test('the same hub takes a line that is no socket; many values ask for many things; closing is a goodbye', async () => {
    const source = createFeedSource({
      connect: async () => {
        const [near, far] = duplexPair();
        hub.accept(far);
        return near;
      },
      asker: { server: 'search', hash, what: 'search', references },
      clock: systemClock(),
      random: systemRandom(),
      log: { info: logged, warn: logged },
    });
    const notices: Notice[] = [];
    source.listen((notice) => notices.push(notice));
    const answers = await Promise.all([1, 2, 3].map(() => source.resolve(patience())));
    expect(answers.map(({ generations }) => generations['search'])).toEqual([1, 1, 1]);
    // Written in one turn, they arrive as one: an emergency among them makes it one.
    void hub.tell('search', false);
    void hub.tell('search', true);
    await source.resolve(patience());
    expect(notices.some(({ urgent }) => urgent)).toBe(true);
    await source.close();
    // This process lives on: only the goodbye proves that the instance does not.
    await until(isOne({ instance: source.instance, state: 'gone' }), [source.instance]);
    await expect(source.resolve(patience())).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('a closed hub says so to whoever reloads', async () => {
    await hub.close();
    await expect(hub.tell('search', false)).rejects.toMatchObject({
      code: 'consumer-failed',
      effect: 'none',
    });
  });
});

function hello(change: object): string {
  const instance = newInstance('search', systemRandom());
  const whole = {
    type: 'hello',
    feed: feedVersion,
    instance,
    server: 'search',
    hash,
    what: 'npx',
    references,
    held: null,
    status: null,
    ...change,
  };
  return `${JSON.stringify(whole)}\n`;
}

async function connected(): Promise<Socket> {
  const socket = createConnection(gateSocketPath(state));
  await once(socket, 'connect');
  return socket;
}

async function said(socket: Socket): Promise<unknown> {
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  return JSON.parse(chunk.toString().split('\n')[0] ?? '');
}
