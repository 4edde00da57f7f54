/** The real programs as processes: how long until `rotated` is ready, what it takes, and how a command compares with bare node. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Longer than any start that deserves a figure. */
const readyWithinMs = 120_000;

export interface Daemon extends AsyncDisposable {
  readonly pid: number;
  /** From the start of the process to its line `ready`. */
  readonly readyMs: number;
  /** Resident memory now, and the most there ever was, in MB. */
  rssMb(): { readonly now: number; readonly most: number };
  /** SIGTERM; returns its exit code. */
  stop(): Promise<number | null>;
}

export async function startDaemon(program: string, args: readonly string[]): Promise<Daemon> {
  const startedAt = performance.now();
  const child = spawn(process.execPath, [program, '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  let errors = '';
  child.stderr.on('data', (part: Buffer) => {
    errors += part.toString();
  });
  const end = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  const timer = setTimeout(() => child.kill('SIGKILL'), readyWithinMs);
  try {
    await line(child, '"message":"ready"');
  } catch (error) {
    await end();
    throw new Error(`rotated ended before it was ready: ${errors}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
  const readyMs = performance.now() - startedAt;
  // Whatever is logged from here on is read and dropped, so that the pipe never fills.
  child.stdout.resume();
  const pid = child.pid as number;
  return {
    pid,
    readyMs,
    rssMb: () => rssMbOf(pid),
    stop: async () => {
      child.kill('SIGTERM');
      const [code] = (await ended) as [number | null];
      return code;
    },
    [Symbol.asyncDispose]: end,
  };
}

/** Of a process of this machine, from /proc; throws off Linux. */
export function rssMbOf(pid: number): { now: number; most: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1_024;
  return { now: of('VmRSS'), most: of('VmHWM') };
}

/** Milliseconds from start to end of `node …`. Throws where it does not exit with 0. */
export function timeNode(args: readonly string[]): number {
  const startedAt = performance.now();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  const tookMs = performance.now() - startedAt;
  if (status !== 0) throw new Error(`${args[0]} ended with ${status}: ${stderr}`);
  return tookMs;
}

async function line(child: ChildProcess, wanted: string): Promise<void> {
  if (child.stdout === null) throw new Error('It has no stdout.');
  const lines = createInterface({ input: child.stdout });
  for await (const text of lines) if (text.includes(wanted)) return;
  throw new Error('Its output ended.');
}
