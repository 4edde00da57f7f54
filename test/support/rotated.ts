/** The real programs as child processes: `rotate` to its end, `rotated` until it is stopped, with what they print. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

const bin = path.resolve(import.meta.dirname, '../../bin');

export interface LogLine extends Record<string, unknown> {
  readonly message: string;
}

export interface Surroundings {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** For stdin, which is closed after it; nothing where absent. */
  readonly input?: string;
}

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface Daemon extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly lines: readonly LogLine[];
  errors(): string;
  /** The first line with this message, now or later. Throws where it ended without. */
  said(message: string): Promise<LogLine>;
  /** SIGTERM; its exit code. */
  stop(): Promise<number | null>;
  exit(): Promise<number | null>;
}

export async function runProgram(
  program: 'rotate' | 'rotated',
  args: readonly string[],
  { cwd, env, input }: Surroundings = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [path.join(bin, `${program}.js`), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env: { ...env } }),
  });
  const texts = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (texts.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (texts.err += chunk.toString()));
  // It may end without reading.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input ?? '');
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...texts };
}

/** Killed where it still runs when it is disposed of. */
export function startDaemon(
  args: readonly string[],
  { cwd, env }: Omit<Surroundings, 'input'> = {},
): Daemon {
  const child = spawn(process.execPath, [path.join(bin, 'rotated.js'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
    ...(env === undefined ? {} : { env: { ...env } }),
  });
  const lines: LogLine[] = [];
  let text = '';
  let errors = '';
  let stir = Promise.withResolvers<void>();
  child.stdout.on('data', (chunk: Buffer) => {
    const parts = (text + chunk.toString()).split('\n');
    text = parts.pop() ?? '';
    for (const part of parts) if (part.startsWith('{')) lines.push(JSON.parse(part) as LogLine);
    stir.resolve();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const exited = once(child, 'close').then(([code]) => {
    stir.resolve();
    return code as number | null;
  });
  return {
    child,
    lines,
    errors: () => errors,
    exit: () => exited,
    said: async (message) => {
      for (;;) {
        stir = Promise.withResolvers();
        const found = lines.find((line) => line.message === message);
        if (found !== undefined) return found;
        if (child.exitCode !== null || child.signalCode !== null) {
          throw new Error(`ended without "${message}": ${errors}`);
        }
        await stir.promise;
      }
    },
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
      await exited;
    },
  };
}
