/** A deployment as a person would make it: folders, a policy, the real daemon, the admin credential handed in, a first rotation. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { reachControl } from '../../src/control/client.ts';
import { controlSocketPath } from '../../src/control/socket-path.ts';
import type { Ask, Selector, Service, Started } from '../../src/rotation/service.ts';
import { Secret } from '../../src/secret/secret.ts';
import { startDaemon } from '../support/rotated.ts';
import type { Case } from './case.ts';

export interface Deployment extends AsyncDisposable {
  /** By it, other programs find the daemon. */
  readonly state: string;
  /** Rotates once and returns when the old credential is dead. Throws where it ends in anything else. */
  rotate(): Promise<void>;
  /** What the backend holds now. */
  current(): Promise<Readonly<Record<string, string>>>;
  /** Its last log lines, for when something goes wrong. */
  log(): string;
}

const ask: Ask = {
  actor: { id: 'real-servers', channel: 'command', proven: false },
  reason: 'a check with real servers',
};
const readyWithinMs = 30_000;
const rotatesWithinMs = 120_000;
const logLinesKept = 40;

export async function deploy(subject: Case): Promise<Deployment> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-real-'));
  const [state, policies, key] = ['state', 'schedules', 'key'].map((part) =>
    path.join(folder, part),
  ) as [string, string, string];
  await chmod(folder, 0o700);
  await mkdir(policies, { mode: 0o700 });
  await writeFile(path.join(policies, 'case.yaml'), policyOf(subject), { mode: 0o600 });
  await using made = new AsyncDisposableStack();
  made.defer(() => rm(folder, { recursive: true, force: true }));
  const daemon = startDaemon(['--state', state, '--policies', policies, '--key', key]);
  // Whatever becomes of this process, the daemon does not outlive it.
  const kill = () => daemon.child.kill('SIGKILL');
  process.once('exit', kill);
  made.defer(async () => {
    process.off('exit', kill);
    await daemon.stop();
  });
  const log = () =>
    [
      ...daemon.lines.slice(-logLinesKept).map((line) => JSON.stringify(line)),
      daemon.errors(),
    ].join('\n');
  const { service, close } = await connect(state, log);
  made.defer(close);
  const adminName = `${subject.name}-admin`;
  const fields = Object.fromEntries(
    Object.entries(subject.admin).map(([name, value]) => [name, new Secret(value)]),
  );
  const rotate = async () => finish(service, await service.run(one(subject.name), ask), log);
  await finish(service, [await service.supply(adminName, fields, ask)], log);
  await rotate();
  const owned = made.move();
  return {
    state,
    log,
    rotate,
    current: async () => {
      const { fields } = await service.read(subject.name, 'current', ask);
      return Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [name, value.reveal()]),
      );
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What a deployment would write, but for the seconds. */
function policyOf({ name, provider, backend, launch, probe, admin }: Case): string {
  const command = JSON.stringify(launch.command);
  const expect = JSON.stringify(probe.expect);
  const tool = `tool: ${probe.tool}, arguments: ${JSON.stringify(probe.arguments)}, expect: ${expect}`;
  return `# A check's policy: a published MCP server whose credential changes while it is called.
secrets:
  ${name}:
    provider: ${provider(`local://admin/${name}`)}
    backend: ${backend}
    schedule: manual
    grace: 1s
    verify:
      - provider
      - mcp: { command: ${command}, env: ${JSON.stringify(checkEnvironment(launch))}, ${tool} }
    consumers:
      - gate: { server: ${name}, command: ${command}, warm: 0s, canary: { ${tool} } }
    adoption: { timeout: 60s, then: wait }

  ${name}-admin:
    provider:
      use: operator
      instructions: Hand in what makes the credentials of ${name}.
      fields: [${Object.keys(admin).join(', ')}]
    backend: local://admin/${name}
    schedule: manual
`;
}

/** The environment of the check's own server: `X_REF: local://item#FIELD` is the pending value of FIELD. */
function checkEnvironment({ env }: Case['launch']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).map(([name, value]) => {
      const field = /^local:\/\/.*#(.+)$/.exec(value)?.[1];
      return field === undefined ? [name, value] : [name.replace(/_REF$/, ''), `\${${field}}`];
    }),
  );
}

async function connect(
  state: string,
  log: () => string,
): Promise<{ service: Service; close: () => void }> {
  const until = performance.now() + readyWithinMs;
  for (;;) {
    const reached = await reachControl(controlSocketPath(state));
    if (reached.kind === 'connected') {
      const { client } = reached;
      return { service: client.service, close: () => client.close() };
    }
    if (performance.now() > until) throw new Error(`The daemon does not answer.\n${log()}`);
    await delay(50);
  }
}

async function finish(
  service: Service,
  started: readonly Started[],
  log: () => string,
): Promise<void> {
  const ids = started.map(({ secret, rotation, message, next }) => {
    if (rotation === null) throw new Error(`${secret}: ${message} ${next ?? ''}\n${log()}`);
    return rotation;
  });
  const signal = AbortSignal.timeout(rotatesWithinMs);
  for await (const progress of service.watch(ids, rotatesWithinMs, signal)) {
    if (progress.final === null) continue;
    const view = await service.rotation(progress.rotation);
    if (view?.phase === 'retired') continue;
    throw new Error(
      `${progress.secrets.join()}: ${progress.message} (${view?.waitsFor ?? view?.phase})\n${log()}`,
    );
  }
}

function one(name: string): Selector {
  return { names: [name], tags: [], providers: [], consumers: [], all: false };
}
