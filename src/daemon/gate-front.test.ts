/** The gate as it is started: inside the service and as a program of its own, with real rotations under its clients. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Daemon, runProgram, startDaemon } from '../../test/support/rotated.ts';
import { call, initialize, initialized, modern, post } from '../gate/http/testing/client.ts';
import { startUpstream } from '../gate/http/testing/upstream.ts';

let opened: AsyncDisposableStack;
afterEach(async () => {
  await opened.disposeAsync();
});

const fixture = path.resolve(import.meta.dirname, '../gate/http/testing/stdio-server.ts');

function policies(): string {
  return `secrets:
  search:
    provider: { use: generated, kind: random }
    backend: local://mcp/search
    schedule: manual
    grace: 0s
    consumers: [{ gate: { server: search, command: ["${process.execPath}", "${fixture}"], warm: 0s } }]
  tickets:
    provider: { use: generated, kind: random }
    backend: local://mcp/tickets
    schedule: manual
    grace: 0s
`;
}

async function scene() {
  opened = new AsyncDisposableStack();
  const folder = mkdtempSync(path.join(tmpdir(), 'front-'));
  opened.defer(() => rmSync(folder, { recursive: true, force: true }));
  const upstream = opened.use(await startUpstream('any'));
  upstream.keys.has = () => true;
  mkdirSync(path.join(folder, 'schedules'));
  writeFileSync(path.join(folder, 'schedules', 'all.yaml'), policies());
  const servers = path.join(folder, 'servers.json');
  writeFileSync(
    servers,
    JSON.stringify({
      mcpServers: {
        search: {
          command: process.execPath,
          args: [fixture],
          env: { KEY_REF: 'local://mcp/search#value', ERA: 'modern' },
        },
        tickets: {
          url: upstream.url,
          headers: { Authorization: 'Bearer {{local://mcp/tickets#value}}' },
        },
      },
    }),
    { mode: 0o600 },
  );
  const state = path.join(folder, 'state');
  const places = ['--state', state, '--policies', path.join(folder, 'schedules')];
  const args = [...places, '--key', path.join(folder, 'key')];
  const start = async (...more: string[]): Promise<Daemon> => {
    const daemon = opened.use(startDaemon(more.length === 0 ? args : more, { cwd: folder }));
    await daemon.said('ready');
    return daemon;
  };
  const rotate = async (...words: string[]) => {
    const ended = await runProgram('rotate', [...words, ...args], { cwd: folder });
    expect(ended.code, `${words.join(' ')}: ${ended.err}${ended.out}`).toBe(0);
    return ended.out;
  };
  const valueOf = async (name: string) => {
    const answer = JSON.parse(await rotate('read', name, '--reveal', '--json')) as unknown;
    return JSON.stringify(answer);
  };
  return { folder, state, servers, args, start, rotate, valueOf, upstream };
}

type Scene = Awaited<ReturnType<typeof scene>>;

function clientOf({ state }: Scene, address: unknown) {
  const authorization = `Bearer ${readFileSync(path.join(state, 'gate-token'), 'utf8').trim()}`;
  const ask = (server: string, { body, headers }: ReturnType<typeof modern>) =>
    post(`${String(address)}/${server}/mcp`, body, { ...headers, authorization });
  return {
    ask,
    /** The last six characters of it: that much the fixture tells. */
    key: async () => {
      const answer = await ask('search', modern(1, 'tools/call', { name: 'key', arguments: {} }));
      const result = answer.messages[0]?.result as { content: [{ text: string }] } | undefined;
      return result?.content[0].text ?? 'no answer';
    },
  };
}

