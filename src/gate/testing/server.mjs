// A small MCP server over stdio for tests of sessions, in both eras, which does what its environment and its calls say.
// KEY: its credential. MODE: a comma-separated list of how it misbehaves. LOG: a file that gets a line for each call.
import { appendFileSync, existsSync } from 'node:fs';
import { createInterface } from 'node:readline';

const mode = new Set((process.env.MODE ?? '').split(','));
const key = process.env.KEY ?? '';
const modern = process.env.ERA === 'modern';
const log = (line) => process.env.LOG && appendFileSync(process.env.LOG, `${line}\n`);
const say = (message) =>
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
const waiting = new Map();
const cancelled = new Set();
const listens = new Map();
const subscriptions = new Set();
let lastId = 0;
let level = 'none';
let roots = null;

if (mode.has('no-start')) process.exit(3);
if (process.env.BLOCK && existsSync(process.env.BLOCK)) process.exit(4);
if (mode.has('junk')) process.stdout.write('starting up...\n{"level":30,"msg":"ready"}\n');
process.stderr.write(`started with ${mode.has('print-key') ? key : 'a key'}\n`);
if (mode.has('deaf')) {
  process.on('SIGTERM', () => {});
  setInterval(() => {}, 1_000);
}

const tools = [
  { name: 'echo', inputSchema: { type: 'object' } },
  { name: 'whoami', inputSchema: { type: 'object' } },
  ...(mode.has('lost-tool') ? [] : [{ name: 'slow', inputSchema: { type: 'object' } }]),
  ...(mode.has('more-tools') ? [{ name: 'more', inputSchema: { type: 'object' } }] : []),
];
const slow = { name: 'slow', inputSchema: { type: 'object' } };
if (mode.has('late-tool')) {
  tools.splice(2, 1);
  setTimeout(() => {
    tools.push(slow);
    say({ method: 'notifications/tools/list_changed' });
  }, 300);
}
const capabilities = {
  tools: { listChanged: true },
  logging: {},
  resources: { subscribe: true },
};
const serverInfo = { name: 'fixture', version: mode.has('other-version') ? '2.0.0' : '1.0.0' };
const done = modern ? { resultType: 'complete' } : {};
const text = (value) => ({ ...done, content: [{ type: 'text', text: value }] });

function ask(method, params) {
  return new Promise((resolve) => {
    const id = lastId++;
    waiting.set(id, resolve);
    say({ id, method, params });
  });
}

