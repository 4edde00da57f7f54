/** The modern era, and what a server says, over real processes. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { modernMeta, saidBy, SessionStage } from '../testing/stage.ts';

let stage: SessionStage;
beforeEach(() => {
  stage = new SessionStage();
});
afterEach(() => stage.end());

describe('the modern era', () => {
  test('swaps with open listens: one acknowledgement, the same id, updates from the new process alone', async () => {
    const client = await stage.modern();
    client.send({
      id: 'sub',
      method: 'subscriptions/listen',
      params: {
        _meta: modernMeta,
        notifications: { toolsListChanged: true, resourceSubscriptions: ['x://1'] },
      },
    });
    await client.until((one) => one.method === 'notifications/subscriptions/acknowledged');
    await client.source.served(client.source.rotate('more-tools'));
    expect(saidBy(client, 'notifications/subscriptions/acknowledged')).toHaveLength(1);
    const changed = saidBy(client, 'notifications/tools/list_changed');
    expect(changed).toHaveLength(1);
    expect(changed[0]?.params?.['_meta']).toEqual({
      'io.modelcontextprotocol/subscriptionId': 'sub',
    });
    const before = saidBy(client, 'notifications/resources/updated').length;
    expect(before).toBe(1);
    await client.tool('update', {}, { _meta: modernMeta });
    expect(saidBy(client, 'notifications/resources/updated')).toHaveLength(before + 1);
    expect(client.said.filter((one) => one.id === 'sub')).toEqual([]);
    client.send({ method: 'notifications/cancelled', params: { requestId: 'sub' } });
    await client.tool('echo', { text: 'x' }, { _meta: modernMeta });
    expect(stage.logged().filter((line) => line === 'cancelled sub')).toHaveLength(2);
  });

  test('a change made by a call that outlasts the flip is told to whoever listens', async () => {
    const client = await stage.modern();
    client.send({
      id: 'sub',
      method: 'subscriptions/listen',
      params: { _meta: modernMeta, notifications: { resourceSubscriptions: ['x://1'] } },
    });
    await client.until((one) => one.method === 'notifications/subscriptions/acknowledged');
    const changing = client.tool('update', { until: stage.gate }, { _meta: modernMeta });
    client.source.rotate();
    await client.point('flipped', 2);
    const atFlip = saidBy(client, 'notifications/resources/updated').length;
    stage.letGo();
    expect(await changing).toBe('updated');
    await client.source.served(2);
    expect(saidBy(client, 'notifications/resources/updated')).toHaveLength(atFlip + 1);
  });

  test('a round of a multi-round-trip request goes back to the process that began it', async () => {
    const client = await stage.modern();
    const first = await client.request('tools/call', {
      name: 'round',
      arguments: { n: 1 },
      _meta: modernMeta,
    });
    client.source.rotate();
    await client.point('flipped', 2);
    const { requestState } = first.result as { requestState: string };
    expect(await client.tool('round', { n: 1 }, { requestState, _meta: modernMeta })).toBe('mine');
    await client.source.served(2);
  });
});

describe('what the server says', () => {
  test('holds no value of a live credential, in any form, and stays JSON', async () => {
    const client = await stage.legacy({ redact: true }, { MODE_PREFIX: 'x' });
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
    const client = stage.open({}, {}, [], 'junk');
    await client.initialize();
    expect(client.said.every((one) => 'jsonrpc' in one)).toBe(true);
  });

  test('in a batch of the client is answered one by one', async () => {
    const client = await stage.legacy();
    client.session.fromClient([
      Buffer.from(
        '[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","id":"b","method":"ping"}]\n',
      ),
    ]);
    await Promise.all([client.answer('a'), client.answer('b')]);
  });
});
