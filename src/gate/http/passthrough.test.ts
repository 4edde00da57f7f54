import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterEach, describe, expect, test } from 'vitest';
import { RotatedError } from '../../errors.ts';
import type { Entry } from '../entry.ts';
import { createHttpClient } from './client.ts';
import type { Front } from './front.ts';
import { createPassThrough } from './passthrough.ts';
import type { ServerSettings } from '../settings.ts';
import { frontFor, type TestAround, testAround, withToken } from './testing/around.ts';
import { call, initialize, initialized, modern, openStream, post } from './testing/client.ts';
import { createTestSource, serves, type TestSource } from './testing/source.ts';
import { startUpstream, type TestUpstream } from './testing/upstream.ts';

const reference = 'local://mcp/search#key';
const firstKey = 'first-key-of-search';
const secondKey = 'second-key-of-search';

let opened: AsyncDisposableStack;
afterEach(async () => {
  await opened.disposeAsync();
});

interface World {
  readonly around: TestAround;
  readonly source: TestSource;
  readonly upstream: TestUpstream;
  readonly front: Front;
  readonly url: string;
}

async function world(
  options: {
    readonly resumable?: boolean;
    readonly redact?: boolean;
    readonly drainMs?: number;
    readonly canary?: ServerSettings['canary'];
  } = {},
): Promise<World> {
  opened = new AsyncDisposableStack();
  const { resumable = false, ...settings } = options;
  const upstream = opened.use(await startUpstream(firstKey, { resumable }));
  const source = createTestSource({ [reference]: firstKey }, settings);
  const around = testAround();
  const front = await gateFor(entryOf(upstream.url), source, around);
  return { around, source, upstream, front, url: `${front.address}/search/mcp` };
}

async function gateFor(entry: Entry, source: TestSource, around: TestAround): Promise<Front> {
  const client = createHttpClient();
  const front = await frontFor(around, {
    [entry.name]: createPassThrough(entry, source, client, around),
  });
  opened.defer(async () => {
    await front.close();
    client.close();
  });
  return front;
}

function entryOf(url: string, headers?: Record<string, string>): Entry {
  return {
    name: 'search',
    launch: {
      kind: 'remote',
      url,
      headers: headers ?? { Authorization: `Bearer {{${reference}}}` },
    },
  };
}

async function legacySession(url: string): Promise<Record<string, string>> {
  const answer = await post(url, initialize(1), withToken);
  const headers = {
    ...withToken,
    'mcp-session-id': answer.headers.get('mcp-session-id') ?? '',
    'mcp-protocol-version': '2025-11-25',
  };
  await post(url, initialized, headers);
  return headers;
}

