/** Worker processes: started ahead, used again while they live, and waited for when they are killed or stopped. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Job, Reply } from './protocol.ts';

/** `killed`: it ended by the signal it was told to give itself. */
export type Outcome = Reply | { readonly outcome: 'killed' };

export interface Worker {
  run(job: Job): Promise<Outcome>;
  /** Until the process is stopped, or has answered: then it never came to the point. */
  runUntilStopped(job: Job): Promise<'stopped' | 'answered'>;
  /** Continues a stopped process and waits for its answer. */
  continue(): Promise<Outcome>;
}

export interface Pool extends AsyncDisposable {
  /** Lends a worker for `work`; one that died is replaced. */
  with<T>(work: (worker: Worker) => Promise<T>): Promise<T>;
  /** Ends them all at once, also those that are stopped and would never notice. */
  killAll(): void;
  /** Processes started so far. */
  readonly processes: number;
}

interface Held {
  readonly child: ChildProcess;
  readonly lines: AsyncIterator<string>;
  readonly exited: Promise<unknown>;
}

/** `spare`: processes kept started and idle, so that nobody waits for a start. */
export function startPool(spare: number, compileCache: string): Pool {
  const idle: Held[] = [];
  const all = new Set<Held>();
  let processes = 0;
  const state = { closing: false };

  function start(): Held {
    processes++;
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        fileURLToPath(new URL('worker.ts', import.meta.url)),
      ],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
      },
    );
    // A killed process closes its pipes: that it died is known from its exit.
    child.stdin?.on('error', () => undefined);
    const input = child.stdout as NodeJS.ReadableStream;
    const lines = createInterface({ input })[Symbol.asyncIterator]();
    const held: Held = { child, lines, exited: once(child, 'exit') };
    all.add(held);
    void held.exited.then(() => all.delete(held));
    return held;
  }

  function fill(): void {
    while (!state.closing && idle.length < spare) idle.push(start());
  }

  function killAll(): void {
    state.closing = true;
    for (const held of all) held.child.kill('SIGKILL');
  }

  async function answerOf(held: Held): Promise<Outcome> {
    const line = await held.lines.next();
    if (line.done !== true) return JSON.parse(line.value) as Reply;
    await held.exited;
    if (held.child.signalCode === 'SIGKILL') return { outcome: 'killed' };
    const error = `the worker ended by itself (${held.child.exitCode ?? held.child.signalCode})`;
    return { outcome: 'failed', points: [], error };
  }

  function workerOf(held: Held): Worker {
    let pending: Promise<Outcome> | null = null;
    const send = (job: Job) => {
      held.child.stdin?.write(`${JSON.stringify(job)}\n`);
      return answerOf(held);
    };
    return {
      run: send,
      runUntilStopped: async (job) => {
        const answered = new AbortController();
        pending = send(job).finally(() => answered.abort());
        // A process cannot say that it is stopped: its state is asked for.
        while (!answered.signal.aborted) {
          if (isStopped(held.child.pid as number)) return 'stopped';
          await delay(1);
        }
        return 'answered';
      },
      continue: async () => {
        held.child.kill('SIGCONT');
        if (pending === null) throw new Error('nothing was stopped');
        return pending;
      },
    };
  }

  fill();
  return {
    killAll,
    get processes() {
      return processes;
    },
    with: async (work) => {
      const held = idle.pop() ?? start();
      fill();
      try {
        return await work(workerOf(held));
      } finally {
        if (held.child.exitCode === null && held.child.signalCode === null) idle.push(held);
      }
    },
    [Symbol.asyncDispose]: async () => {
      killAll();
      await Promise.all([...all].map((held) => held.exited));
    },
  };
}

/** proc(5): the state follows the name in parentheses. */
function isStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] === 'T';
  } catch {
    return false;
  }
}
