/**
 * A control that must fail: on a new key it kills the server, then starts another and replays the handshake. With
 * `--buffer` what the client sends meanwhile is kept, without it is refused. `node restart.ts [--buffer] COMMAND ARGS…`
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { connect } from 'node:net';
import type { DaemonMessage, ShimMessage } from '../../../src/gate/feed/protocol.ts';
import { createLineSplitter } from '../load/lines.ts';
import type { Message } from '../load/message.ts';
import { reference } from '../support/feed.ts';

const buffers = process.argv[2] === '--buffer';
const [command, ...args] = process.argv.slice(buffers ? 3 : 2);
const socketPath = process.env['ROTATED_GATE_SOCKET'];
if (command === undefined || socketPath === undefined) throw new Error('Say what is to be run.');

const replayId = 'replay';
let child: ChildProcess | null = null;
let generation = 0;
let handshake: string | null = null;
let hasInitialized = false;
/** What came while no server was ready; null while one is. */
let waiting: string[] | null = [];

const feed = connect(socketPath);
const say = (message: ShimMessage) => feed.write(`${JSON.stringify(message)}\n`);
say({
  type: 'hello',
  feed: 1,
  instance: `control-${process.pid}-1-000000000000`,
  server: 'control',
  hash: '',
  what: command,
  references: [reference],
  held: null,
  status: null,
});
say({ type: 'resolve', id: 1 });
feed.on(
  'data',
  createLineSplitter((line) => {
    const message = JSON.parse(line) as DaemonMessage;
    if (message.type === 'changed') say({ type: 'resolve', id: 1 });
    if (message.type !== 'values') return;
    generation = Object.values(message.generations)[0] ?? 0;
    restart(message.values[0] ?? '');
  }),
);

process.stdin.on(
  'data',
  createLineSplitter((line) => {
    const message = JSON.parse(line) as Message;
    if (message.method === 'initialize') handshake = line;
    if (message.method === 'notifications/initialized') hasInitialized = true;
    if (waiting === null) child?.stdin?.write(`${line}\n`);
    else if (buffers || handshake === line || generation <= 1) waiting.push(line);
    else if (message.id !== undefined && message.method !== undefined) {
      const error = { code: -32000, message: 'The server is being restarted.' };
      process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id: message.id, error })}\n`);
    }
  }),
);
process.stdin.on('end', () => {
  child?.kill('SIGKILL');
  feed.end();
});

function restart(key: string): void {
  const old = child;
  if (old === null) start(key);
  else {
    waiting = [];
    old.once('close', () => start(key));
    old.kill('SIGKILL');
  }
}

function start(key: string): void {
  const isFirst = child === null;
  const next = spawn(command as string, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, API_KEY: key },
  });
  child = next;
  next.stdin.on('error', () => {});
  next.stdout.on(
    'data',
    createLineSplitter((line) => {
      if (line.includes(`"id":"${replayId}"`)) ready();
      else process.stdout.write(`${line}\n`);
    }),
  );
  if (isFirst || handshake === null) ready();
  else {
    const replay = { ...(JSON.parse(handshake) as object), id: replayId };
    next.stdin.write(`${JSON.stringify(replay)}\n`);
  }
}

function ready(): void {
  const lines = waiting ?? [];
  waiting = null;
  if (generation > 1 && hasInitialized) {
    child?.stdin?.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n');
  }
  for (const line of lines) child?.stdin?.write(`${line}\n`);
  const generations = { 'test-key': generation };
  say({ type: 'status', status: { state: 'serving', generations, problem: null } });
}
