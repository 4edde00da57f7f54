import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../clock.ts';
import { systemProcesses } from '../consumer/processes.ts';
import { Secret } from '../secret/secret.ts';
import type { CheckSpec } from './check.ts';
import { createVerifier } from './create.ts';
import type { Candidate } from './verifier.ts';

type McpSpec = Extract<CheckSpec, { kind: 'mcp' }>;

const canary = 'canary-91c0/+="é';
const candidate: Candidate = {
  secret: 'search',
  generation: 4,
  fields: { API_KEY: new Secret(canary), USER: new Secret('someone') },
};
const root = path.resolve(import.meta.dirname, '../..');
const everything = path.join(
  root,
  'node_modules/@modelcontextprotocol/server-everything/dist/index.js',
);
const modern = path.join(root, 'test/gate/servers/modern-stdio.ts');

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'rotated-mcp-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function outcome(
  spec: Partial<McpSpec>,
  signal = AbortSignal.timeout(60_000),
): Promise<unknown> {
  const whole: McpSpec = {
    kind: 'mcp',
    command: [process.execPath, 'server.mjs'],
    env: null,
    tool: 'whoami',
    arguments: {},
    timeoutMs: 30_000,
    ...spec,
  };
  const verifier = createVerifier(whole, {
    directory,
    redactor: { add: vi.fn() },
    clock: systemClock(),
  });
  const result = await verifier.verify(candidate, signal).catch((error: unknown) => error);
  const shown = inspect(result, { depth: 10, showHidden: true }) + JSON.stringify(result);
  expect(shown).not.toContain('91c0');
  return result;
}

/** A server in as few lines as there can be; `cases` answers the methods, each with its key at hand. */
async function fixture(cases: string, start = ''): Promise<void> {
  await writeFile(
    path.join(directory, 'server.mjs'),
    `import { createInterface } from 'node:readline';
import { writeFileSync, appendFileSync } from 'node:fs';
const key = process.env.API_KEY;
const note = (text) => appendFileSync('seen.txt', text + '\\n');
note('pid ' + process.pid);
${start}
const say = (message) => console.log(JSON.stringify({ jsonrpc: '2.0', ...message }));
const tools = [{ name: 'whoami', inputSchema: { type: 'object' } }];
const legacy = { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'x', version: '1' } };
createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params, result, error } = JSON.parse(line);
  note(method ?? 'answer ' + JSON.stringify(result ?? error));
  ${cases}
  if (method === 'initialize') say({ id, result: legacy });
  else if (method === 'tools/list') say({ id, result: { tools } });
  else if (method === 'tools/call') say({ id, result: { content: [{ type: 'text', text: key }] } });
  else if (method !== undefined && id !== undefined) say({ id, error: { code: -32601, message: key } });
}).on('close', () => process.exit(0));
`,
  );
}

const seen = async () =>
  (await readFile(path.join(directory, 'seen.txt'), 'utf8')).trim().split('\n');

/** Nothing of it runs any more. */
async function expectGone(): Promise<void> {
  const pids = (await seen()).flatMap((line) => /^pid (\d+)$/.exec(line)?.[1] ?? []);
  expect(pids.length).toBeGreaterThan(0);
  // One that has ended and only waits to be collected counts as none.
  const table = systemProcesses(() => 0);
  for (const pid of pids) {
    expect(await table.find(Number(pid), AbortSignal.timeout(10_000)), pid).toBeNull();
  }
}

describe('published servers', () => {
  test('one of the older era is started with the credential and called', async () => {
    const spec: Partial<McpSpec> = {
      command: [process.execPath, everything, 'stdio'],
      tool: 'get-env',
    };
    expect(await outcome(spec)).toEqual({ ok: true });
    expect(await outcome({ ...spec, tool: 'no-such-tool' })).toMatchObject({
      code: 'invalid-answer',
      secret: 'search',
    });
    // It refuses arguments that are not what its schema says: an error is no proof that the key works.
    expect(await outcome({ ...spec, tool: 'get-sum', arguments: { a: 'x' } })).toMatchObject({
      ok: false,
      kind: 'rejected',
    });
  });

  test('one of the newer era answers as well', async () => {
    const spec: Partial<McpSpec> = { command: [process.execPath, modern], tool: 'env' };
    expect(await outcome(spec)).toEqual({ ok: true });
    // It asks its caller something before it answers: nobody is there.
    expect(await outcome({ ...spec, tool: 'elicit' })).toMatchObject({ code: 'invalid-answer' });
  });
});

