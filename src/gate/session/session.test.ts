/** A session over real processes: what its client sees while they are replaced, drained, crash, rest. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ValueFile } from '../entry.ts';
import { type Said, TestClient, TestSource } from '../testing/harness.ts';

const clients: TestClient[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'session-'));
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  rmSync(folder, { recursive: true, force: true });
});

type Settings = ConstructorParameters<typeof TestSource>[0];

function open(
  settings: Settings = {},
  env: Record<string, string> = {},
  files: readonly ValueFile[] = [],
): TestClient {
  const source = new TestSource({ redact: false, ...settings });
  const client = new TestClient(source, { LOG: path.join(folder, 'log'), ...env }, files);
  clients.push(client);
  return client;
}

async function legacy(settings: Settings = {}, env: Record<string, string> = {}) {
  const client = open(settings, env);
  await client.initialize();
  return client;
}

const meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
};

async function modern(settings: Settings = {}) {
  const client = open(settings, { ERA: 'modern' });
  await client.request('server/discover', { _meta: meta });
  return client;
}

function logged(): readonly string[] {
  return readFileSync(path.join(folder, 'log'), 'utf8').trim().split('\n');
}

function updates(client: TestClient, method: string): readonly Said[] {
  return client.said.filter((one) => one.method === method);
}

describe('a swap', () => {
  test('moves new calls to the new key while the old process answers what it holds', async () => {
    const client = await legacy();
    const slow = client.tool('slow', { steps: 15, ms: 20 });
    const generation = client.source.rotate();
    await client.point('flipped', 2);
    expect(await client.tool('whoami')).toBe('k2-another-key-value');
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    expect(await slow).toBe('slow by k1');
    expect(await client.source.served(generation)).toMatchObject({
      state: 'serving',
      problem: null,
    });
  });

  test('replays level, subscriptions and roots, and closes the gap of each subscription with one update', async () => {
    const client = await legacy();
    await client.request('logging/setLevel', { level: 'error' });
    await client.request('resources/subscribe', { uri: 'x://1' });
    await client.request('resources/subscribe', { uri: 'x://2' });
    await client.request('resources/unsubscribe', { uri: 'x://1' });
    client.source.mode = '';
    await client.source.served(client.source.rotate('roots'));
    // The new process asked for the roots; nobody had, so the client was asked.
    const asked = await client.until((one) => one.method === 'roots/list');
    client.send({ id: asked.id, result: { roots: [{ uri: 'file:///r' }] } });
    await client.source.served(client.source.rotate('roots'));
    expect(updates(client, 'roots/list')).toHaveLength(1);
    const state = JSON.parse(await client.tool('state')) as Record<string, unknown>;
    expect(state).toMatchObject({ level: 'error', subscriptions: ['x://2'] });
    expect(state['roots']).toEqual({ roots: [{ uri: 'file:///r' }] });
    expect(
      updates(client, 'notifications/resources/updated').map((one) => one.params?.['uri']),
    ).toEqual(['x://2', 'x://2']);
  });

  test('says list_changed once where the tools differ, and not where they are the same', async () => {
    const client = await legacy();
    await client.source.served(client.source.rotate());
    expect(updates(client, 'notifications/tools/list_changed')).toHaveLength(0);
    await client.source.served(client.source.rotate('more-tools'));
    expect(updates(client, 'notifications/tools/list_changed')).toHaveLength(1);
  });

  test('keeps progress whole and in order across the flip', async () => {
    const client = await legacy();
    const slow = client.tool('slow', { steps: 20, ms: 15 }, { _meta: { progressToken: 'p' } });
    client.source.rotate();
    await slow;
    expect(
      updates(client, 'notifications/progress').map((one) => one.params?.['progress']),
    ).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
  });

  test('lets a question of the old process be answered after the flip, though the new one uses the same id', async () => {
    const client = await legacy();
    const first = client.tool('ask');
    const one = await client.until((said) => said.method === 'elicitation/create');
    client.source.rotate();
    await client.point('flipped', 2);
    const second = client.tool('ask');
    const two = await client.until(
      (said) => said.method === 'elicitation/create' && said.id !== one.id,
    );
    const tokens = [one, two].map(
      (said) => (said.params as { _meta: { progressToken: unknown } })._meta.progressToken,
    );
    expect(new Set(tokens).size).toBe(2);
    client.send({ id: two.id, result: { action: 'accept', content: { which: 'two' } } });
    expect(await second).toContain('"two"');
    client.send({ id: one.id, result: { action: 'accept', content: { which: 'one' } } });
    expect(await first).toContain('"one"');
    await client.source.served(2);
  });

  test('sends a cancellation to the process that has the call, and drops its late answer', async () => {
    const client = await legacy();
    void client.tool('slow', { steps: 10, ms: 30 });
    const id = client.lastId;
    client.source.rotate();
    await client.point('flipped', 2);
    client.send({ method: 'notifications/cancelled', params: { requestId: id } });
    await client.source.served(2);
    expect(client.said.filter((one) => one.id === id)).toEqual([]);
    expect(logged()).toContain(`cancelled ${id}`);
  });

  test('sends cursors and tasks to the process that handed them out', async () => {
    const client = await legacy();
    const page = await client.request('tools/list', { paged: true });
    const task = await client.request('tools/call', { name: 'task' });
    void client.tool('slow', { steps: 30, ms: 20 });
    client.source.rotate();
    await client.point('flipped', 2);
    const rest = await client.request('tools/list', { cursor: page.result?.['nextCursor'] });
    expect(rest.result?.['tools']).toHaveLength(1);
    const { taskId } = (task.result as { task: { taskId: string } }).task;
    expect((await client.request('tasks/get', { taskId })).result).toMatchObject({ isMine: true });
  });

  test('between initialize and initialized is put off until the client is through', async () => {
    const client = open();
    await client.request('initialize', { protocolVersion: '2025-11-25', capabilities: {} });
    client.source.rotate();
    await client.point('deferred');
    expect(client.points).not.toContain('preparing');
    client.send({ method: 'notifications/initialized' });
    await client.source.served(2);
  });

  test('two changes back to back end with the latest', async () => {
    const client = await legacy();
    client.source.rotate();
    await client.point('preparing');
    client.source.rotate();
    client.source.rotate();
    await client.source.served(4);
    expect(await client.tool('whoami')).toBe('k4-another-key-value');
    expect(client.points.filter((one) => one === 'preparing')).toHaveLength(2);
  });

  test('of a server whose client has not said anything yet needs no handshake', async () => {
    const client = open();
    await client.point('flipped');
    await client.source.served(client.source.rotate());
    await client.initialize();
    expect(await client.tool('whoami')).toBe('k2-another-key-value');
  });

  test('of a server that reads its file again rewrites the file, and the process goes on', async () => {
    const file = path.join(folder, 'key');
    const client = open({}, {}, [{ path: file, content: 'key={{local://t#key}}', reread: true }]);
    await client.initialize();
    const before = await client.tool('state');
    expect(readFileSync(file, 'utf8')).toBe('key=k1-first-key-value');
    await client.source.served(client.source.rotate());
    expect(readFileSync(file, 'utf8')).toBe('key=k2-another-key-value');
    expect(await client.tool('state')).toBe(before);
  });
});

describe('a new process that is not fit', () => {
  test.each([
    ['no-start', 'ended'],
    ['hang-initialize', 'not ready within'],
    ['other-protocol', 'another protocol version'],
    ['other-version', 'version 2.0.0 instead of 1.0.0'],
    ['fewer', 'lacks the capability'],
    ['lost-tool', 'lacks the tools slow'],
    ['bad-key', 'the canary whoami'],
  ])('%s: the old one goes on, and says why', async (mode, why) => {
    const client = await legacy({ startMs: 1_500, canary: { tool: 'whoami', arguments: {} } });
    client.source.rotate(mode);
    const status = await client.source.failed();
    expect(status.problem).toMatchObject({ code: expect.any(String) as string });
    expect(status.problem?.message).toContain(why);
    expect(status.generations).toEqual({ t: 1 });
    expect(await client.tool('echo', { text: 'still here' })).toBe('still here');
    client.source.mode = '';
    client.source.notice();
    await client.source.served(2);
  });

  test('that dies after the flip hands the client back to the old one while that is warm', async () => {
    const client = await legacy({ warmMs: 60_000 });
    client.source.rotate('die-soon');
    await client.point('flipped-back');
    expect(await client.tool('echo', { text: 'back' })).toBe('back');
    expect(client.source.statuses.at(-1)).toMatchObject({
      generations: { t: 1 },
      problem: { code: 'swap-failed' },
    });
    client.source.current = { ...client.source.current, warmMs: 0 };
    client.source.mode = '';
    client.source.notice();
    await client.source.served(2);
    expect(await client.tool('whoami')).toBe('k2-another-key-value');
  });
});

describe('an old process', () => {
  test('that dies while it drains answers each pending call with one error', async () => {
    const client = await legacy();
    const hanging = [client.tool('hang'), client.tool('hang')];
    const dying = client.tool('slow', { steps: 1, ms: 200 });
    client.source.rotate();
    await client.point('flipped', 2);
    const [{ pid }] = [JSON.parse(await client.tool('state')) as { pid: number }];
    expect(pid).toBeGreaterThan(0);
    await dying;
    const [serving] = [pid];
    const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
      .trim()
      .split(' ')
      .map(Number);
    for (const child of children)
      if (child !== serving && isFixture(child)) process.kill(child, 'SIGKILL');
    expect(await Promise.all(hanging)).toEqual(['error -31001', 'error -31001']);
    await client.source.served(2);
  });

  test('with a call past the drain limit stays, and the generation is not reported as adopted', async () => {
    const client = await legacy({ drainMs: 100 });
    const slow = client.tool('slow', { steps: 1, ms: 1_500 });
    client.source.rotate();
    await client.point('flipped', 2);
    await client.tool('slow', { steps: 1, ms: 400 });
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    expect(await slow).toBe('slow by k1');
    await client.source.served(2);
  });

  test('is cut in an emergency when its time is over, with one error for each call', async () => {
    const client = await legacy({ drainMs: 100 });
    const hanging = client.tool('hang');
    client.source.rotate('', true);
    expect(await hanging).toBe('error -31003');
    await client.source.served(2);
  });

  test('that drains already is hurried by an emergency', async () => {
    const client = await legacy({ drainMs: 100 });
    const hanging = client.tool('hang');
    client.source.rotate();
    await client.point('flipped', 2);
    client.source.notice(true);
    expect(await hanging).toBe('error -31003');
    await client.source.served(2);
  });

  test('that ignores end of input and TERM is killed', async () => {
    const client = await legacy();
    await client.source.served(client.source.rotate('deaf'));
    await client.source.served(client.source.rotate());
    client.session.clientClosed();
    expect(await client.session.ended).toMatchObject({ why: 'closed' });
  });
});

describe('a crash', () => {
  test('answers each pending call once, restarts with the handshake, and goes on', async () => {
    const client = await legacy();
    await client.request('logging/setLevel', { level: 'debug' });
    const hanging = client.tool('hang');
    const died = client.tool('die');
    expect(await Promise.all([hanging, died])).toEqual(['error -31001', 'error -31001']);
    expect(JSON.parse(await client.tool('state'))).toMatchObject({ level: 'debug' });
  });

  test('again and again ends the session with the exit code of the server', async () => {
    const block = path.join(folder, 'block');
    const client = await legacy({}, { BLOCK: block });
    writeFileSync(block, '');
    expect(await client.tool('die')).toBe('error -31001');
    expect(await client.tool('echo', { text: 'x' })).toBe('error -31002');
    expect((await client.session.ended).exitCode).toBe(7);
  }, 30_000);

  test('before the first answer is what the client would have seen without us', async () => {
    const source = new TestSource();
    source.mode = 'no-start';
    const client = new TestClient(source);
    clients.push(client);
    expect(await client.session.ended).toMatchObject({ exitCode: 3, why: 'exited' });
  });

  test('sends a call again only where its tool may be repeated', async () => {
    const client = await legacy({ retry: ['hang'] });
    const again = client.request('tools/call', { name: 'hang', arguments: { n: 1 } });
    const not = client.tool('slow', { n: 2, steps: 100, ms: 50 });
    expect(await client.tool('die', { n: 3 })).toBe('error -31001');
    expect(await not).toBe('error -31001');
    expect(await client.tool('echo', { text: 'up' })).toBe('up');
    expect(logged().filter((line) => line.endsWith('hang 1'))).toHaveLength(2);
    expect(logged().filter((line) => line.endsWith('slow 2'))).toHaveLength(1);
    void again;
  });
});

describe('an idle instance', () => {
  test('stops at a change and starts with the newest key at the next call', async () => {
    const client = await legacy({ idleMs: 0 });
    await client.request('logging/setLevel', { level: 'info' });
    client.source.rotate();
    await client.source.until((status) => status.state === 'idle');
    client.source.rotate();
    await client.source.until((status) => status.generations['t'] === 3);
    expect(await client.tool('whoami')).toBe('k3-another-key-value');
    expect(JSON.parse(await client.tool('state'))).toMatchObject({ level: 'info' });
    expect(client.source.statuses.at(-1)?.state).toBe('serving');
  });

  test('that cannot start answers the call with an error and tries again at the next', async () => {
    const block = path.join(folder, 'block');
    const client = await legacy({ idleMs: 0 }, { BLOCK: block });
    client.source.rotate();
    await client.source.until((status) => status.state === 'idle');
    writeFileSync(block, '');
    expect(await client.tool('echo', { text: 'x' })).toBe('error -31002');
    // Being told again makes nothing better: it must not count as one that will take the new key.
    const reports = client.source.statuses.length;
    client.source.notice();
    await client.source.until(() => client.source.statuses.length > reports);
    expect(client.source.statuses.at(-1)?.problem).not.toBeNull();
    rmSync(block);
    expect(await client.tool('echo', { text: 'x' })).toBe('x');
    expect(client.source.statuses.at(-1)?.problem).toBeNull();
  });

  test('that cannot start with the new key serves with the old one, and says so', async () => {
    const client = await legacy({ idleMs: 0 });
    client.source.rotate();
    await client.source.until((status) => status.state === 'idle');
    client.source.mode = 'no-start';
    expect(await client.tool('whoami')).toBe('k1-first-key-value');
    expect(client.source.statuses.at(-1)).toMatchObject({
      state: 'serving',
      generations: { t: 1 },
      problem: { code: 'unavailable' },
    });
  });

  test('with a subscription is not idle: it is swapped', async () => {
    const client = await legacy({ idleMs: 0 });
    await client.request('resources/subscribe', { uri: 'x://1' });
    await client.source.served(client.source.rotate());
    expect(client.points).not.toContain('resting');
  });
});

test('a crash while the new key is refused restarts with the old one', async () => {
  const client = await legacy({ canary: { tool: 'whoami', arguments: {} } });
  client.source.rotate('bad-key');
  await client.source.failed();
  expect(await client.tool('die')).toBe('error -31001');
  expect(await client.tool('whoami')).toBe('k1-first-key-value');
  expect(client.source.statuses.at(-1)).toMatchObject({ generations: { t: 1 } });
  expect(client.source.statuses.at(-1)?.problem).not.toBeNull();
});

describe('drain-window', () => {
  test('never runs two at once: calls wait, none is lost, and answers to questions pass', async () => {
    const client = await legacy({ swap: 'drain-window' });
    const asked = client.tool('ask');
    const question = await client.until((said) => said.method === 'elicitation/create');
    client.source.rotate();
    await client.point('holding');
    const held = [client.tool('whoami'), client.tool('echo', { text: 'held' })];
    client.send({ id: question.id, result: { action: 'accept' } });
    expect(await asked).toContain('accept');
    expect(await Promise.all(held)).toEqual(['k2-another-key-value', 'held']);
    await client.source.served(2);
  });

  test('past its limit gives up, serves the old key and says so', async () => {
    const client = await legacy({ swap: 'drain-window', drainMs: 100 });
    void client.tool('hang');
    client.source.rotate();
    const held = client.tool('echo', { text: 'held' });
    expect(await held).toBe('held');
    expect((await client.source.failed()).generations).toEqual({ t: 1 });
  });

  test('with a new process that does not start goes back to the old key', async () => {
    const client = await legacy({ swap: 'drain-window' });
    client.source.rotate('no-start');
    const status = await client.source.failed();
    expect(status.generations).toEqual({ t: 1 });
    expect(await client.tool('whoami')).toBe('k1-first-key-value');
  });
});

test('pin-sessions keeps the process of a session; an emergency that may cut does not', async () => {
  const client = await legacy({ swap: 'pin-sessions' });
  client.source.rotate();
  expect((await client.source.failed()).problem?.message).toContain('pinned');
  expect(await client.tool('whoami')).toBe('k1-first-key-value');
  client.source.notice(true);
  await client.source.served(2);
});

describe('while the new process is made ready', () => {
  test('a drain-window has not adopted anything', async () => {
    const client = await legacy({ swap: 'drain-window' });
    client.source.rotate('slow-list');
    await client.point('preparing');
    client.session.fromClient([]);
    const held = client.tool('whoami');
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    expect(await held).toBe('k2-another-key-value');
    await client.source.served(2);
  });

  test('a drain-window whose processes all fail to start goes on trying, and loses no call', async () => {
    const block = path.join(folder, 'block');
    const client = await legacy({ swap: 'drain-window' }, { BLOCK: block });
    writeFileSync(block, '');
    client.source.rotate();
    await client.point('holding');
    const held = client.tool('whoami');
    await client.source.failed();
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    rmSync(block);
    expect(await held).toBe('k2-another-key-value');
    await client.source.served(2);
  });

  test('the old one may crash: one process serves, and nothing is left behind', async () => {
    const client = await legacy();
    client.source.rotate('slow-list');
    await client.point('preparing');
    expect(await client.tool('die')).toBe('error -31001');
    const question = client.tool('ask');
    const asked = await client.until((said) => said.method === 'elicitation/create');
    client.send({ id: asked.id, result: { action: 'accept' } });
    expect(await question).toContain('accept');
    await client.source.served(2);
    expect(client.points.filter((one) => one === 'preparing')).toHaveLength(1);
    expect(fixtures()).toHaveLength(1);
  });

  test('a subscription and a level are carried over all the same', async () => {
    const client = await legacy();
    await client.request('resources/subscribe', { uri: 'x://old' });
    client.source.rotate('slow-list');
    await client.point('preparing');
    await client.until(() => client.points.includes('preparing'));
    await client.request('resources/subscribe', { uri: 'x://new' });
    await client.request('resources/unsubscribe', { uri: 'x://old' });
    await client.request('logging/setLevel', { level: 'alert' });
    await client.source.served(2);
    expect(JSON.parse(await client.tool('state'))).toMatchObject({
      level: 'alert',
      subscriptions: ['x://new'],
    });
  });

  test('a listen is carried over all the same, and an ended one is not', async () => {
    const client = await modern();
    const listen = (id: string) =>
      client.send({
        id,
        method: 'subscriptions/listen',
        params: { _meta: meta, notifications: { resourceSubscriptions: [`x://${id}`] } },
      });
    const isAcknowledged = (id: string) => (said: Said) =>
      said.method === 'notifications/subscriptions/acknowledged' &&
      (said.params as { _meta: Record<string, unknown> })._meta[
        'io.modelcontextprotocol/subscriptionId'
      ] === id;
    listen('one');
    await client.until(isAcknowledged('one'));
    client.source.rotate('slow-list');
    await client.point('preparing');
    listen('two');
    await client.until(isAcknowledged('two'));
    client.send({ method: 'notifications/cancelled', params: { requestId: 'one' } });
    await client.source.served(2);
    const before = client.said.length;
    await client.tool('update', {}, { _meta: meta });
    const after = client.said.slice(before).filter((said) => said.method !== undefined);
    expect(after.map((said) => said.params?.['uri'])).toEqual(['x://two']);
    expect(client.said.filter(isAcknowledged('two'))).toHaveLength(1);
  });

  test('tools that come late are waited for', async () => {
    const client = await legacy();
    await client.source.served(client.source.rotate('late-tool'));
    expect(await client.tool('slow', { steps: 1, ms: 1 })).toBe('slow by k2');
  });
});

test('a call that may be repeated is not lost in a cut: the new process answers it', async () => {
  const client = await legacy({ drainMs: 50, retry: ['slow'] });
  const slow = client.tool('slow', { steps: 1, ms: 600 });
  client.source.rotate('', true);
  expect(await slow).toBe('slow by k2');
});

test('a round, or a task, that is not over keeps its process from resting', async () => {
  const client = await legacy({ idleMs: 0, drainMs: 60_000 });
  const task = await client.request('tools/call', { name: 'task' });
  client.source.rotate();
  await client.point('flipped', 2);
  expect(client.points).not.toContain('resting');
  const { taskId } = (task.result as { task: { taskId: string } }).task;
  expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
  const done = await client.request('tasks/get', { taskId, done: true });
  expect(done.result).toMatchObject({ isMine: true, status: 'completed' });
  await client.source.served(2);
});

test('a round goes on while a drain-window holds new calls', async () => {
  const client = await modern({ swap: 'drain-window' });
  const first = await client.request('tools/call', {
    name: 'round',
    arguments: { n: 1 },
    _meta: meta,
  });
  client.source.rotate();
  await client.point('holding');
  const { requestState } = first.result as { requestState: string };
  expect(await client.tool('round', { n: 1 }, { requestState, _meta: meta })).toBe('mine');
  await client.source.served(2);
});

test('another version of the server is taken where nothing else could serve, and the client is told', async () => {
  const client = await legacy({ idleMs: 0 });
  client.source.rotate();
  await client.source.until((status) => status.state === 'idle');
  client.source.mode = 'other-version,more-tools';
  expect(await client.tool('whoami')).toBe('k2-another-key-value');
  expect(updates(client, 'notifications/tools/list_changed')).toHaveLength(1);
});

describe('the modern era', () => {
  test('swaps with open listens: one acknowledgement, the same id, updates from the new process alone', async () => {
    const client = await modern();
    client.send({
      id: 'sub',
      method: 'subscriptions/listen',
      params: {
        _meta: meta,
        notifications: { toolsListChanged: true, resourceSubscriptions: ['x://1'] },
      },
    });
    await client.until((one) => one.method === 'notifications/subscriptions/acknowledged');
    await client.source.served(client.source.rotate('more-tools'));
    expect(updates(client, 'notifications/subscriptions/acknowledged')).toHaveLength(1);
    const changed = updates(client, 'notifications/tools/list_changed');
    expect(changed).toHaveLength(1);
    expect(changed[0]?.params?.['_meta']).toEqual({
      'io.modelcontextprotocol/subscriptionId': 'sub',
    });
    const before = updates(client, 'notifications/resources/updated').length;
    expect(before).toBe(1);
    await client.tool('update', {}, { _meta: meta });
    expect(updates(client, 'notifications/resources/updated')).toHaveLength(before + 1);
    expect(client.said.filter((one) => one.id === 'sub')).toEqual([]);
    client.send({ method: 'notifications/cancelled', params: { requestId: 'sub' } });
    await client.tool('echo', { text: 'x' }, { _meta: meta });
    expect(logged().filter((line) => line === 'cancelled sub')).toHaveLength(2);
  });

  test('a round of a multi-round-trip request goes back to the process that began it', async () => {
    const client = await modern();
    const first = await client.request('tools/call', {
      name: 'round',
      arguments: { n: 1 },
      _meta: meta,
    });
    client.source.rotate();
    await client.point('flipped', 2);
    const { requestState } = first.result as { requestState: string };
    expect(await client.tool('round', { n: 1 }, { requestState, _meta: meta })).toBe('mine');
    await client.source.served(2);
  });
});

describe('what the server says', () => {
  test('holds no value of a live credential, in any form, and stays JSON', async () => {
    const client = await legacy({ redact: true }, { MODE_PREFIX: 'x' });
    expect(await client.tool('whoami')).toBe('[redacted]');
    client.source.value = '1234567890123';
    client.source.mode = 'print-key';
    client.source.generation = 2;
    client.source.notice();
    await client.source.served(2);
    const said = await client.request('tools/call', { name: 'number' });
    expect(said.result?.['structuredContent']).toEqual({ value: '[redacted]' });
    expect(JSON.stringify(client.said)).not.toContain('1234567890123');
    expect(client.stderr).toContain('started with [redacted]');
  });

  test('that is no message is dropped', async () => {
    const source = new TestSource();
    source.mode = 'junk';
    const client = new TestClient(source);
    clients.push(client);
    await client.initialize();
    expect(client.said.every((one) => 'jsonrpc' in one)).toBe(true);
  });

  test('in a batch of the client is answered one by one', async () => {
    const client = await legacy();
    client.session.fromClient([
      Buffer.from(
        '[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","id":"b","method":"ping"}]\n',
      ),
    ]);
    await Promise.all([client.answer('a'), client.answer('b')]);
  });
});

describe('a client that closes', () => {
  test('in mid-swap leaves nothing running', async () => {
    const client = await legacy();
    void client.tool('hang');
    client.source.rotate('hang-initialize');
    await client.point('preparing');
    client.session.clientClosed();
    expect(await client.session.ended).toMatchObject({ why: 'closed' });
    expect(fixtures()).toEqual([]);
  });

  test('gets the answers of old processes, too', async () => {
    const client = await legacy();
    const slow = client.tool('slow', { steps: 1, ms: 250 });
    client.source.rotate();
    await client.point('flipped', 2);
    client.session.clientClosed();
    expect(await client.session.ended).toMatchObject({ why: 'closed', exitCode: 0 });
    expect(await slow).toBe('slow by k1');
  });

  test('right after its last request still gets the answer', async () => {
    const client = open();
    client.send({ id: 'only', method: 'ping' });
    client.session.clientClosed();
    await client.session.ended;
    expect(client.said.map((one) => one.id)).toContain('only');
  });
});

/** Processes of the fixture that still run below this one. */
function fixtures(): readonly number[] {
  return readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter((text) => text !== '')
    .map(Number)
    .filter(isFixture);
}

function isFixture(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('server.mjs');
  } catch {
    return false;
  }
}
