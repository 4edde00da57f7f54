/**
 * A server that misbehaves as it is told: `BAD` is JSON, by generation of the key it was started with. A generation that is
 * not in it behaves well. Legacy era, no SDK: nothing here is kept from doing what servers should not.
 */
import { createLineSplitter } from '../load/lines.ts';
import { callKey, type Message, type RpcId } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';

export interface Behaviour {
  /** exit: ends before it says anything. hang: answers no handshake. */
  readonly start?: 'exit' | 'hang';
  readonly protocolVersion?: string;
  readonly version?: string;
  /** Tools that it does not have. */
  readonly lacks?: readonly string[];
  readonly canary?: 'isError' | '401';
  /** Ends so long after the first call of a client. */
  readonly dieAfterFirstCallMs?: number;
  readonly ignoresEnd?: boolean;
  /** Lines that are no JSON-RPC among its answers. */
  readonly junk?: boolean;
}

const key = process.env['API_KEY'] ?? 'none';
const generation = Number(/^key-g(\d+)/.exec(key)?.[1] ?? 0);
const plan = JSON.parse(process.env['BAD'] ?? '{}') as Readonly<Record<string, Behaviour>>;
const bad = plan[generation] ?? {};
const log = openCallLog(process.env[logVariable], key);

if (bad.start === 'exit') {
  process.stderr.write('no server today\n');
  process.exit(3);
}
if (bad.ignoresEnd === true) {
  process.on('SIGTERM', () => {});
  setInterval(() => {}, 60_000);
}
if (bad.junk === true) {
  process.stdout.write('Listening…\n\n{"not":"json-rpc"\n');
}

const names = ['echo', 'get_me', 'slow', 'hang', 'die', 'large', 'leak', 'touched'];
const pending = new Map<RpcId, string>();
let calls = 0;

process.stdin.on(
  'data',
  createLineSplitter((line) => receive(JSON.parse(line) as Message)),
);

function receive({ id, method, params = {} }: Message): void {
  const call = (params['_meta'] as Record<string, unknown> | undefined)?.[callKey];
  if (method === 'notifications/cancelled') {
    const name = pending.get(params['requestId'] as RpcId);
    log.cancelled(name ?? null);
    return;
  }
  if (method === undefined || id === undefined || id === null) return;
  if (typeof call === 'string') {
    log.call({ id: call, method });
    pending.set(id, call);
  }
  if (bad.junk === true) process.stdout.write('handling a request\n');
  switch (method) {
    case 'initialize':
      if (bad.start === 'hang') return;
      return result(id, {
        protocolVersion: bad.protocolVersion ?? params['protocolVersion'],
        capabilities: { tools: {} },
        serverInfo: { name: 'bad-test-server', version: bad.version ?? '1.0.0' },
      });
    case 'ping':
      return result(id, {});
    case 'tools/list': {
      const here = names.filter((name) => bad.lacks?.includes(name) !== true);
      return result(id, {
        tools: here.map((name) => ({ name, inputSchema: { type: 'object' } })),
      });
    }
    case 'tools/call':
      return use(id, String(params['name']), params['arguments'] as Record<string, unknown>);
    default:
      return fail(id, -32601, `Method not found: ${method}`);
  }
}

function use(id: RpcId, name: string, args: Readonly<Record<string, unknown>>): void {
  if (name !== 'get_me') {
    calls += 1;
    if (calls === 1 && bad.dieAfterFirstCallMs !== undefined) {
      setTimeout(() => process.exit(5), bad.dieAfterFirstCallMs);
    }
  }
  if (bad.lacks?.includes(name) === true) return fail(id, -32602, `No tool ${name}`);
  const ms = Number(args['ms'] ?? 0);
  switch (name) {
    case 'echo':
      return text(id, `Echo: ${String(args['message'])}`);
    case 'get_me':
      if (bad.canary === '401') return fail(id, -32001, 'Unauthorized: 401');
      if (bad.canary === 'isError') {
        return result(id, { isError: true, content: [{ type: 'text', text: 'Bad credentials' }] });
      }
      return text(id, `generation ${generation} pid ${process.pid}`);
    case 'slow':
      setTimeout(() => text(id, `generation ${generation} pid ${process.pid}`), ms);
      return;
    case 'hang':
      return;
    case 'die':
      setTimeout(() => process.exit(6), ms);
      return;
    case 'large':
      return text(id, 'x'.repeat(Number(args['bytes'])));
    case 'leak':
      process.stderr.write(`the key is ${key}\n`);
      return text(
        id,
        [key, Buffer.from(key).toString('base64'), encodeURIComponent(key)].join(' '),
      );
    default:
      return fail(id, -32602, `No tool ${name}`);
  }
}

function text(id: RpcId, value: string): void {
  result(id, { content: [{ type: 'text', text: value }] });
}

function result(id: RpcId, value: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, result: value })}\n`);
}

function fail(id: RpcId, code: number, message: string): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, error: { code, message } })}\n`);
}
