/** Starts the process of instances behind the gate and talks to it: from the harness, and from each daemon that is to be killed. */
import { Agent } from 'node:http';
import { startProgram } from '../../support/program.ts';
import { askJson } from '../../support/issuer/call.ts';
import type { Serving } from '../../support/world-consumer/app.ts';
import type { InstanceSettings, Ledger } from './instance.ts';

export interface GateSettings extends InstanceSettings {
  readonly issuer: string;
  readonly principal: string;
  readonly instances: number;
  /** One of them, in a process of its own, ends in order when the first report is due. */
  readonly leaves: boolean;
}

/** What an instance has told the daemon last. */
export interface Told {
  readonly instance: string;
  readonly isAway: boolean;
  readonly state: 'serving' | 'idle' | null;
  readonly generations: Readonly<Record<string, number>>;
}

/** Usable from any process that knows the URL. Each names a case. */
export interface GateControl {
  readonly url: string;
  configure(name: string, settings: GateSettings): Promise<void>;
  /** Starts its instances, if they do not run: they want a daemon. */
  open(name: string): Promise<void>;
  /** Returns when all are connected and none would change by itself: what each has told. */
  settle(name: string): Promise<readonly Told[]>;
  /** A report is due. */
  asked(name: string): Promise<void>;
  /** As if the daemon had been silent for too long: its lines are given up. */
  silence(name: string): Promise<void>;
  /** Every running process, and whether the issuer would accept its key at this instant. */
  serving(name: string): Promise<readonly Serving[]>;
  /** Every instance calls once; how many were answered with an error. */
  use(name: string): Promise<number>;
  ledgers(name: string): Promise<readonly Ledger[]>;
  forget(name: string): Promise<void>;
}

export interface RunningGates extends GateControl, AsyncDisposable {}

export async function startGates(): Promise<RunningGates> {
  const program = await startProgram(new URL('process.ts', import.meta.url), []);
  return {
    ...gateControl(`http://127.0.0.1:${program.port}`),
    [Symbol.asyncDispose]: () => program.end(),
  };
}

/** Keeps connections: make one for each process that asks. */
export function gateControl(url: string): GateControl {
  const agent = new Agent({ keepAlive: true });
  const post = <T>(verb: string, name: string, body: object = {}) =>
    askJson<T>({
      method: 'POST',
      url: `${url}/${verb}/${encodeURIComponent(name)}`,
      body: JSON.stringify(body),
      agent,
    });
  const tell = async (verb: string, name: string, body: object = {}): Promise<void> => {
    await post(verb, name, body);
  };
  return {
    url,
    configure: (name, settings) => tell('configure', name, settings),
    open: (name) => tell('open', name),
    settle: async (name) => (await post<{ told: readonly Told[] }>('settle', name)).told,
    asked: (name) => tell('asked', name),
    silence: (name) => tell('silence', name),
    serving: async (name) => (await post<{ serving: readonly Serving[] }>('serving', name)).serving,
    use: async (name) => (await post<{ errors: number }>('use', name)).errors,
    ledgers: async (name) => (await post<{ ledgers: readonly Ledger[] }>('ledger', name)).ledgers,
    forget: (name) => tell('forget', name),
  };
}
