/** Old processes, crashes and clients that leave, over real processes. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fixtures, SessionStage } from '../testing/stage.ts';

let stage: SessionStage;
beforeEach(() => {
  stage = new SessionStage();
});
afterEach(() => stage.end());

describe('an old process', () => {
  test('that dies while it drains answers each pending call with one error', async () => {
    const client = await stage.legacy();
    const hanging = [client.tool('hang'), client.tool('hang')];
    client.source.rotate();
    await client.point('flipped', 2);
    const { pid } = JSON.parse(await client.tool('state')) as { pid: number };
    for (const old of fixtures()) if (old !== pid) process.kill(old, 'SIGKILL');
    expect(await Promise.all(hanging)).toEqual(['error -31001', 'error -31001']);
    await client.source.served(2);
  });

  test('with a call past the drain limit stays, and the generation is not reported as adopted', async () => {
    const client = await stage.legacy({ drainMs: 100 });
    const slow = client.tool('slow', { until: stage.gate });
    client.source.rotate();
    await client.point('flipped', 2);
    const status = await client.source.failed();
    expect(status.problem?.message).toContain('outlast the drain');
    expect(status.generations).toEqual({ t: 1 });
    stage.letGo();
    expect(await slow).toBe('slow by k1');
    await client.source.served(2);
  });

  test('is cut in an emergency when its time is over, with one error for each call', async () => {
    const client = await stage.legacy({ drainMs: 100 });
    const hanging = client.tool('hang');
    client.source.rotate('', true);
    expect(await hanging).toBe('error -31003');
    await client.source.served(2);
  });

  test('that drains already is hurried by an emergency', async () => {
    const client = await stage.legacy({ drainMs: 100 });
    const hanging = client.tool('hang');
    client.source.rotate();
    await client.point('flipped', 2);
    client.source.notice(true);
    expect(await hanging).toBe('error -31003');
    await client.source.served(2);
  });

  test('that ignores end of input and TERM is killed', async () => {
    const client = await stage.legacy();
    await client.source.served(client.source.rotate('deaf'));
    await client.source.served(client.source.rotate());
    client.session.clientClosed();
    expect(await client.session.ended).toMatchObject({ why: 'closed' });
  });
});

describe('a crash', () => {
  test('answers each pending call once, restarts with the handshake, and goes on', async () => {
    const client = await stage.legacy();
    await client.request('logging/setLevel', { level: 'debug' });
    const hanging = client.tool('hang');
    const died = client.tool('die');
    expect(await Promise.all([hanging, died])).toEqual(['error -31001', 'error -31001']);
    expect(JSON.parse(await client.tool('state'))).toMatchObject({ level: 'debug' });
  });

  test('again and again ends the session with the exit code of the server', async () => {
    const block = path.join(stage.folder, 'block');
    const client = await stage.legacy({}, { BLOCK: block });
    writeFileSync(block, '');
    expect(await client.tool('die')).toBe('error -31001');
    expect(await client.tool('echo', { text: 'x' })).toBe('error -31002');
    expect((await client.session.ended).exitCode).toBe(7);
  }, 30_000);

  test('before the first answer is what the client would have seen without us', async () => {
    const client = stage.open({}, {}, [], 'no-start');
    expect(await client.session.ended).toMatchObject({ exitCode: 3, why: 'exited' });
  });

  test('sends a call again only where its tool may be repeated', async () => {
    const client = await stage.legacy({ retry: ['hang'] });
    const again = client.request('tools/call', { name: 'hang', arguments: { n: 1 } });
    const not = client.tool('slow', { n: 2, steps: 100, ms: 50 });
    expect(await client.tool('die', { n: 3 })).toBe('error -31001');
    expect(await not).toBe('error -31001');
    expect(await client.tool('echo', { text: 'up' })).toBe('up');
    expect(stage.logged().filter((line) => line.endsWith('hang 1'))).toHaveLength(2);
    expect(stage.logged().filter((line) => line.endsWith('slow 2'))).toHaveLength(1);
    void again;
  });
});

test('a crash while the new key is refused restarts with the old one', async () => {
  const client = await stage.legacy({ canary: { tool: 'whoami', arguments: {} } });
  client.source.rotate('bad-key');
  await client.source.failed();
  expect(await client.tool('die')).toBe('error -31001');
  expect(await client.tool('whoami')).toBe('k1-first-key-value');
  expect(client.source.statuses.at(-1)).toMatchObject({ generations: { t: 1 } });
  expect(client.source.statuses.at(-1)?.problem).not.toBeNull();
});

test('a call that may be repeated is not lost in a cut: the new process answers it', async () => {
  const client = await stage.legacy({ drainMs: 50, retry: ['hang-first'] });
  const repeated = client.tool('hang-first');
  client.source.rotate('', true);
  expect(await repeated).toBe('done by k2');
});

describe('a client that closes', () => {
  test('in mid-swap leaves nothing running', async () => {
    const client = await stage.legacy();
    void client.tool('hang');
    client.source.rotate('hang-initialize');
    await client.point('preparing');
    client.session.clientClosed();
    expect(await client.session.ended).toMatchObject({ why: 'closed' });
    expect(fixtures()).toEqual([]);
  });

  test('gets the answers of old processes, too', async () => {
    const client = await stage.legacy();
    const slow = client.tool('slow', { until: stage.gate });
    client.source.rotate();
    await client.point('flipped', 2);
    client.session.clientClosed();
    stage.letGo();
    expect(await client.session.ended).toMatchObject({ why: 'closed', exitCode: 0 });
    expect(await slow).toBe('slow by k1');
  });

  test('right after its last request still gets the answer', async () => {
    const client = stage.open();
    client.send({ id: 'only', method: 'ping' });
    client.session.clientClosed();
    await client.session.ended;
    expect(client.said.map((one) => one.id)).toContain('only');
  });
});
