import { connect } from 'node:net';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterEach, describe, expect, test } from 'vitest';
import { withToken } from './testing/around.ts';
import {
  type Answer,
  initialize,
  legacyHeaders,
  type Message,
  modern,
  openStream,
  post,
} from './testing/client.ts';
import { serves } from './testing/source.ts';
import { reference, type StdioWorld, stdioWorld } from './testing/stdio-world.ts';

let world: StdioWorld;
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

function tool(id: string | number, name: string, args = {}, meta = {}) {
  return modern(id, 'tools/call', { name, arguments: args }, meta);
}

function ask({ body, headers }: ReturnType<typeof modern>, more = {}): Promise<Answer> {
  return post(world.url(), body, { ...headers, ...withToken, ...more });
}

const textIn = (answer: Answer | Message | null) => {
  const message = answer !== null && 'messages' in answer ? answer.messages.at(-1) : answer;
  const result = message?.result as { content?: { text: string }[] } | undefined;
  return result?.content?.[0]?.text;
};

describe('a server of 2026-07-28, to many clients', () => {
  test('is one process, whatever ids and progress tokens its clients choose', async () => {
    world = await stdioWorld({ era: 'modern' });
    const pids = new Set([1, 1, 1, 1].map(async (id) => textIn(await ask(tool(id, 'pid')))));
    expect(new Set(await Promise.all(pids)).size).toBe(1);
    const runs = await Promise.all(
      Array.from({ length: 6 }, () =>
        ask(tool('same', 'steps', { steps: 20 }, { progressToken: 7 })),
      ),
    );
    for (const { messages } of runs) {
      const progress = messages.filter(({ method }) => method === 'notifications/progress');
      expect(progress.map(({ params }) => params?.['progress'])).toEqual(
        Array.from({ length: 20 }, (_, at) => at + 1),
      );
      expect(new Set(progress.map(({ params }) => params?.['progressToken']))).toEqual(
        new Set([7]),
      );
      expect(messages.at(-1)?.id).toBe('same');
    }
  });

  test('serves the SDK client', async () => {
    world = await stdioWorld({ era: 'modern' });
    const client = new Client(
      { name: 'sdk', version: '1' },
      { versionNegotiation: { mode: 'auto' } },
    );
    await client.connect(
      new StreamableHTTPClientTransport(new URL(world.url()), {
        requestInit: { headers: withToken },
      }),
    );
    await client.listTools();
    const regional = await client.callTool({ name: 'region', arguments: { region: 'Zürich' } });
    expect(JSON.stringify(regional.content)).toContain('Zürich');
    await client.close();
  });

  test('answers with the status that each refusal has', async () => {
    world = await stdioWorld({ era: 'modern' });
    const list = modern(1, 'tools/list');
    const status = async (headers: Record<string, string>, body: object = list.body) => {
      const answer = await post(world.url(), body, { ...headers, ...withToken });
      return [answer.status, answer.messages[0]?.error?.code, answer.messages[0]?.id];
    };
    const { 'mcp-method': method, 'mcp-protocol-version': version } = list.headers;
    expect(await status({ 'mcp-method': method ?? '' })).toEqual([400, -32_020, 1]);
    expect(await status({ 'mcp-protocol-version': version ?? '' })).toEqual([400, -32_020, 1]);
    expect(await status({ ...list.headers, 'mcp-method': 'tools/call' })).toEqual([
      400, -32_020, 1,
    ]);
    expect(await status({ ...list.headers, 'mcp-protocol-version': '2025-11-25' })).toEqual([
      400, -32_020, 1,
    ]);
    const named = tool(2, 'pid');
    expect(await status({ ...named.headers, 'mcp-name': 'key' }, named.body)).toEqual([
      400, -32_020, 2,
    ]);
    const encoded = `=?base64?${Buffer.from('pid').toString('base64')}?=`;
    expect((await status({ ...named.headers, 'mcp-name': encoded }, named.body))[0]).toBe(200);
    const broken = { ...named.headers, 'mcp-name': '=?base64?%%%?=' };
    expect(await status(broken, named.body)).toEqual([400, -32_020, 2]);
    const unknown = modern(3, 'no/such');
    expect(await status(unknown.headers, unknown.body)).toEqual([404, -32_601, 3]);
    const future = modern(
      4,
      'tools/list',
      {},
      {
        'io.modelcontextprotocol/protocolVersion': '2099-01-01',
      },
    );
    const answer = await ask({
      ...future,
      headers: { ...future.headers, 'mcp-protocol-version': '2099-01-01' },
    });
    expect([answer.status, answer.messages[0]?.error]).toEqual([
      400,
      expect.objectContaining({
        code: -32_022,
        data: expect.objectContaining({ supported: ['2026-07-28'] }),
      }),
    ]);
    const bare = { jsonrpc: '2.0', id: 5, method: 'tools/list', params: {} };
    expect(await status(list.headers, bare)).toEqual([400, -32_602, 5]);
    expect(await status({}, bare)).toEqual([400, -32_022, 5]);
    const claim = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' };
    const half = { ...bare, params: { _meta: claim } };
    expect(await status(list.headers, half)).toEqual([400, -32_602, 5]);
    for (const verb of ['GET', 'DELETE']) {
      const headers = { ...withToken, accept: 'text/event-stream' };
      expect((await fetch(world.url(), { method: verb, headers })).status).toBe(405);
    }
    expect((await post(world.url(), initialize(1), withToken)).status).toBe(400);
    const note = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 1 } };
    expect((await post(world.url(), note, { ...list.headers, ...withToken })).status).toBe(202);
  });

  test('refuses a call whose arguments its headers do not repeat', async () => {
    world = await stdioWorld({ era: 'modern' });
    const call = tool(1, 'region', { region: 'us-west1' });
    const missing = await ask(call);
    expect([missing.status, missing.messages[0]?.error?.code]).toEqual([400, -32_020]);
    const wrong = await ask(call, { 'mcp-param-region': 'eu-1' });
    expect([wrong.status, wrong.messages[0]?.error?.code]).toEqual([400, -32_020]);
    expect(textIn(await ask(call, { 'mcp-param-region': 'us-west1' }))).toBe('us-west1');
    const encoded = `=?base64?${Buffer.from('us-west1').toString('base64')}?=`;
    expect(textIn(await ask(call, { 'mcp-param-region': encoded }))).toBe('us-west1');
  });

  test('hears a client that closes its stream as a cancellation, and of no other call', async () => {
    world = await stdioWorld({ era: 'modern' });
    const ending = new AbortController();
    const leaving = tool(1, 'hold', { name: 'leaving' });
    const staying = ask(tool(1, 'hold', { name: 'staying' }));
    const left = fetch(world.url(), {
      method: 'POST',
      headers: { ...legacyHeaders, ...leaving.headers, ...withToken },
      body: JSON.stringify(leaving.body),
      signal: ending.signal,
    });
    await Promise.all([world.noted('hold leaving'), world.noted('hold staying')]);
    ending.abort();
    await expect(left).rejects.toThrow();
    await world.noted('cancelled leaving');
    await ask(tool(2, 'release', { name: 'staying' }));
    expect(textIn(await staying)).toBe('held staying on-one');
    expect(world.notes().join()).not.toContain('cancelled staying');
  });

  test('a client that reads nothing holds up nobody else', async () => {
    world = await stdioWorld({ era: 'modern' });
    const large = tool(1, 'large', { bytes: 24 << 20 });
    const response = await fetch(world.url(), {
      method: 'POST',
      headers: { ...legacyHeaders, ...large.headers, ...withToken },
      body: JSON.stringify(large.body),
    });
    expect(textIn(await ask(tool(1, 'key')))).toBe('on-one');
    expect((await response.text()).length).toBeGreaterThan(24 << 20);
  });
});

