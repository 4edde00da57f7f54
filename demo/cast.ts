/** How the demo starts its processes and ends them: each in a group of its own, told over IPC, killed only where it does not listen. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Stop } from './messages.ts';

export interface Actor<Message extends object> {
  readonly pid: number;
  on(listener: (message: Message) => void): void;
  /** The first message of this kind. Rejects where the process ends before. */
  first<Kind extends (Message & { kind: string })['kind']>(
    kind: Kind,
  ): Promise<Extract<Message, { kind: Kind }>>;
  /** Resolves when it has ended, expected or not. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

export interface ActorOptions {
  readonly name: string;
  /** Relative to this folder. */
  readonly file: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly nodeArgs?: readonly string[];
  /** A program that does not know the demo's messages is asked to end by SIGTERM. */
  readonly stopBy?: 'message' | 'SIGTERM';
  /** Where its stderr goes, line by line; the demo's own stderr where absent. */
  readonly onOutput?: (text: string) => void;
}

/** Longer than any query of the demo and any step of the daemon. */
const stopWithinMs = 20_000;

export function start<Message extends object>(options: ActorOptions): Actor<Message> {
  const { name, file, args, stopBy = 'message', onOutput } = options;
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [...args], {
    execArgv: [...(options.nodeArgs ?? [])],
    env: { ...process.env, ...options.environment },
    // A Ctrl-C in the terminal goes to the foreground group: to the demo alone.
    detached: true,
    stdio: [
      'ignore',
      onOutput === undefined ? 'inherit' : 'pipe',
      onOutput === undefined ? 'inherit' : 'pipe',
      'ipc',
    ],
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => onOutput?.(text));
  }
  const ended = once(child, 'exit').then(([code, signal]) => {
    return `${name} ended (${signal === null ? `exit code ${String(code)}` : String(signal)})`;
  });
  return {
    pid: child.pid ?? 0,
    ended,
    on: (listener) => {
      child.on('message', (message) => listener(message as Message));
    },
    first: (kind) =>
      new Promise((resolve, reject) => {
        child.on('message', (message) => {
          if ((message as { kind?: unknown }).kind === kind) resolve(message as never);
        });
        void ended.then((how) => reject(new Error(how)));
      }),
    stop: () => stop(child, stopBy),
  };
}

async function stop(child: ChildProcess, by: 'message' | 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  if (by === 'SIGTERM') child.kill('SIGTERM');
  else if (child.connected) child.send({ kind: 'stop' } satisfies Stop, () => undefined);
  const timer = setTimeout(() => child.kill('SIGKILL'), stopWithinMs);
  await ended;
  clearTimeout(timer);
}
