/** What a client sees of a swap, over real processes. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Said } from '../testing/harness.ts';
import { fixtures, modernMeta, saidBy, SessionStage } from '../testing/stage.ts';

let stage: SessionStage;
beforeEach(() => {
  stage = new SessionStage();
});
afterEach(() => stage.end());

describe('a swap', () => {
  test('moves new calls to the new key while the old process answers what it holds', async () => {
    const client = await stage.legacy();
    const slow = client.tool('slow', { until: stage.gate });
    const generation = client.source.rotate();
    await client.point('flipped', 2);
    expect(await client.tool('whoami')).toBe('k2-another-key-value');
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    stage.letGo();
    expect(await slow).toBe('slow by k1');
    expect(await client.source.served(generation)).toMatchObject({
      state: 'serving',
      problem: null,
    });
  });

  test('replays level, subscriptions and roots, and closes the gap of each subscription with one update', async () => {
    const client = await stage.legacy();
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
    expect(saidBy(client, 'roots/list')).toHaveLength(1);
    const state = JSON.parse(await client.tool('state')) as Record<string, unknown>;
    expect(state).toMatchObject({ level: 'error', subscriptions: ['x://2'] });
    expect(state['roots']).toEqual({ roots: [{ uri: 'file:///r' }] });
    expect(
      saidBy(client, 'notifications/resources/updated').map((one) => one.params?.['uri']),
    ).toEqual(['x://2', 'x://2']);
  });

  test('says list_changed once where the tools differ, and not where they are the same', async () => {
    const client = await stage.legacy();
    await client.source.served(client.source.rotate());
    expect(saidBy(client, 'notifications/tools/list_changed')).toHaveLength(0);
    await client.source.served(client.source.rotate('more-tools'));
    expect(saidBy(client, 'notifications/tools/list_changed')).toHaveLength(1);
  });

  test('does not miss a tool that came to the old process by a call, and says that it is gone', async () => {
    const client = await stage.legacy();
    await client.request('tools/list');
    await client.tool('grow');
    await client.source.served(client.source.rotate());
    expect(saidBy(client, 'notifications/tools/list_changed')).toHaveLength(1);
    await client.tool('grow');
    await client.source.served(client.source.rotate());
    expect(saidBy(client, 'notifications/tools/list_changed')).toHaveLength(2);
  });

  test('keeps progress whole and in order across the flip', async () => {
    const client = await stage.legacy();
    const slow = client.tool('slow', { steps: 20, ms: 15 }, { _meta: { progressToken: 'p' } });
    client.source.rotate();
    await slow;
    expect(saidBy(client, 'notifications/progress').map((one) => one.params?.['progress'])).toEqual(
      Array.from({ length: 20 }, (_, at) => at + 1),
    );
  });

  test('lets a question of the old process be answered after the flip, though the new one uses the same id', async () => {
    const client = await stage.legacy();
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
    const client = await stage.legacy();
    void client.tool('slow', { steps: 10_000, ms: 30 });
    const id = client.lastId;
    client.source.rotate();
    await client.point('flipped', 2);
    client.send({ method: 'notifications/cancelled', params: { requestId: id } });
    await client.source.served(2);
    expect(client.said.filter((one) => one.id === id)).toEqual([]);
    expect(stage.logged()).toContain(`cancelled ${id}`);
  });

  test('sends cursors and tasks to the process that handed them out', async () => {
    const client = await stage.legacy();
    const page = await client.request('tools/list', { paged: true });
    const task = await client.request('tools/call', { name: 'task' });
    void client.tool('slow', { until: stage.gate });
    client.source.rotate();
    await client.point('flipped', 2);
    const rest = await client.request('tools/list', { cursor: page.result?.['nextCursor'] });
    expect(rest.result?.['tools']).toHaveLength(1);
    const { taskId } = (task.result as { task: { taskId: string } }).task;
    expect((await client.request('tasks/get', { taskId })).result).toMatchObject({ isMine: true });
  });

  test('between initialize and initialized is put off until the client is through', async () => {
    const client = stage.open();
    await client.request('initialize', { protocolVersion: '2025-11-25', capabilities: {} });
    client.source.rotate();
    await client.point('deferred');
    expect(client.points).not.toContain('preparing');
    client.send({ method: 'notifications/initialized' });
    await client.source.served(2);
  });

  test('two changes back to back end with the latest', async () => {
    const client = await stage.legacy();
    client.source.rotate();
    await client.point('preparing');
    client.source.rotate();
    client.source.rotate();
    await client.source.served(4);
    expect(await client.tool('whoami')).toBe('k4-another-key-value');
    expect(client.points.filter((one) => one === 'preparing')).toHaveLength(2);
  });

  test('of a server whose client has not said anything yet needs no handshake', async () => {
    const client = stage.open();
    await client.point('flipped');
    await client.source.served(client.source.rotate());
    await client.initialize();
    expect(await client.tool('whoami')).toBe('k2-another-key-value');
  });

  test('of a server that reads its file again rewrites the file, and the process goes on', async () => {
    const file = path.join(stage.folder, 'key');
    const client = stage.open({}, {}, [
      { path: file, content: 'key={{local://t#key}}', reread: true },
    ]);
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
    const client = await stage.legacy({
      startMs: 1_500,
      canary: { tool: 'whoami', arguments: {} },
    });
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
    const client = await stage.legacy({ warmMs: 60_000 });
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

describe('while the new process is made ready', () => {
  test('a drain-window has not adopted anything', async () => {
    const client = await stage.legacy({ swap: 'drain-window' });
    client.source.rotate('slow-list');
    await client.point('preparing');
    client.session.fromClient([]);
    const held = client.tool('whoami');
    expect(client.source.statuses.at(-1)?.generations).toEqual({ t: 1 });
    expect(await held).toBe('k2-another-key-value');
    await client.source.served(2);
  });

  test('a drain-window whose processes all fail to start goes on trying, and loses no call', async () => {
    const block = path.join(stage.folder, 'block');
    const client = await stage.legacy({ swap: 'drain-window' }, { BLOCK: block });
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
    const client = await stage.legacy();
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
    const client = await stage.legacy();
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
    const client = await stage.modern();
    const listen = (id: string) =>
      client.send({
        id,
        method: 'subscriptions/listen',
        params: { _meta: modernMeta, notifications: { resourceSubscriptions: [`x://${id}`] } },
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
    await client.tool('update', {}, { _meta: modernMeta });
    const after = client.said.slice(before).filter((said) => said.method !== undefined);
    expect(after.map((said) => said.params?.['uri'])).toEqual(['x://two']);
    expect(client.said.filter(isAcknowledged('two'))).toHaveLength(1);
  });

  test('tools that come late are waited for', async () => {
    const client = await stage.legacy();
    await client.source.served(client.source.rotate('late-tool'));
    expect(await client.tool('slow', { steps: 1, ms: 1 })).toBe('slow by k2');
  });
});

test('another version of the server is taken where nothing else could serve, and the client is told', async () => {
  const client = await stage.legacy({ idleMs: 0 });
  client.source.rotate();
  await client.source.until((status) => status.state === 'idle');
  client.source.mode = 'other-version,more-tools';
  expect(await client.tool('whoami')).toBe('k2-another-key-value');
  expect(saidBy(client, 'notifications/tools/list_changed')).toHaveLength(1);
});
