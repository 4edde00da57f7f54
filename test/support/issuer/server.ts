/** Starts the test issuer as a process of its own, with durable state, and talks to it from a test. */
import { Agent } from 'node:http';
import { mkdirSync } from 'node:fs';
import { startProgram, type Program } from '../program.ts';
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
  /** `to` gets the keys of `from`, its settings with `change`, and counts that start anew. */
  clone(from: string, to: string, change?: Partial<PrincipalSettings>): Promise<void>;
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
      return running.pid;
    },
    restart: async () => {
      await running.end();
      running = await startProcess(directory, port, defaults);
    },
    [Symbol.asyncDispose]: () => running.end(),
  };
}

/** Keeps connections: make one for each issuer, not one for each question. */
export function issuerControl(url: string): IssuerControl {
  const agent = new Agent({ keepAlive: true });
  const post = <T>(path: string, body: object) =>
    askJson<T>({ method: 'POST', url: url + path, body: JSON.stringify(body), agent });
  const get = <T>(path: string, query: Record<string, string>) =>
    askJson<T>({
      method: 'GET',
      url: `${url}${path}?${new URLSearchParams(query).toString()}`,
      agent,
    });
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
    clone: async (from, to, settings = {}) => {
      await post('/clone', { principal: from, to, settings });
    },
    land: async (principal) => (await post<{ landed: number }>('/land', { principal })).landed,
  };
}

function startProcess(
  directory: string,
  port: number,
  defaults: Partial<PrincipalSettings>,
): Promise<Program> {
  const args = [JSON.stringify({ directory, port, defaults })];
  return startProgram(new URL('process.ts', import.meta.url), args);
}
