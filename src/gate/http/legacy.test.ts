import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { afterEach, describe, expect, test } from 'vitest';
import { withToken } from './testing/around.ts';
import {
  type Answer,
  call,
  initialize,
  initialized,
  legacyHeaders,
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

type Headers = Record<string, string>;

async function begin(version = '2025-11-25'): Promise<Headers> {
  const answer = await post(world.url(), initialize(0, version), withToken);
  expect(answer.status).toBe(200);
  const id = answer.headers.get('mcp-session-id') ?? '';
  expect(id).toMatch(/^[\x21-\x7e]{32}$/);
  const headers = { ...withToken, 'mcp-session-id': id, 'mcp-protocol-version': version };
  expect((await post(world.url(), initialized, headers)).status).toBe(202);
  return headers;
}

function ask(headers: Headers, body: unknown): Promise<Answer> {
  return post(world.url(), body, headers);
}

const textIn = (answer: Answer) => {
  const result = answer.messages.at(-1)?.result as { content?: { text: string }[] } | undefined;
  return result?.content?.[0]?.text;
};

describe('a server of an earlier revision, to many clients', () => {
  test('is a process for each client, found again by its session id', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const [a, b] = [await begin(), await begin()];
    const pids = await Promise.all([a, b, a].map((headers, id) => ask(headers, call(id, 'pid'))));
    const [first, second, third] = pids.map(textIn);
    expect(first).toBe(third);
    expect(first).not.toBe(second);
  });

  test('serves the SDK client with progress and questions of its own', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const client = new Client({ name: 'sdk', version: '1' }, { capabilities: { elicitation: {} } });
    client.setRequestHandler('elicitation/create', () => ({
      action: 'accept',
      content: { name: 'octo' },
    }));
    const transport = new StreamableHTTPClientTransport(new URL(world.url()), {
      requestInit: { headers: withToken },
    });
    await client.connect(transport);
    const steps: number[] = [];
    await client.callTool(
      { name: 'steps', arguments: { steps: 5 } },
      { onprogress: ({ progress }) => void steps.push(progress) },
    );
    expect(steps).toEqual([1, 2, 3, 4, 5]);
    const asked = await client.callTool({ name: 'ask', arguments: {} });
    expect(JSON.stringify(asked.content)).toContain('octo');
    await transport.terminateSession();
    await client.close();
  });

  test('gives each session its status code: missing 400, unknown 404, ended 404', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const listing = { jsonrpc: '2.0', id: 1, method: 'tools/list' };
    expect((await ask(withToken, listing)).status).toBe(400);
    const unknown = await ask({ ...withToken, 'mcp-session-id': 'nobody' }, listing);
    expect([unknown.status, unknown.messages[0]?.error?.code]).toEqual([404, -32_001]);
    const odd = await ask({ ...headers, 'mcp-protocol-version': '1999-01-01' }, listing);
    expect(odd.status).toBe(400);
    const { 'mcp-protocol-version': _, ...silent } = headers;
    expect((await ask(silent, listing)).status).toBe(200);
    const again = await ask(headers, initialize(9));
    expect([again.status, again.messages[0]?.error?.code]).toEqual([400, -32_600]);
    const ended = await fetch(world.url(), { method: 'DELETE', headers });
    expect(ended.status).toBe(200);
    // It has ended by the time that the client hears so.
    const started = world.notes().filter((line) => line.endsWith(' start generation-one'));
    const exited = world.notes().filter((line) => line.endsWith(' exit'));
    expect(exited).toHaveLength(started.length);
    expect((await ask(headers, listing)).status).toBe(404);
  });

  test('refuses what is no message of its revision', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    expect((await ask(headers, '{"jsonrpc":"2.0"')).messages[0]?.error?.code).toBe(-32_700);
    const plain = await fetch(world.url(), {
      method: 'POST',
      headers: { ...legacyHeaders, ...headers, 'content-type': 'text/plain' },
      body: '{}',
    });
    expect(plain.status).toBe(415);
    const narrow = await fetch(world.url(), {
      method: 'POST',
      headers: { ...legacyHeaders, ...headers, accept: 'application/json' },
      body: '{}',
    });
    expect(narrow.status).toBe(406);
    const put = await fetch(world.url(), { method: 'PUT', headers, body: '{}' });
    expect(put.status).toBe(405);
    // Not one of the newer revision: so a client of both knows to fall back.
    const { body, headers: given } = modern(1, 'server/discover');
    const answer = await ask({ ...withToken, ...given }, body);
    expect([answer.status, answer.messages[0]?.error?.code]).toEqual([400, -32_000]);
  });

  test('understands indented JSON and batches', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin('2025-03-26');
    const indented = JSON.stringify(call(1, 'key'), null, 2).replaceAll('\n', '\r\n');
    expect(textIn(await ask(headers, indented))).toBe('on-one');
    const batch = await ask(headers, [call('a', 'key'), initialized, call('b', 'pid')]);
    expect(new Set(batch.messages.map(({ id }) => id))).toEqual(new Set(['a', 'b']));
  });

  test('answers one quick call by JSON, and ends the stream of a cancelled one', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const quick = await ask(headers, call(1, 'key'));
    expect(quick.headers.get('content-type')).toBe('application/json');
    const held = ask(headers, call(2, 'hold', { name: 'x' }));
    await world.noted('hold x');
    const twice = await ask(headers, call(2, 'key'));
    expect([twice.status, twice.messages[0]?.id]).toEqual([400, 2]);
    await ask(headers, {
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 2 },
    });
    expect((await held).messages.filter(({ id }) => id !== undefined)).toEqual([]);
    await world.noted('cancelled x');
  });

  test('a client that loses its stream has not cancelled, and gets the rest when it comes back', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const stream = await openStream(world.url(), headers, call(5, 'hold', { name: 'y' }));
    await world.noted('hold y');
    // The first event tells where to go on from.
    const reading = stream.next();
    await stream.identified();
    stream.close();
    await reading.catch(() => null);
    await ask(headers, call(6, 'release', { name: 'y' }));
    const resumed = await openStream(world.url(), {
      ...headers,
      'last-event-id': stream.lastId() ?? '',
    });
    const answer = await resumed.next();
    expect(answer?.id).toBe(5);
    expect(JSON.stringify(answer?.result)).toContain('held y');
    expect(await resumed.next()).toBeNull();
    expect(world.notes().join()).not.toContain('cancelled');
  });

  test('what belongs to no call goes to the GET stream, also what came while there was none', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const first = await openStream(world.url(), headers);
    const reading = first.next();
    await first.identified();
    first.close();
    await reading.catch(() => null);
    // Two calls are open, so that neither is "the only one".
    const held = ['p', 'q'].map((name, at) => ask(headers, call(at + 10, 'hold', { name })));
    await world.noted('hold p');
    await world.noted('hold q');
    const second = await openStream(world.url(), headers);
    await ask(headers, call(20, 'announce'));
    expect((await second.next())?.method).toBe('notifications/tools/list_changed');
    second.close();
    for (const name of ['p', 'q']) await ask(headers, call(`r${name}`, 'release', { name }));
    await Promise.all(held);
  });
});

