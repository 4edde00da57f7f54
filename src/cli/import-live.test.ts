/** What an imported entry is good for: a client starts it, its server gets the key, and gets the next one without a restart. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runProgram, startDaemon } from '../../test/support/rotated.ts';
import { person, type Person } from './testing/person.ts';

/** Tells its key, letter by letter from the end: what is redacted is the key as it is. */
const server = `
import { createInterface } from 'node:readline';
const told = () => [process.env.DEMO_API_KEY ?? 'none', process.argv[2]].map((text) => [...text].reverse().join('')).join(' ');
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method } = JSON.parse(line);
  const results = {
    initialize: { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'demo', version: '1' } },
    'tools/list': { tools: [] },
    'tools/call': { content: [{ type: 'text', text: told() }] },
  };
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: results[method] ?? {} }));
}
`;
const backwards = (text: string) => text.split('').reverse().join('');

let anna: Person;
beforeEach(() => {
  anna = person('import-live');
});
afterEach(() => anna.gone());

test('an imported server starts with its key, and goes on with the next one in the same session', async () => {
  const { home } = anna;
  const env = { HOME: home, PATH: '/usr/bin:/bin' };
  const script = path.join(home, 'server.mjs');
  writeFileSync(script, server);
  const config = path.join(home, '.claude.json');
  const entry = {
    command: process.execPath,
    args: [script, 'postgresql://u:p%40ss-CANARY7@db/x'],
    env: { DEMO_API_KEY: 'first-CANARY7-0123456789' },
  };
  writeFileSync(config, JSON.stringify({ mcpServers: { demo: entry } }, null, 2));
  mkdirSync(path.join(home, 'schedules'));
  await using daemon = startDaemon([], { cwd: home, env });
  await daemon.said('ready');
  const imported = await runProgram('rotate', ['import', config, '--yes'], { cwd: home, env });
  expect(imported.code).toBe(0);
  const { mcpServers } = JSON.parse(readFileSync(config, 'utf8')) as {
    mcpServers: { demo: typeof entry };
  };

  const { command, args, env: own } = mcpServers.demo;
  const client = spawn(command, args, { env: { ...env, ...own }, stdio: ['pipe', 'pipe', 'pipe'] });
  const answers = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
  const ask = async (id: number, method: string, params: object) => {
    client.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
    const { value } = (await answers.next()) as { value: string | undefined };
    return value ?? '';
  };
  const clientInfo = { name: 'test', version: '1' };
  await ask(1, 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo });
  client.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n');
  const first = await ask(2, 'tools/call', { name: 'tell', arguments: {} });
  expect(first).toContain(backwards('first-CANARY7-0123456789'));
  expect(first).toContain(backwards('postgresql://u:p%40ss-CANARY7@db/x'));

  for (const [name, value] of [
    ['demo-api-key', 'second-CANARY7-9876543210'],
    ['demo-password', 'n3w/w0rd@CANARY7'],
  ] as const) {
    const supplied = await runProgram('rotate', ['supply', name, '--wait', '60s'], {
      cwd: home,
      env,
      input: value,
    });
    expect(supplied.out).toContain('adopted');
  }
  const second = await ask(3, 'tools/call', { name: 'tell', arguments: {} });
  expect(second).toContain(backwards('second-CANARY7-9876543210'));
  expect(second).toContain(backwards('postgresql://u:n3w%2Fw0rd%40CANARY7@db/x'));
  client.stdin.end();
  expect(await once(client, 'exit')).toEqual([0, null]);
  expect(await daemon.stop()).toBe(0);
}, 120_000);