test('a client that reads nothing at all is cut off, so that the others go on', async () => {
  const limits = { backlogBytesMost: 1 << 20, stalledMs: 100 };
  world = await stdioWorld({ era: 'modern', limits });
  expect(textIn(await ask(tool(1, 'key')))).toBe('on-one');
  const large = tool(1, 'large', { bytes: 48 << 20 });
  const { port } = new URL(world.url());
  const deaf = connect(Number(port), '127.0.0.1');
  const closed = new Promise((resolve) => deaf.on('close', resolve));
  deaf.on('error', () => undefined);
  const body = JSON.stringify(large.body);
  const headers = { ...legacyHeaders, ...large.headers, ...withToken, host: 'localhost' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  deaf.write(
    `POST /stdio/mcp HTTP/1.1\r\n${lines.join('')}content-length: ${body.length}\r\n\r\n${body}`,
  );
  await world.around.logged('clients that read nothing are cut off');
  // Reading again shows that it was cut, with the rest never sent.
  let length = 0;
  deaf.on('data', (chunk: Buffer) => {
    length += chunk.length;
  });
  await closed;
  expect(length).toBeLessThan(48 << 20);
  expect(textIn(await ask(tool(2, 'key')))).toBe('on-one');
});

test('a request that does not say its revision never reaches a server of both eras', async () => {
  world = await stdioWorld({ era: 'both' });
  const bare = { jsonrpc: '2.0', id: 5, method: 'tools/list', params: {} };
  const { headers } = modern(5, 'tools/list');
  expect((await post(world.url(), bare, { ...headers, ...withToken })).status).toBe(400);
  // Its process would be one of an earlier era by now.
  expect(textIn(await ask(tool(1, 'key')))).toBe('on-one');
  const begun = await post(world.url(), initialize(0), withToken);
  expect(begun.headers.get('mcp-session-id')).not.toBeNull();
  expect(textIn(await ask(tool(2, 'key')))).toBe('on-one');
});

describe('a change of the credential', () => {
  test('loses no call of any client, and new calls carry the new key', async () => {
    world = await stdioWorld({ era: 'modern' });
    const held = ask(tool(1, 'hold', { name: 'old' }));
    await world.noted('hold old');
    world.source.change({ [reference]: 'generation-two' });
    await world.noted('start generation-two');
    let text = textIn(await ask(tool(2, 'key')));
    while (text === 'on-one') text = textIn(await ask(tool(2, 'key')));
    expect(text).toBe('on-two');
    expect(world.source.status()?.generations[reference]).toBe(1);
    // Whoever was asked first still owes its answer.
    expect(await Promise.race([held, Promise.resolve('still held')])).toBe('still held');
    await world.restart();
    expect((await held).messages).toHaveLength(1);
  });

  test('keeps subscriptions open, with the ids of their clients and one acknowledgement', async () => {
    world = await stdioWorld({ era: 'modern' });
    const listening = modern('mine', 'subscriptions/listen', {
      notifications: { toolsListChanged: true },
    });
    const streams = await Promise.all(
      [0, 1].map(() =>
        openStream(world.url(), { ...listening.headers, ...withToken }, listening.body),
      ),
    );
    const idOf = (message: Message | null) =>
      (message?.params?.['_meta'] as Record<string, unknown> | undefined)?.[
        'io.modelcontextprotocol/subscriptionId'
      ];
    for (const stream of streams) {
      const first = await stream.next();
      expect(first?.method).toBe('notifications/subscriptions/acknowledged');
      expect(idOf(first)).toBe('mine');
    }
    world.source.change({ [reference]: 'generation-two' });
    await world.source.reported(serves(2));
    for (const stream of streams) stream.close();
    expect(textIn(await ask(tool(1, 'key')))).toBe('on-two');
  });
});
