/** The demo's daemon: the real program in a process of its own, asked and watched through its control socket. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ControlClient, reachControl } from '../src/control/client.ts';
import { controlSocketPath } from '../src/control/socket-path.ts';
import type { Ask, RotationView, Selector, Service, Started } from '../src/rotation/service.ts';
import { Secret } from '../src/secret/secret.ts';
import { type Actor, start } from './cast.ts';
import type { IssuerReady } from './messages.ts';
import type { Login } from './old-login.ts';
import { adminSecret, secret, type Stage } from './stage.ts';

export interface Daemon {
  readonly actor: Actor<object>;
  readonly service: Service;
  /** Its last log lines, for when something goes wrong. */
  log(): string;
  stop(): Promise<void>;
}

const readyWithinMs = 20_000;
const stepWithinMs = 30_000;
const logBytesKept = 8_000;

export async function startDaemon(stage: Stage, signal: AbortSignal): Promise<Daemon> {
  let log = '';
  const actor = start<object>({
    name: 'the daemon',
    file: '../bin/rotated.js',
    args: ['--state', stage.state, '--policies', stage.schedules, '--key', stage.keyFile],
    nodeArgs: [
      '--disable-sigusr1',
      '--import',
      fileURLToPath(new URL('leash.ts', import.meta.url)),
    ],
    stopBy: 'SIGTERM',
    onOutput: (text) => {
      log = (log + text).slice(-logBytesKept);
    },
  });
  const connect = async (): Promise<ControlClient> => {
    const until = performance.now() + readyWithinMs;
    for (;;) {
      signal.throwIfAborted();
      const reached = await reachControl(controlSocketPath(stage.state));
      if (reached.kind === 'connected') return reached.client;
      if (performance.now() > until)
        throw new Error(`The daemon does not answer. It logged:\n${log}`);
      await delay(50, undefined, { signal });
    }
  };
  const client = await Promise.race([
    connect(),
    actor.ended.then((how) => {
      throw new Error(`${how} before it was ready. It logged:\n${log}`);
    }),
  ]);
  return {
    actor,
    service: client.service,
    log: () => log,
    stop: async () => {
      client.close();
      await actor.stop();
    },
  };
}

const ask: Ask = {
  actor: { id: 'demo', channel: 'command', proven: false },
  reason: 'the demo',
};

/** What a person does once: hands in the admin login. Then the first login is made. */
export async function setUp(
  service: Service,
  issuer: IssuerReady,
  signal: AbortSignal,
): Promise<void> {
  const admin = {
    username: new Secret(issuer.adminUser),
    password: new Secret(issuer.adminPassword),
  };
  await finish(service, [await service.supply(adminSecret, admin, ask)], signal);
  await finish(service, await service.run(selector, ask), signal);
}

/** The login in use, as its owner may read it: `rotate read`. */
export async function currentLogin(service: Service): Promise<Login> {
  const { generation, fields } = await service.read(secret, 'current', ask);
  const text = (name: string) => fields[name]?.reveal() ?? '';
  return { generation: generation ?? 0, user: text('PGUSER'), password: text('PGPASSWORD') };
}

const selector: Selector = {
  names: [secret],
  tags: [],
  providers: [],
  consumers: [],
  all: false,
};

/** Waits for what was started to end, and throws where it ended in anything but a credential in use. */
async function finish(
  service: Service,
  started: readonly Started[],
  signal: AbortSignal,
): Promise<void> {
  const ids: string[] = [];
  for (const one of started) {
    if (one.rotation === null) throw new Error(`${one.secret}: ${one.message} ${one.next ?? ''}`);
    ids.push(one.rotation);
  }
  const watching = AbortSignal.any([signal, AbortSignal.timeout(stepWithinMs)]);
  for await (const progress of service.watch(ids, stepWithinMs, watching)) {
    if (progress.final === null) continue;
    const view = await service.rotation(progress.rotation);
    if (view?.phase !== 'retired')
      throw new Error(`${progress.secrets.join()}: ${progress.message}`);
  }
}

/** The rotation of the demo's secret that is under way, or null. */
export async function activeRotation(service: Service): Promise<RotationView | null> {
  const status = await service.status(selector);
  return status.secrets[0]?.active ?? null;
}