describe('what a server does with the credential', () => {
  test('a call that is answered means that it works; fields go where the policy says', async () => {
    await fixture(
      `if (method === 'tools/call') note(JSON.stringify([process.argv.slice(2), process.env.TOKEN, process.env.API_KEY ?? null, params]));`,
    );
    const spec: Partial<McpSpec> = {
      command: [process.execPath, 'server.mjs', 'x://${USER}:${API_KEY|url}@h'],
      env: { TOKEN: 'Bearer ${API_KEY}' },
      arguments: { limit: 1 },
    };
    expect(await outcome(spec)).toEqual({ ok: true });
    const lines = await seen();
    expect(JSON.parse(lines.find((line) => line.startsWith('[')) ?? '')).toEqual([
      [`x://someone:${encodeURIComponent(canary)}@h`],
      `Bearer ${canary}`,
      null,
      { name: 'whoami', arguments: { limit: 1 } },
    ]);
    expect(lines.filter((line) => !line.startsWith('[') && !line.startsWith('pid'))).toEqual([
      'initialize',
      'notifications/initialized',
      'tools/list',
      'tools/call',
    ]);
    await expectGone();
  });

  test('an ordinary result says that it works, unless it lacks what the policy expects', async () => {
    await fixture(
      `if (method === 'tools/call') return say({ id, result: { content: [{ type: 'text', text: '401 Unauthorized' }] } });`,
    );
    expect(await outcome({})).toEqual({ ok: true });
    expect(await outcome({ expect: 'results' })).toMatchObject({
      ok: false,
      reason: expect.stringContaining('without what is expected') as string,
    });
    expect(await outcome({ expect: 'Unauth' })).toEqual({ ok: true });
  });

  test('a result that is an error, and an error, both mean that it does not; neither is repeated', async () => {
    await fixture(
      `if (method === 'tools/call') return say({ id, result: { isError: true, content: [{ type: 'text', text: 'bad key ' + key }] } });`,
    );
    expect(await outcome({})).toEqual({
      ok: false,
      kind: 'rejected',
      reason: expect.stringContaining('answers with an error'),
    });
    await fixture(
      `if (method === 'tools/call') return say({ id, error: { code: -32603, message: key } });`,
    );
    expect(await outcome({})).toEqual({
      ok: false,
      kind: 'rejected',
      reason: expect.stringContaining('-32603'),
    });
    await fixture(`if (method === 'tools/call') return say({ id, error: { code: key } });`);
    expect(await outcome({})).toMatchObject({ ok: false, kind: 'rejected' });
    await expectGone();
  });

  test('a tool on a later page is found, and a listing without end is not followed', async () => {
    await fixture(
      `if (method === 'tools/list' && params.cursor === undefined) return say({ id, result: { tools: [], nextCursor: 'more' } });`,
    );
    expect(await outcome({})).toEqual({ ok: true });
    await fixture(
      `if (method === 'tools/list') return say({ id, result: { tools: [], nextCursor: 'more' } });`,
    );
    expect(await outcome({})).toMatchObject({ code: 'invalid-answer' });
  });

  test('a server that asks back gets an answer and goes on', async () => {
    await fixture(
      `if (method === 'tools/list') { say({ id: 7, method: 'ping' }); say({ id: 8, method: 'roots/list' }); say({ method: 'notifications/message', params: {} }); }`,
    );
    expect(await outcome({})).toEqual({ ok: true });
    const answers = (await seen()).filter((line) => line.startsWith('answer'));
    expect(answers).toEqual(['answer {}', 'answer {"code":-32601,"message":"Method not found"}']);
  });

  test('junk on stdout is passed over, whatever it looks like', async () => {
    await fixture('', `console.log('Starting …'); console.log('{"id":1}'); console.log('{');`);
    expect(await outcome({})).toEqual({ ok: true });
  });
});

describe('a server that says nothing of the credential', () => {
  test('one that ends at its start, or in the middle of the call, cannot tell', async () => {
    await fixture('', `console.error(key); process.exit(3);`);
    expect(await outcome({})).toMatchObject({
      code: 'unavailable',
      effect: 'none',
      message: expect.stringContaining('exit code 3'),
    });
    await fixture(`if (method === 'tools/call') process.kill(process.pid, 'SIGKILL');`);
    expect(await outcome({})).toMatchObject({ code: 'unavailable' });
    await expectGone();
  });

  test('one that hangs is ended at the deadline, with all that it started', async () => {
    await fixture(
      `if (method === 'tools/call') return;`,
      `const { spawn } = await import('node:child_process');
process.on('SIGTERM', () => {});
note('pid ' + spawn('sleep', ['600'], { stdio: 'ignore' }).pid);`,
    );
    expect(await outcome({ timeoutMs: 1_500 })).toMatchObject({ code: 'timeout', effect: 'none' });
    await expectGone();
  });

  test('a caller that stops ends it', async () => {
    await fixture(`if (method === 'initialize') return;`);
    const stopped = new AbortController();
    const asked = outcome({}, stopped.signal);
    await vi.waitUntil(() => existsSync(path.join(directory, 'seen.txt')), { timeout: 20_000 });
    stopped.abort();
    expect(await asked).toMatchObject({ code: 'timeout' });
    await expectGone();
  });

  test('one that cannot be started, or speaks neither era, cannot tell', async () => {
    expect(await outcome({ command: ['./no-such-server'] })).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('not found'),
    });
    await fixture(`if (id !== undefined) return say({ id, error: { code: -32601 } });`);
    expect(await outcome({})).toMatchObject({ code: 'invalid-answer' });
    await expectGone();
  });

  test('a field that the secret does not have, or a name that decides what runs, is a mistake of the policy', async () => {
    expect(await outcome({ env: { KEY: '${NO_SUCH}' } })).toMatchObject({ code: 'policy-invalid' });
    for (const name of ['PATH', 'NODE_OPTIONS', 'LD_PRELOAD']) {
      expect(await outcome({ env: { [name]: '${API_KEY}' } })).toMatchObject({
        code: 'policy-invalid',
      });
    }
  });
});
