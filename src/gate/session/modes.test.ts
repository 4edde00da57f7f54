/** Idle instances, drain windows, pinned sessions and what keeps a process, over real processes. */
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { modernMeta, SessionStage } from '../testing/stage.ts';

let stage: SessionStage;
beforeEach(() => {
  stage = new SessionStage();
});
afterEach(() => stage.end());

describe('an idle instance', () => {
  test('stops at a change and starts with the newest key at the next call', async () => {
    const client = await stage.legacy({ idleMs: 0 });
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
    const block = path.join(stage.folder, 'block');
    const client = await stage.legacy({ idleMs: 0 }, { BLOCK: block });
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
    const client = await stage.legacy({ idleMs: 0 });
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
    const client = await stage.legacy({ idleMs: 0 });
    await client.request('resources/subscribe', { uri: 'x://1' });
    await client.source.served(client.source.rotate());
    expect(client.points).not.toContain('resting');
  });
});

describe('drain-window', () => {
  test('never runs two at once: calls wait, none is lost, and answers to questions pass', async () => {
    const client = await stage.legacy({ swap: 'drain-window' });
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
    const client = await stage.legacy({ swap: 'drain-window', drainMs: 100 });
    void client.tool('hang');
    client.source.rotate();
    const held = client.tool('echo', { text: 'held' });
    expect(await held).toBe('held');
    expect((await client.source.failed()).generations).toEqual({ t: 1 });
  });

  test('with a new process that does not start goes back to the old key', async () => {
    const client = await stage.legacy({ swap: 'drain-window' });
    client.source.rotate('no-start');
    const status = await client.source.failed();
    expect(status.generations).toEqual({ t: 1 });
    expect(await client.tool('whoami')).toBe('k1-first-key-value');
  });
});

test('pin-sessions keeps the process of a session; an emergency that may cut does not', async () => {
  const client = await stage.legacy({ swap: 'pin-sessions' });
  client.source.rotate();
  expect((await client.source.failed()).problem?.message).toContain('pinned');
  expect(await client.tool('whoami')).toBe('k1-first-key-value');
  client.source.notice(true);
  await client.source.served(2);
});

test('a round, or a task, that is not over keeps its process from resting', async () => {
  const client = await stage.legacy({ idleMs: 0, drainMs: 60_000 });
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
  const client = await stage.modern({ swap: 'drain-window' });
  const first = await client.request('tools/call', {
    name: 'round',
    arguments: { n: 1 },
    _meta: modernMeta,
  });
  client.source.rotate();
  await client.point('holding');
  const { requestState } = first.result as { requestState: string };
  expect(await client.tool('round', { n: 1 }, { requestState, _meta: modernMeta })).toBe('mine');
  await client.source.served(2);
});