describe('the gate', () => {
  test('inside the service, rotates under its clients: a process is replaced, headers change', async () => {
    const here = await scene();
    const listen = ['--servers', here.servers, '--gate-listen', '127.0.0.1:0'];
    const daemon = await here.start(...here.args, ...listen);
    const ready = await daemon.said('ready');
    const client = clientOf(here, ready['gate']);
    for (const name of ['search', 'tickets']) await here.rotate('run', name, '--wait', '60s');

    const before = await client.key();
    expect(await here.valueOf('search')).toContain(before);
    const refused = await client.ask('tickets', modern(1, 'tools/list'));
    expect(refused.status).toBe(503);
    expect(refused.messages[0]?.error?.message).toContain('rotate allow tickets');
    await here.rotate('allow', 'tickets', '--yes', '--reason', 'ours');
    expect((await client.ask('tickets', modern(2, 'tools/list'))).status).toBe(200);
    const first = here.upstream.seen.at(-1)?.headers.authorization ?? '';

    await Promise.all(
      ['search', 'tickets'].map((name) => here.rotate('run', name, '--wait', '60s')),
    );
    expect(await client.key()).not.toBe(before);
    expect((await client.ask('tickets', modern(3, 'tools/list'))).status).toBe(200);
    const second = here.upstream.seen.at(-1)?.headers.authorization ?? '';
    expect(second).not.toBe(first);
    expect(await here.valueOf('tickets')).toContain(second.slice('Bearer '.length));
    expect(JSON.stringify(daemon.lines)).not.toContain(second.slice('Bearer '.length));
    expect(statSync(path.join(here.state, 'gate-token')).mode & 0o777).toBe(0o600);
    expect(await daemon.stop()).toBe(0);
  });

  test('as a program of its own goes on while the service is away, and takes the change when it is back', async () => {
    const here = await scene();
    const first = await here.start();
    await here.rotate('run', 'search', '--wait', '60s');
    const gate = await here.start(
      'gate',
      '--servers',
      here.servers,
      '--listen',
      '127.0.0.1:0',
      '--state',
      here.state,
    );
    const { address } = await gate.said('ready');
    const client = clientOf(here, address);
    const before = await client.key();
    expect(await here.valueOf('search')).toContain(before);
    await first[Symbol.asyncDispose]();
    expect(await client.key()).toBe(before);
    await here.start();
    await here.rotate('run', 'search', '--wait', '60s');
    expect(await client.key()).not.toBe(before);
    expect(await here.valueOf('search')).toContain(await client.key());
    expect(await gate.stop()).toBe(0);
  });
});

test('the gate says what is wrong with its start, and how to mend it', async () => {
  const here = await scene();
  const gate = (...more: string[]) =>
    runProgram('rotated', ['gate', '--state', here.state, ...more], { cwd: here.folder });
  const none = await gate();
  expect([none.code, none.err]).toEqual([2, expect.stringContaining('--servers FILE')]);
  const open = await gate('--servers', here.servers, '--listen', '0.0.0.0:0', '--no-token');
  expect([open.code, open.err]).toEqual([3, expect.stringContaining('without a token')]);
  writeFileSync(here.servers, '{"mcpServers":{"a":{"command":"x","allowedRoles":[]}}}');
  const field = await gate('--servers', here.servers);
  expect([field.code, field.err]).toEqual([3, expect.stringContaining('a: "allowedRoles" is not')]);
  const missing = await gate('--servers', 'nothing.json');
  expect([missing.code, missing.err]).toEqual([3, expect.stringContaining('nothing.json')]);
});

test('a client of an earlier revision keeps its session through a restart of the service', async () => {
  const here = await scene();
  const text = readFileSync(here.servers, 'utf8').replace('"modern"', '"legacy"');
  writeFileSync(here.servers, text);
  const args = [...here.args, '--servers', here.servers, '--gate-listen'];
  const first = await here.start(...args, '127.0.0.1:0');
  await here.rotate('run', 'search', '--wait', '60s');
  const gate = String((await first.said('ready'))['gate']);
  const token = readFileSync(path.join(here.state, 'gate-token'), 'utf8').trim();
  const authorization = { authorization: `Bearer ${token}` };
  const url = `${gate}/search/mcp`;
  const begun = await post(url, initialize(0), authorization);
  const session = { 'mcp-session-id': begun.headers.get('mcp-session-id') ?? '', ...authorization };
  await post(url, initialized, session);
  const before = await post(url, call(1, 'key'), session);
  expect(await first.stop()).toBe(0);
  await here.start(...args, new URL(gate).host);
  const after = await post(url, call(1, 'key'), session);
  expect(after.messages).toEqual(before.messages);
  await here.rotate('run', 'search', '--wait', '60s');
  expect((await post(url, call(1, 'key'), session)).messages).not.toEqual(before.messages);
});
