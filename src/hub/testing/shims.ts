/** Real shim processes for tests: what each is told, and what it said so far. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { InstanceStatus } from '../../gate/source.ts';

export interface Shim extends AsyncDisposable {
  readonly instance: string;
  readonly pid: number;
  tell(order: { readonly do: string; readonly status?: InstanceStatus }): void;
  /** The next event of this kind that was not asked for before; others on the way stay for later. */
  next(event: string): Promise<Record<string, unknown>>;
  resolve(): Promise<Record<string, unknown>>;
  signal(signal: NodeJS.Signals): void;
  kill(): Promise<void>;
}

export async function startShim(given: object, env: NodeJS.ProcessEnv = {}): Promise<Shim> {
  const program = path.join(import.meta.dirname, 'shim.ts');
  const child = spawn(process.execPath, [program, JSON.stringify(given)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const events = listen(child);
  const started = await events.next('started');
  const tell: Shim['tell'] = (order) => {
    child.stdin.write(`${JSON.stringify(order)}\n`);
  };
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  return {
    instance: String(started['instance']),
    pid: child.pid ?? 0,
    tell,
    next: events.next,
    async resolve() {
      tell({ do: 'resolve' });
      return await events.next('answer');
    },
    signal: (signal) => child.kill(signal),
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

function listen(child: ChildProcess): { next: Shim['next'] } {
  const arrived: Record<string, unknown>[] = [];
  const waiting: { event: string; resolve: (event: Record<string, unknown>) => void }[] = [];
  if (child.stdout === null) throw new TypeError('no stdout');
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = JSON.parse(line) as Record<string, unknown>;
    const at = waiting.findIndex((one) => one.event === event['event']);
    if (at === -1) arrived.push(event);
    else waiting.splice(at, 1)[0]?.resolve(event);
  });
  return {
    next(event) {
      const at = arrived.findIndex((one) => one['event'] === event);
      const [found] = at === -1 ? [] : arrived.splice(at, 1);
      if (found !== undefined) return Promise.resolve(found);
      return new Promise((resolve) => {
        waiting.push({ event, resolve });
      });
    },
  };
}
