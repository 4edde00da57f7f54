/** What a session of the load generator needs of a connection, and the one over a child's stdio. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { createLineSplitter } from './lines.ts';
import type { Message, Request, RpcId } from './message.ts';

export interface Transport {
  request(request: Request): void;
  notify(method: string, params: Readonly<Record<string, unknown>>): void;
  /** An answer to a request of the server. */
  answer(id: RpcId, result: Readonly<Record<string, unknown>>): void;
  /** As the transport does it: a notification, or the end of the request's stream. */
  cancel(id: RpcId): void;
  /** One receiver; messages that came before are not lost. */
  receive(receiver: Receiver): void;
  close(): Promise<void>;
}

export interface Receiver {
  message(message: Message): void;
  /** A request whose stream ended, or that could not be sent: nothing more will come for it. */
  broken(id: RpcId, reason: string): void;
  /** The connection is gone. */
  closed(reason: string): void;
}

export interface StdioTransport extends Transport {
  readonly child: ChildProcess;
  /** What it said on stderr so far. */
  stderr(): string;
  /** Lines on stdout that were no JSON: a client would stumble over each. */
  readonly junk: string[];
  /** Closes its stdin only. */
  endInput(): void;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

/** So much of a child's stderr is kept for a message. */
const stderrCharsMax = 20_000;
/** After its stdin ended, a well-behaved child is given so long until it is killed. */
const exitWithinMs = 15_000;

export function openStdio(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): StdioTransport {
  const child = spawn(command, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
  const { stdin, stdout, stderr: errors } = child;
  if (stdin === null || stdout === null || errors === null) throw new Error('It has no stdio.');
  const junk: string[] = [];
  let receiver: Receiver | null = null;
  const early: Message[] = [];
  let stderr = '';
  errors.on('data', (part: Buffer) => {
    if (stderr.length < stderrCharsMax) stderr += part.toString();
  });
  // Its death is told by `exited`; a write after it must not end the test.
  stdin.on('error', () => {});
  const split = createLineSplitter((line) => {
    const message = parse(line);
    if (message === null) junk.push(line.slice(0, 200));
    else if (receiver === null) early.push(message);
    else receiver.message(message);
  });
  stdout.on('data', split);
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.on('error', (error) => {
      receiver?.closed(error.message);
      resolve({ code: null, signal: null });
    });
    child.on('close', (code, signal) => {
      receiver?.closed(`it ended with ${code ?? signal}`);
      resolve({ code, signal });
    });
  });
  const send = (text: string) => {
    if (stdin.writable) stdin.write(text);
  };
  const notify = (method: string, params: Readonly<Record<string, unknown>>) => {
    send(`${JSON.stringify({ jsonrpc: '2.0', method, params })}\n`);
  };
  return {
    child,
    junk,
    exited,
    stderr: () => stderr,
    endInput: () => stdin.end(),
    request: ({ id, method, params }) =>
      send(
        `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"method":"${method}","params":${JSON.stringify(params)}}\n`,
      ),
    notify,
    answer: (id, result) => send(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`),
    cancel: (requestId) =>
      notify('notifications/cancelled', { requestId, reason: 'no longer wanted' }),
    receive: (next) => {
      receiver = next;
      for (const message of early.splice(0)) next.message(message);
    },
    close: async () => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
        await exited;
        return;
      }
      stdin.end();
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        // A grandchild that outlives it would hold these open.
        stdout.destroy();
        errors.destroy();
      }, exitWithinMs);
      try {
        await exited;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

function parse(line: string): Message | null {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === 'object' && message !== null ? message : null;
  } catch {
    return null;
  }
}