describe('a change of the credential', () => {
  test('reaches every session, and no call of any is lost', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const sessions = [await begin(), await begin()];
    const held = sessions.map((headers, at) => ask(headers, call(1, 'hold', { name: `s${at}` })));
    await Promise.all([world.noted('hold s0'), world.noted('hold s1')]);
    world.source.change({ [reference]: 'generation-two' });
    await world.noted('start generation-two', 2);
    // New calls get the new key while the old calls are still held by the old processes.
    for (const headers of sessions) {
      let text = textIn(await ask(headers, call(2, 'key')));
      while (text === 'on-one') text = textIn(await ask(headers, call(2, 'key')));
      expect(text).toBe('on-two');
    }
    expect(world.source.status()?.generations[reference]).toBe(1);
    await Promise.all(
      sessions.map((headers, at) =>
        ask(headers, {
          jsonrpc: '2.0',
          method: 'notifications/cancelled',
          params: { requestId: 1, reason: `${at}` },
        }),
      ),
    );
    await Promise.all(held);
    await world.source.reported(serves(2));
  });
});

describe('a gate that starts again', () => {
  test('goes on with its clients, their level and subscriptions, on the newest credential', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const uri = 'file:///watched';
    await ask(headers, { jsonrpc: '2.0', id: 2, method: 'resources/subscribe', params: { uri } });
    await world.noted(`subscribe ${uri}`);
    world.source.change({ [reference]: 'generation-two' });
    await world.restart();
    expect(textIn(await ask(headers, call(3, 'key')))).toBe('on-two');
    await world.noted(`subscribe ${uri}`, 2);
  });

  test('answers a call that it lost with one error, as soon as the client comes back for it', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const stream = await openStream(world.url(), headers, call('mine', 'hold', { name: 'z' }));
    const reading = stream.next();
    await stream.identified();
    const id = stream.lastId() ?? '';
    await world.restart();
    await reading.catch(() => null);
    const resumed = await openStream(world.url(), { ...headers, 'last-event-id': id });
    const answer = await resumed.next();
    expect(answer).toMatchObject({ id: 'mine', error: { code: -31_001 } });
  });

  test('keeps no value and no session id on disk, and nothing that others can read', async () => {
    world = await stdioWorld({ era: 'legacy' });
    const headers = await begin();
    const folder = path.join(world.state, 'sessions');
    const files = readdirSync(folder, { recursive: true, withFileTypes: true });
    const saved = files.filter((file) => file.isFile());
    expect(saved).toHaveLength(1);
    for (const file of files) {
      const place = path.join(file.parentPath, file.name);
      expect(statSync(place).mode & 0o077).toBe(0);
      if (!file.isFile()) continue;
      const text = `${place} ${readFileSync(place, 'utf8')}`;
      expect(text).not.toContain('generation-one');
      expect(text).not.toContain(headers['mcp-session-id']);
    }
    await fetch(world.url(), { method: 'DELETE', headers });
    expect(
      readdirSync(folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile()),
    ).toEqual([]);
  });
});

