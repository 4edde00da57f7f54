import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import { Secret } from '../secret/secret.ts';
import { initialize, initialized, type Message, modern } from './http/testing/client.ts';
import { createTestSource, serves } from './http/testing/source.ts';
import { startUpstream, type TestUpstream } from './http/testing/upstream.ts';
import type { Link } from './link.ts';
import { frameOf } from './message.ts';
import { remoteLink } from './remote-link.ts';
import { createSession } from './session/create.ts';

const reference = 'local://mcp/search#key';

let opened: AsyncDisposableStack;
afterEach(async () => {
  await opened.disposeAsync();
});

interface Opened {
  readonly link: Link;
  send(message: object): void;
  /** The first message that fits, once it has come. */
  until(fits: (message: Message) => boolean): Promise<Message>;
  readonly received: readonly Message[];
}

function launchOf(url: string) {
  return {
    kind: 'remote',
    url,
    headers: { Authorization: `Bearer {{${reference}}}` },
  } as const;
}

function openLink(url: string, key = 'the-key'): Opened {
  const received: Message[] = [];
  const waiting = new Set<() => void>();
  const values = new Map([[reference, new Secret(key)]]);
  const link = remoteLink(launchOf(url), {
    times: { settleMs: 1_000, deleteMs: 1_000, resumeMs: 1 },
  })(
    { values, generations: {} },
    {
      onFrames(frames) {
        received.push(...frames.map((frame) => JSON.parse(frame.toString()) as Message));
        for (const look of waiting) look();
      },
      onDrain: () => undefined,
      onLog: () => undefined,
      onTooLong: () => undefined,
    },
  );
  opened.defer(async () => {
    await link.stop('now');
  });
  return {
    link,
    received,
    send: (message) => void link.send(frameOf(message)),
    until: (fits) =>
      new Promise((resolve) => {
        const look = () => {
          const found = received.find(fits);
          if (found === undefined) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
}

async function upstreamFor(options: { resumable?: boolean } = {}): Promise<TestUpstream> {
  opened = new AsyncDisposableStack();
  return opened.use(await startUpstream('the-key', options));
}

/** A server of a few lines, for what real ones do not do on demand. */
async function bare(
  answer: (request: IncomingMessage, response: ServerResponse, body: string) => void,
): Promise<string> {
  opened = new AsyncDisposableStack();
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on('end', () => answer(request, response, body));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  opened.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

const answerTo = (id: unknown) => (message: Message) =>
  message.id === id && message.method === undefined;

describe('a remote server of an earlier revision', () => {
  test('keeps one session from the handshake to the end', async () => {
    const upstream = await upstreamFor();
    const { link, send, until } = openLink(upstream.url);
    send(initialize(1));
    send(initialized);
    send({ id: 2, method: 'tools/list' });
    const listed = await until(answerTo(2));
    expect(listed.result?.['tools']).toHaveLength(3);
    const [first, ...others] = upstream.seen.filter(({ method }) => method === 'POST');
    const session = others[0]?.headers['mcp-session-id'];
    expect(first?.headers['mcp-session-id']).toBeUndefined();
    expect(session).toBeDefined();
    for (const { headers } of others) {
      expect(headers['mcp-session-id']).toBe(session);
      expect(headers['mcp-protocol-version']).toBe('2025-11-25');
      expect(headers.authorization).toBe('Bearer the-key');
    }
    expect(await link.stop('gentle')).toMatchObject({ why: 'closed' });
    const last = upstream.seen.at(-1);
    expect([last?.method, last?.headers['mcp-session-id']]).toEqual(['DELETE', session]);
  });

  test('is heard by its GET stream, also after that broke', async () => {
    const resumed: unknown[] = [];
    const url = await bare((request, response) => {
      if (request.method !== 'GET') {
        response.writeHead(202).end();
        return;
      }
      const last = request.headers['last-event-id'];
      resumed.push(last);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const number = resumed.length;
      const event = `id: e${number}\ndata: {"jsonrpc":"2.0","method":"notifications/n${number}"}\n\n`;
      response.write(event, () => (number < 3 ? response.destroy() : undefined));
    });
    const { send, until } = openLink(url);
    send(initialized);
    await until(({ method }) => method === 'notifications/n3');
    expect(resumed).toEqual([undefined, 'e1', 'e2']);
  });

  test('takes up the stream of a call where the server can, and gets its answer', async () => {
    let gets = 0;
    const url = await bare((request, response, body) => {
      const head = { 'content-type': 'text/event-stream' };
      if (request.method === 'GET') {
        gets += 1;
        expect(request.headers['last-event-id']).toBe('e1');
        response.writeHead(200, head);
        response.end('id: e2\ndata: {"jsonrpc":"2.0","id":7,"result":{"ok":true}}\n\n');
        return;
      }
      if (body === '') {
        response.writeHead(202).end();
        return;
      }
      response.writeHead(200, head).end('id: e1\nretry: 1\ndata: \n\n');
    });
    const { send, until } = openLink(url);
    send({ id: 7, method: 'tools/call', params: { name: 'x' } });
    expect((await until(answerTo(7))).result).toEqual({ ok: true });
    expect(gets).toBe(1);
  });

  test('that has lost the session ends the link, so that another one is begun', async () => {
    const upstream = await upstreamFor();
    const { link, send, until } = openLink(upstream.url);
    send(initialize(1));
    send(initialized);
    await until(answerTo(1));
    upstream.forgetSessions();
    send({ id: 2, method: 'tools/list' });
    expect(await link.ended).toMatchObject({ why: 'exited' });
  });

  test('hears of a cancellation, and of nothing when a stream merely closes', async () => {
    const bodies: string[] = [];
    const cancelled = Promise.withResolvers<void>();
    const url = await bare((_request, response, body) => {
      bodies.push(body);
      if (!body.includes('notifications/cancelled')) return;
      response.writeHead(202).end();
      cancelled.resolve();
    });
    const { send } = openLink(url);
    send({ id: 3, method: 'tools/call', params: { name: 'x' } });
    send({ method: 'notifications/cancelled', params: { requestId: 3 } });
    await cancelled.promise;
    expect(bodies).toHaveLength(2);
  });
});

describe('a remote server of 2026-07-28', () => {
  test('gets the headers that repeat the body, encoded where need be', async () => {
    const seen: IncomingMessage['headers'][] = [];
    const url = await bare((request, response, body) => {
      seen.push(request.headers);
      const { id } = JSON.parse(body) as { id: number };
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete' } }));
    });
    const { send, until } = openLink(url);
    send(modern(1, 'tools/call', { name: 'wetter für morgen', arguments: {} }).body);
    send(modern(2, 'resources/read', { uri: 'file:///a b' }).body);
    await until(answerTo(1));
    await until(answerTo(2));
    const names = new Set(seen.map((headers) => headers['mcp-name']));
    const encoded = `=?base64?${Buffer.from('wetter für morgen').toString('base64')}?=`;
    expect(names).toEqual(new Set([encoded, 'file:///a b']));
    for (const headers of seen) {
      expect(headers['mcp-protocol-version']).toBe('2026-07-28');
      expect(headers['mcp-session-id']).toBeUndefined();
    }
  });

  test('gets arguments as headers once its refusal showed that they are wanted', async () => {
    const calls: IncomingMessage['headers'][] = [];
    const url = await bare((request, response, body) => {
      const { id, method } = JSON.parse(body) as { id: unknown; method: string };
      const say = (status: number, more: object) =>
        response
          .writeHead(status, { 'content-type': 'application/json' })
          .end(JSON.stringify({ jsonrpc: '2.0', id, ...more }));
      if (method === 'tools/list') {
        const region = { type: 'string', 'x-mcp-header': 'Region' };
        const inputSchema = { type: 'object', properties: { region } };
        say(200, { result: { tools: [{ name: 'query', inputSchema }] } });
        return;
      }
      calls.push(request.headers);
      if (request.headers['mcp-param-region'] === 'us-west1') say(200, { result: { ok: true } });
      else say(400, { error: { code: -32_020, message: 'Header mismatch' } });
    });
    const { send, until } = openLink(url);
    const args = { name: 'query', arguments: { region: 'us-west1' } };
    send(modern('a', 'tools/call', args).body);
    expect((await until(answerTo('a'))).result).toEqual({ ok: true });
    expect(calls).toHaveLength(2);
    send(modern('b', 'tools/call', args).body);
    await until(answerTo('b'));
    expect(calls).toHaveLength(3);
  });

  test('hears of a cancellation by the end of the stream, and nothing is posted', async () => {
    const closed = Promise.withResolvers<void>();
    const bodies: string[] = [];
    const started = Promise.withResolvers<void>();
    const url = await bare((_request, response, body) => {
      bodies.push(body);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.flushHeaders();
      response.on('close', () => closed.resolve());
      started.resolve();
    });
    const { send, received } = openLink(url);
    send(modern(5, 'tools/call', { name: 'x' }).body);
    await started.promise;
    send({ method: 'notifications/cancelled', params: { requestId: 5 } });
    await closed.promise;
    expect(bodies).toHaveLength(1);
    expect(received).toEqual([]);
  });

  test('that breaks off an answer costs one error, not silence', async () => {
    const url = await bare((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': hello\n\n', () => response.destroy());
    });
    const { send, until } = openLink(url);
    send(modern(9, 'tools/call', { name: 'x' }).body);
    expect((await until(answerTo(9))).error?.code).toBe(-31_001);
  });
});

test('a refusal without a message of its own becomes an error that names the status', async () => {
  const upstream = await upstreamFor();
  const { send, until } = openLink(upstream.url, 'a-wrong-key');
  send(initialize(1));
  expect((await until(answerTo(1))).error?.message).toBe('The server answered with status 401.');
});

test('a server that cannot be reached is an error that says so', async () => {
  opened = new AsyncDisposableStack();
  const { send, until } = openLink('http://127.0.0.1:1/mcp');
  send(initialize(1));
  expect((await until(answerTo(1))).error).toMatchObject({
    code: -31_002,
    message: '127.0.0.1:1 could not be reached (ECONNREFUSED).',
  });
});

test('a value that is missing keeps the link from starting, without a word of the others', async () => {
  opened = new AsyncDisposableStack();
  const link = remoteLink(launchOf('http://127.0.0.1:1/mcp'))(
    { values: new Map(), generations: {} },
    { onFrames() {}, onDrain() {}, onLog() {}, onTooLong() {} },
  );
  expect(await link.ended).toMatchObject({ why: 'failed' });
});

test('a session over a remote server goes on with the new key, its client none the wiser', async () => {
  const upstream = await upstreamFor();
  const source = createTestSource({ [reference]: 'the-key' }, { warmMs: 0 });
  const launch = launchOf(upstream.url);
  const said: Message[] = [];
  const waiting = new Set<() => void>();
  const session = createSession({
    entry: { name: 'search', launch },
    source,
    startLink: remoteLink(launch),
    client: {
      send(frames) {
        for (const line of frames.toString().split('\n')) {
          if (line !== '') said.push(JSON.parse(line) as Message);
        }
        for (const look of waiting) look();
        return true;
      },
      hold: () => undefined,
      log: () => undefined,
    },
    clock: systemClock(),
    random: systemRandom(),
    log: { info: () => undefined, warn: () => undefined },
  });
  opened.defer(async () => {
    session.stop();
    await session.ended;
  });
  const answered = (id: number) =>
    new Promise<Message>((resolve) => {
      const look = () => {
        const found = said.find(answerTo(id));
        if (found === undefined) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
    });
  session.fromClient([frameOf(initialize(1))]);
  await answered(1);
  session.fromClient([frameOf(initialized)]);
  const call = (id: number) =>
    frameOf({ id, method: 'tools/call', params: { name: 'hold', arguments: {} } });
  session.fromClient([call(2)]);
  const release = await upstream.held();
  upstream.keys.add('the-new-key');
  source.change({ [reference]: 'the-new-key' });
  await upstream.next(({ headers }) => headers.authorization === 'Bearer the-new-key');
  release();
  expect((await answered(2)).error).toBeUndefined();
  await source.reported(serves(2));
  upstream.keys.delete('the-key');
  session.fromClient([frameOf({ id: 3, method: 'tools/list' })]);
  expect((await answered(3)).result?.['tools']).toHaveLength(3);
});