describe('a server that is reached by HTTP', () => {
  test('gets the credential of its entry and never the token of the gate', async () => {
    const { url, upstream } = await world();
    const { body, headers } = modern(1, 'tools/list');
    const answer = await post(url, body, { ...headers, ...withToken, 'x-trace': 'kept' });
    expect(answer.status).toBe(200);
    expect(answer.messages[0]?.result?.['tools']).toHaveLength(3);
    const [request] = upstream.seen;
    expect(request?.headers.authorization).toBe(`Bearer ${firstKey}`);
    expect(request?.headers['x-trace']).toBe('kept');
    expect(request?.headers.host).toBe(new URL(upstream.url).host);
    expect(JSON.stringify(upstream.seen)).not.toContain('the-token-of-the-gate');
  });

  test('with a header of another name gets no Authorization, and the query of both', async () => {
    opened = new AsyncDisposableStack();
    const seen: { url: string | undefined; headers: IncomingHttpHeaders }[] = [];
    const server = createServer(({ url, headers }, response) => {
      seen.push({ url, headers });
      response.writeHead(202).end();
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    opened.defer(() => void server.close());
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp?tenant=a`;
    const entry = entryOf(address, { 'X-Key': reference });
    const front = await gateFor(entry, createTestSource({ [reference]: firstKey }), testAround());
    await post(`${front.address}/search/mcp?verbose=1`, initialized, withToken);
    await post(`${front.address}/search/mcp`, initialized, {
      authorization: 'Bearer of the client',
      'x-rotated-token': withToken.authorization.slice('Bearer '.length),
      'x-key': 'what a client makes up',
    });
    const [first, second] = seen;
    expect(first?.url).toBe('/mcp?tenant=a&verbose=1');
    expect(first?.headers).toMatchObject({ 'x-key': firstKey });
    expect(first?.headers.authorization).toBeUndefined();
    expect(second?.headers).toMatchObject({
      'x-key': firstKey,
      authorization: 'Bearer of the client',
    });
    expect(JSON.stringify(seen)).not.toContain('the-token-of-the-gate');
  });

  for (const era of ['legacy', 'auto'] as const) {
    test(`serves an SDK client (${era}) before and after a change`, async () => {
      const { url, upstream, source } = await world();
      const client = new Client(
        { name: 'sdk', version: '1' },
        { versionNegotiation: { mode: era } },
      );
      const transport = new StreamableHTTPClientTransport(new URL(url), {
        requestInit: { headers: withToken },
      });
      await client.connect(transport);
      opened.defer(() => client.close());
      await client.callTool({ name: 'keys', arguments: {} });
      upstream.keys.add(secondKey);
      source.change({ [reference]: secondKey });
      await source.reported(serves(2));
      upstream.keys.delete(firstKey);
      const result = await client.callTool({ name: 'keys', arguments: {} });
      expect(result.isError).not.toBe(true);
    });
  }

  test('holds the old generation for as long as a call with it is open, and no longer', async () => {
    const { url, upstream, source, around } = await world();
    const long = modern(1, 'tools/call', { name: 'hold', arguments: {} });
    const pending = post(url, long.body, { ...long.headers, ...withToken });
    const release = await upstream.held();
    upstream.keys.add(secondKey);
    source.change({ [reference]: secondKey });
    const short = modern(2, 'tools/list');
    await around.logged('new credentials');
    const answer = await post(url, short.body, { ...short.headers, ...withToken });
    expect(answer.status).toBe(200);
    expect(upstream.seen.at(-1)?.headers.authorization).toBe(`Bearer ${secondKey}`);
    expect(source.status()?.generations).toEqual({ [reference]: 1 });
    release();
    expect((await pending).messages[0]?.result).toBeDefined();
    await source.reported(serves(2));
  });

  test('is called with the old credential while the new one cannot be had, and says why', async () => {
    const { url, source, upstream } = await world();
    const { body, headers } = modern(1, 'tools/list');
    await post(url, body, { ...headers, ...withToken });
    source.fail(new RotatedError('unavailable', 'The backend is down.'));
    source.change({ [reference]: secondKey });
    const { problem } = await source.reported((status) => status.problem !== null);
    expect(problem).toEqual({ code: 'unavailable', message: 'The backend is down.' });
    expect((await post(url, body, { ...headers, ...withToken })).status).toBe(200);
    expect(upstream.seen.at(-1)?.headers.authorization).toBe(`Bearer ${firstKey}`);
    source.fail(null);
    await source.reported(serves(2));
    expect(source.status()?.problem).toBeNull();
  });

  test('is not called with a new credential that its canary shows to be dead', async () => {
    const canary = { tool: 'keys', arguments: {} };
    const { url, source, upstream } = await world({ canary });
    const { body, headers } = modern(1, 'tools/list');
    await post(url, body, { ...headers, ...withToken });
    source.change({ [reference]: secondKey });
    const { problem } = await source.reported((status) => status.problem !== null);
    expect(problem?.code).toBe('swap-failed');
    expect((await post(url, body, { ...headers, ...withToken })).status).toBe(200);
    expect(upstream.seen.at(-1)?.headers.authorization).toBe(`Bearer ${firstKey}`);
    upstream.keys.add(secondKey);
    await source.reported(serves(2));
    expect(source.status()?.problem).toBeNull();
    const missing = { tool: 'no-such-tool', arguments: {} };
    const other = createTestSource({ [reference]: firstKey }, { canary: missing });
    const front = await gateFor(entryOf(upstream.url), other, testAround());
    await post(`${front.address}/search`, body, { ...headers, ...withToken });
    other.change({ [reference]: secondKey });
    const failed = await other.reported((status) => status.problem !== null);
    expect(failed.problem?.message).toContain('no-such-tool');
  });

  test('is not called at all where its reference is not granted', async () => {
    const { url, source, upstream } = await world();
    source.fail(new RotatedError('refused', 'search was not granted.', { next: 'rotate allow' }));
    const { body, headers } = modern(7, 'tools/list');
    const answer = await post(url, body, { ...headers, ...withToken });
    expect(answer.status).toBe(503);
    expect(answer.messages[0]?.error?.message).toContain('rotate allow');
    expect(upstream.seen).toEqual([]);
  });

  test('an emergency cuts calls that outlast the drain, and tells the client so', async () => {
    const { url, source, upstream } = await world({ drainMs: 1 });
    const { body, headers } = modern(1, 'tools/call', { name: 'hold', arguments: {} });
    const pending = post(url, body, { ...headers, ...withToken });
    const release = await upstream.held();
    upstream.keys.add(secondKey);
    source.change({ [reference]: secondKey }, { urgent: true });
    const answer = await pending;
    expect(answer.status).toBe(503);
    expect(answer.messages[0]?.error?.code).toBe(-31_003);
    await source.reported(serves(2));
    release();
  });

  test('a redirect is not followed: it could carry the credential elsewhere', async () => {
    opened = new AsyncDisposableStack();
    const seen: string[] = [];
    const moved = createServer((request, response) => {
      seen.push(request.url ?? '');
      response.writeHead(307, { location: 'http://127.0.0.1:1/elsewhere?key=x' }).end();
    });
    await new Promise<void>((resolve) => void moved.listen(0, '127.0.0.1', resolve));
    opened.defer(() => void moved.close());
    const source = createTestSource({ [reference]: firstKey });
    const address = `http://127.0.0.1:${(moved.address() as AddressInfo).port}/mcp`;
    const front = await gateFor(entryOf(address), source, testAround());
    const answer = await post(`${front.address}/search`, initialize(1), withToken);
    expect(answer.status).toBe(502);
    expect(answer.messages[0]?.error?.message).toContain('http://127.0.0.1:1/elsewhere.');
    expect(answer.messages[0]?.error?.message).not.toContain('key=x');
    expect(seen).toEqual(['/mcp']);
  });

  test('a login that the server wants of the client is left to the client, and the log says so', async () => {
    opened = new AsyncDisposableStack();
    const challenge = 'Bearer resource_metadata="https://mcp.example/.well-known/x"';
    let authorization: string | undefined;
    const server = createServer((request, response) => {
      authorization = request.headers.authorization;
      response.writeHead(401, { 'www-authenticate': challenge }).end();
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    opened.defer(() => void server.close());
    const around = testAround();
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
    const front = await gateFor(entryOf(url, {}), createTestSource({}), around);
    const answer = await post(`${front.address}/search/mcp`, initialize(1), {
      authorization: 'Bearer own-login-of-the-client',
      'x-rotated-token': withToken.authorization.slice('Bearer '.length),
    });
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toBe(challenge);
    expect(authorization).toBe('Bearer own-login-of-the-client');
    expect(around.lines.map(({ message }) => message)).toContain(
      'this server wants a login of the client: the gate leaves that to the client',
    );
  });

  test('no value of a live credential comes back, in JSON or in events', async () => {
    const { url } = await world();
    const list = modern(1, 'tools/call', { name: 'keys', arguments: {} });
    const answer = await post(url, list.body, { ...list.headers, ...withToken });
    expect(JSON.stringify(answer.messages)).toContain('[redacted]');
    expect(JSON.stringify(answer.messages)).not.toContain(firstKey);
    const session = await legacySession(url);
    const events = await post(url, call(2, 'keys'), session);
    expect(events.headers.get('content-type')).toBe('text/event-stream');
    expect(JSON.stringify(events.messages)).toContain('[redacted]');
    expect(JSON.stringify(events.messages)).not.toContain(firstKey);
  });

  test('its values come back where the entry says so', async () => {
    const { url } = await world({ redact: false });
    const { body, headers } = modern(1, 'tools/call', { name: 'keys', arguments: {} });
    const answer = await post(url, body, { ...headers, ...withToken });
    expect(JSON.stringify(answer.messages)).toContain(firstKey);
  });
});

describe('a stream that outlives the credential', () => {
  for (const resumable of [false, true]) {
    test(`of an earlier revision stays open through a change (${resumable ? 'resumable' : 'plain'})`, async () => {
      const { url, upstream, source, around } = await world({ resumable });
      const headers = await legacySession(url);
      const stream = await openStream(url, headers);
      upstream.toolsChanged();
      expect((await stream.next())?.method).toBe('notifications/tools/list_changed');
      upstream.keys.add(secondKey);
      source.change({ [reference]: secondKey });
      await around.logged('a stream goes on with the new credential');
      await source.reported(serves(2));
      upstream.keys.delete(firstKey);
      upstream.toolsChanged();
      expect((await stream.next())?.method).toBe('notifications/tools/list_changed');
      stream.close();
    });
  }

  test('of subscriptions keeps its id and its one acknowledgement through changes', async () => {
    const { url, upstream, source } = await world();
    const { body, headers } = modern('mine', 'subscriptions/listen', {
      notifications: { toolsListChanged: true },
    });
    const stream = await openStream(url, { ...headers, ...withToken }, body);
    const id = 'io.modelcontextprotocol/subscriptionId';
    const metaOf = (message: Awaited<ReturnType<typeof stream.next>>) =>
      (message?.params?.['_meta'] as Record<string, unknown> | undefined)?.[id];
    const first = await stream.next();
    expect(first?.method).toBe('notifications/subscriptions/acknowledged');
    let key = firstKey;
    for (const generation of [2, 3, 4]) {
      const next = `key-number-${generation}`;
      upstream.keys.add(next);
      source.change({ [reference]: next });
      await source.reported(serves(generation));
      upstream.keys.delete(key);
      key = next;
      upstream.toolsChanged();
      const told = await stream.next();
      expect(told?.method).toBe('notifications/tools/list_changed');
      expect(metaOf(told)).toBe('mine');
    }
    stream.close();
  });

  test('ends when the server ends it', async () => {
    const { url, upstream } = await world();
    const { body, headers } = modern(1, 'subscriptions/listen', {
      notifications: { toolsListChanged: true },
    });
    const stream = await openStream(url, { ...headers, ...withToken }, body);
    await stream.next();
    await upstream[Symbol.asyncDispose]();
    let last = await stream.next().catch(() => null);
    while (last !== null) last = await stream.next().catch(() => null);
    expect(last).toBeNull();
  });
});

test('a gate that ends lets calls under way be answered, and ends its streams', async () => {
  const { url, upstream, front } = await world();
  const { body, headers } = modern(1, 'tools/call', { name: 'hold', arguments: {} });
  const listening = modern(2, 'subscriptions/listen', {
    notifications: { toolsListChanged: true },
  });
  const stream = await openStream(url, { ...listening.headers, ...withToken }, listening.body);
  await stream.next();
  const pending = post(url, body, { ...headers, ...withToken });
  const release = await upstream.held();
  const closed = front.close();
  expect(await stream.next()).toBeNull();
  release();
  expect((await pending).messages[0]?.result).toBeDefined();
  await closed;
});

describe('a client', () => {
  test('that reads slowly gets all of a large answer', async () => {
    const { url } = await world();
    const { body, headers } = modern(1, 'tools/call', { name: 'large', arguments: {} });
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        ...headers,
        ...withToken,
      },
      body: JSON.stringify(body),
    });
    let length = 0;
    for await (const chunk of response.body ?? []) {
      length += (chunk as Uint8Array).length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(length).toBeGreaterThan(8 << 20);
  });
});