/** Holds a call for as long as its test wants. */
async function until(file) {
  if (file === undefined) return;
  while (!existsSync(file)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function call(id, { name, arguments: given = {}, requestState, _meta }) {
  log(`${key} ${name} ${given.n ?? ''}`);
  switch (name) {
    case 'echo':
      return text(String(given.text));
    case 'whoami':
      if (mode.has('bad-key')) return { ...text('401'), isError: true };
      return text(given.bare ? key.slice(0, 2) : key);
    case 'state':
      return text(
        JSON.stringify({ level, subscriptions: [...subscriptions], roots, pid: process.pid }),
      );
    case 'hang-first':
      return key.startsWith('k1') ? null : text(`done by ${key.slice(0, 2)}`);
    case 'slow':
      await until(given.until);
      // One that is cancelled still answers, as real ones do that look only now and then.
      for (let step = 0; step < (given.steps ?? 0) && !cancelled.has(id); step++) {
        await new Promise((resolve) => setTimeout(resolve, given.ms ?? 20));
        if (_meta?.progressToken !== undefined) {
          say({
            method: 'notifications/progress',
            params: { progressToken: _meta.progressToken, progress: step + 1 },
          });
        }
      }
      return text(`slow by ${key.slice(0, 2)}`);
    case 'hang':
      return null;
    case 'ask': {
      const answer = await ask('elicitation/create', {
        message: 'really?',
        _meta: { progressToken: lastId },
      });
      return text(`answered ${JSON.stringify(answer)}`);
    }
    case 'round':
      return requestState === undefined
        ? { resultType: 'input_required', requestState: `${process.pid}:${given.n}` }
        : text(requestState.startsWith(`${process.pid}:`) ? 'mine' : 'not mine');
    case 'task':
      return { task: { taskId: `t${process.pid}` } };
    case 'grow':
      tools.push({ name: 'grown', inputSchema: { type: 'object' } });
      return text('grown');
    case 'die':
      process.exit(7);
      return null;
    case 'big':
      return text('x'.repeat(given.bytes));
    case 'number':
      say({ id, result: { ...text('n'), structuredContent: { value: Number(key) } } });
      return null;
    case 'update':
      await until(given.until);
      for (const uri of subscriptions)
        say({ method: 'notifications/resources/updated', params: { uri } });
      for (const [sub, uris] of listens) {
        for (const uri of uris) {
          say({
            method: 'notifications/resources/updated',
            params: { uri, _meta: { 'io.modelcontextprotocol/subscriptionId': sub } },
          });
        }
      }
      return text('updated');
    default:
      return { ...text('no such tool'), isError: true };
  }
}

async function answer({ id, method, params = {} }) {
  switch (method) {
    case 'initialize':
      if (modern) return { error: { code: -32601, message: 'no' } };
      if (mode.has('hang-initialize')) return null;
      return {
        result: {
          protocolVersion: mode.has('other-protocol') ? '2024-11-05' : params.protocolVersion,
          capabilities: mode.has('fewer') ? { tools: {} } : capabilities,
          serverInfo,
        },
      };
    case 'server/discover':
      if (!modern) return { error: { code: -32601, message: 'no' } };
      return { result: { ...done, supportedVersions: ['2026-07-28'], capabilities, serverInfo } };
    case 'ping':
      return { result: {} };
    case 'logging/setLevel':
      level = params.level;
      return { result: {} };
    case 'resources/subscribe':
      subscriptions.add(params.uri);
      return { result: {} };
    case 'resources/unsubscribe':
      subscriptions.delete(params.uri);
      return { result: {} };
    case 'tools/list':
      if (mode.has('slow-list')) await new Promise((resolve) => setTimeout(resolve, 500));
      if (params.cursor !== undefined) {
        return {
          result: { ...done, tools: params.cursor === `c${process.pid}` ? tools.slice(2) : [] },
        };
      }
      return params.paged === true
        ? { result: { ...done, tools: tools.slice(0, 2), nextCursor: `c${process.pid}` } }
        : { result: { ...done, tools } };
    case 'tools/call': {
      const result = await call(id, params);
      return result === null ? null : { result };
    }
    case 'tasks/get':
      return {
        result: {
          taskId: params.taskId,
          status: params.done === true ? 'completed' : 'working',
          isMine: params.taskId === `t${process.pid}`,
        },
      };
    case 'subscriptions/listen': {
      listens.set(id, params.notifications?.resourceSubscriptions ?? []);
      say({
        method: 'notifications/subscriptions/acknowledged',
        params: {
          notifications: params.notifications,
          _meta: { 'io.modelcontextprotocol/subscriptionId': id },
        },
      });
      return null;
    }
    default:
      return { error: { code: -32601, message: 'Method not found' } };
  }
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  const message = JSON.parse(line);
  if (message.method === undefined) {
    waiting.get(message.id)?.(message.result);
    waiting.delete(message.id);
    return;
  }
  if (message.id === undefined) {
    if (message.method === 'notifications/initialized') {
      if (mode.has('die-soon')) setTimeout(() => process.exit(9), 50);
      if (mode.has('roots')) roots = await ask('roots/list', {});
    }
    if (message.method === 'notifications/cancelled') {
      log(`cancelled ${message.params.requestId}`);
      cancelled.add(message.params.requestId);
      listens.delete(message.params.requestId);
    }
    return;
  }
  const given = await answer(message);
  if (given !== null) say({ id: message.id, ...given });
});