test('a session without a word of its client gives its process up, and has another at its next word', async () => {
  const times = { parkMs: 1, forgetMs: 3_600_000, lookMs: 10 };
  world = await stdioWorld({ era: 'legacy', times });
  const headers = await begin();
  const pid = textIn(await ask(headers, call(1, 'pid')));
  await world.noted('exit');
  const stream = await openStream(world.url(), headers);
  const other = textIn(await ask(headers, call(2, 'pid')));
  expect(other).not.toBe(pid);
  // While the client listens, it is there.
  await ask(headers, call(3, 'announce'));
  expect(textIn(await ask(headers, call(4, 'pid')))).toBe(other);
  stream.close();
});

test('a session that its client never ended is forgotten in the end', async () => {
  world = await stdioWorld({ era: 'legacy' });
  const headers = await begin();
  await world.restart();
  expect((await ask(headers, call(1, 'pid'))).status).toBe(200);
  // As if it had lain there for longer than that.
  await world.restart({ parkMs: 1, forgetMs: -1_000, lookMs: 60_000 });
  expect((await ask(headers, call(2, 'pid'))).status).toBe(404);
});

test('a client that reads slowly holds up its own server alone, and gets everything', async () => {
  world = await stdioWorld({ era: 'legacy' });
  const [slow, other] = [await begin(), await begin()];
  const response = await fetch(world.url(), {
    method: 'POST',
    headers: { ...legacyHeaders, ...slow },
    body: JSON.stringify(call(1, 'large', { bytes: 24 << 20 })),
  });
  expect(textIn(await ask(other, call(2, 'key')))).toBe('on-one');
  const body = await response.text();
  expect(body.length).toBeGreaterThan(24 << 20);
});
