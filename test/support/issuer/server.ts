/** Starts the test issuer as a process of its own, with durable state, and talks to it from a test. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { askJson } from './call.ts';
import type { KeyTruth } from './issuer.ts';
import type { PrincipalSettings } from './settings.ts';
import type { IssuerEvent } from './store.ts';

export type { KeyTruth } from './issuer.ts';
export type { Fault, PrincipalSettings } from './settings.ts';
export type { IssuerEvent } from './store.ts';

/** What a test asks of the issuer; usable from any process that knows the URL. */
export interface IssuerControl {
  readonly url: string;
  /** Sets what is named and leaves the rest; a principal never named has the defaults. */
  configure(principal: string, settings: Partial<PrincipalSettings>): Promise<void>;
  /** The truth, not what the issuer would say in public. `late`: mints accepted that have not landed yet. */
  keys(principal: string): Promise<{ readonly keys: readonly KeyTruth[]; readonly late: number }>;
  events(principal: string, after?: number): Promise<readonly IssuerEvent[]>;
  /** The key with this value, without using it; null where there never was one. */
  probe(principal: string, value: string): Promise<KeyTruth | null>;
  /** Lets every mint on its way land now; returns how many did. */
  land(principal: string): Promise<number>;
}

export interface RunningIssuer extends IssuerControl, AsyncDisposable {
  readonly pid: number;
  /** kill −9, then a new process on the same port and state. */
  restart(): Promise<void>;
}

export interface IssuerStart extends Partial<PrincipalSettings> {
  /** Holds `issuer.sqlite`; made where it is missing. */
  readonly directory: string;
}

export async function startIssuer({ directory, ...defaults }: IssuerStart): Promise<RunningIssuer> {
  mkdirSync(directory, { recursive: true });
  let running = await startProcess(directory, 0, defaults);
  const { port } = running;
  return {
    ...issuerControl(`http://127.0.0.1:${port}`),
    get pid() {
      return running.child.pid as number;
    },
    restart: async () => {
      await end(running.child);
      running = await startProcess(directory, port, defaults);
    },
    [Symbol.asyncDispose]: () => end(running.child),
  };
}

export function issuerControl(url: string): IssuerControl {
  const post = <T>(path: string, body: object) =>
    askJson<T>({ method: 'POST', url: url + path, body: JSON.stringify(body) });
  const get = <T>(path: string, query: Record<string, string>) =>
    askJson<T>({ method: 'GET', url: `${url}${path}?${new URLSearchParams(query).toString()}` });
  return {
    url,
    configure: async (principal, settings) => {
      await post('/configure', { principal, settings });
    },
    keys: (principal) => get('/keys', { principal }),
    events: async (principal, after = 0) => {
      const query = { principal, after: String(after) };
      return (await get<{ events: readonly IssuerEvent[] }>('/events', query)).events;
    },
    probe: async (principal, value) =>
      (await post<{ key: KeyTruth | null }>('/probe', { principal, value })).key,
    land: async (principal) => (await post<{ landed: number }>('/land', { principal })).landed,
  };
}

async function startProcess(
  directory: string,
  port: number,
  defaults: Partial<PrincipalSettings>,
): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const program = fileURLToPath(new URL('process.ts', import.meta.url));
  const child = spawn(process.execPath, [program, JSON.stringify({ directory, port, defaults })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  for await (const part of child.stdout) {
    text += String(part);
    if (text.includes('\n')) return { child, port: (JSON.parse(text) as { port: number }).port };
  }
  throw new Error(`the test issuer ended before it was ready: ${child.exitCode}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
