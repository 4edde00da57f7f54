/** Drives canaries through servers behind `rotate wrap`: everything such a server can say, on every way that its keys take. */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { reachControl } from '../../src/control/client.ts';
import { controlSocketPath } from '../../src/control/socket-path.ts';
import type { Service as Machine } from '../../src/rotation/service.ts';
import type { Control } from './controls.ts';
import type { DeclaredVariable } from './processes.ts';
import { ownerOf, type World } from './scenario.ts';
import {
  type Places,
  placesIn,
  type Rotate,
  rotateIn,
  startService,
  until,
  within,
} from './stage.ts';
import { startWrapped, type Wrapped } from './wrapped.ts';

const serverFile = path.join(import.meta.dirname, 'leaky-server.ts');
const bin = path.resolve(import.meta.dirname, '../../bin');
const keyVariable = 'LEAKY_KEY';
/** Of the servers: what each is told apart by, also in the process table. */
const names = ['leaky', 'refused', 'plain'] as const;
type Name = (typeof names)[number];

/** A server gets its key from whoever starts it: the shim, or the check with a pending value. Nobody else has it. */
export const serverVariables: readonly DeclaredVariable[] = [
  { variable: keyVariable, command: serverFile, notCommand: 'rotate.js wrap' },
];

interface Scene extends World {
  readonly places: Places;
  readonly rotate: Rotate;
}

/** Returns the leaks that were made on purpose: what a server says where the policy switches redaction off. */
export async function driveGate(world: World): Promise<readonly Control[]> {
  const places = placesIn(path.join(world.folder, 'gate'));
  const scene: Scene = { ...world, places, rotate: rotateIn(places, world.evidence) };
  const { canaries, evidence, taken } = scene;
  writePolicies(places);
  const plain = 'control: a wrapped server without redaction';
  const values: Readonly<Record<Name, string>> = {
    leaky: canaries.make('supplied for a wrapped server'),
    refused: canaries.make('supplied for a server that refuses'),
    plain: canaries.make(plain),
  };
  for (const name of names) {
    const { code } = await scene.rotate(['supply', name, '--json'], { input: values[name] });
    taken(`supply for the server ${name}`, code === 0);
  }
  await withDaemon(scene);
  await onDemand(scene);
  evidence.folder('the state behind the gate', places.state);
  evidence.folder('the temporary folder behind the gate', places.temporary);
  return [
    { source: plain, where: /^plain under wrap: what the client reads$/ },
    { source: plain, where: /^plain under wrap: what the client logs$/ },
  ];
}

async function withDaemon(scene: Scene): Promise<void> {
  const { canaries, evidence, places, progress, rotate, taken } = scene;
  const args = ['--json', '--log-level', 'debug', ...places.args];
  const command = [process.execPath, path.join(bin, 'rotated.js'), ...args] as const;
  const start = () => startService('the log of the gate’s daemon', command, places.env, evidence);
  progress('leak: servers behind rotate wrap');
  const before = start();
  await using first = before;
  await within('the daemon of the gate is ready', first.said('"ready"'));
  await using leaky = wrap(scene, 'leaky', ['--file', `${keyFile(places)}=${reference('leaky')}`]);
  await using refused = wrap(scene, 'refused');
  await using plain = wrap(scene, 'plain');
  for (const one of [leaky, refused, plain]) await everything(one);
  taken('a server says its key to the client', plain.seen().includes('"isError":true'));

  await ungranted(scene);
  await replaced(scene, leaky);
  await notReplaced(scene, refused);
  evidence.folder('the state while servers run', places.state);

  progress('leak: kill −9 of the daemon under wrapped servers');
  await first.kill();
  for (const one of [leaky, refused])
    taken('a call without the daemon', isAnswered(await one.call('works')));
  await using second = start();
  await within('the daemon of the gate is back', second.said('"ready"'));
  await within('the servers are back', second.said('a server is connected'));
  await replaced(scene, leaky);
  const crashed = await leaky.call('ends');
  taken('a server that crashes', crashed.error !== undefined);
  taken('a server that was restarted', isAnswered(await leaky.call('works')));
  for (const words of [['status'], ['status', '--json'], ['allow', '--list'], ['audit', '--json']])
    await rotate(words);
  lookAtFile(scene);
  for (const one of [leaky, refused, plain]) await one.close();
  canaries.make('supplied for a wrapped server');
  await second.stop();
}

/** Each way of answering, and a method that it does not have. */
async function everything(wrapped: Wrapped): Promise<void> {
  await wrapped.introduce();
  for (const tool of ['works', 'fails', 'throws']) await wrapped.call(tool);
  await wrapped.ask('nothing/of/this/name', { text: 'x' });
}

/** One that asks for what nobody granted, and one for an admin credential. */
async function ungranted(scene: Scene): Promise<void> {
  const { evidence, places, rotate, taken } = scene;
  for (const [what, wanted, word] of [
    ['another server’s key', reference('refused'), 'greedy'],
    ['an admin credential', 'local://gate/admin#value', 'greedier'],
  ] as const) {
    await using greedy = startWrapped({
      where: `a server that asks for ${what}`,
      options: ['--server', 'leaky', '--state', places.state],
      command: [process.execPath, serverFile, word],
      env: { ...places.env, [`${keyVariable}_REF`]: wanted },
      evidence,
    });
    // It may have ended before it reads what it is asked.
    const answer = await greedy.ask('initialize').catch(() => null);
    const code = await greedy.close();
    taken(`a refusal of ${what}`, answer?.result === undefined && code !== 0 && code !== null);
  }
  const listed = await rotate(['allow', '--list', '--json']);
  taken('refusals are listed', listed.out.includes('greedy'));
}

/** The next key, under the running server. */
async function replaced(scene: Scene, leaky: Wrapped): Promise<void> {
  const { canaries, places, rotate, taken } = scene;
  const before = await generationOf(places, 'leaky');
  const next = canaries.make(`supplied for a wrapped server, after generation ${before}`);
  await rotate(['supply', 'leaky', '--wait', '20s', '--json'], { input: next });
  await until('the running server was replaced', async () =>
    instancesServe(places, 'leaky', before + 1),
  );
  await everythingAgain(leaky);
  taken(`a running server was replaced, generation ${before + 1}`, true);
}

async function everythingAgain(wrapped: Wrapped): Promise<void> {
  for (const tool of ['works', 'fails', 'throws']) await wrapped.call(tool);
}

/** The new process fails its canary, in its own words: the old one goes on serving. */
async function notReplaced(scene: Scene, refused: Wrapped): Promise<void> {
  const { canaries, places, rotate, taken } = scene;
  const next = canaries.make('supplied for a server that refuses, second');
  const supplied = rotate(['supply', 'refused', '--wait', '1s', '--json'], { input: next });
  await until('the new server is refused', async () => {
    const { out } = await rotate(['status', 'refused', '--json']);
    return out.includes('canary');
  });
  taken('a new server that is refused', isAnswered(await refused.call('works')));
  await rotate(['status', 'refused']);
  await rotate(['rollback', 'refused', '--reason', 'leak check', '--wait', '10s', '--json']);
  taken('back to the first', (await generationOf(places, 'refused')) === 3);
  await supplied;
}

/** A shim that finds no daemon starts one. */
async function onDemand(scene: Scene): Promise<void> {
  const { places, progress, taken } = scene;
  progress('leak: a daemon on demand');
  await using leaky = wrap(scene, 'leaky', [], 'leaky, with a daemon on demand');
  await everything(leaky);
  const reached = await reachControl(controlSocketPath(places.state));
  taken('a daemon on demand', reached.kind === 'connected');
  if (reached.kind !== 'connected') return;
  reached.client.close();
  const pid = ownerOf(places);
  process.kill(pid, 'SIGTERM');
  await until('the daemon on demand has ended', async () => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  });
  taken('a call after the daemon', isAnswered(await leaky.call('works')));
}

/** A file that the client's config names: the one place where the key may lie. */
function lookAtFile({ evidence, places, taken }: Scene): void {
  const file = keyFile(places);
  taken('the file of a server, mode 0600', (statSync(file).mode & 0o777) === 0o600);
  evidence.folder('destinations of the gate', places.out, {
    [path.basename(file)]: [
      'supplied for a wrapped server',
      ...[1, 2].map((one) => `supplied for a wrapped server, after generation ${one}`),
    ],
  });
}

function wrap(
  { evidence, places }: Scene,
  name: Name,
  options: readonly string[] = [],
  where = `${name} under wrap`,
): Wrapped {
  return startWrapped({
    where,
    options: ['--server', name, '--state', places.state, ...options],
    command: commandOf(name),
    env: { ...places.env, [`${keyVariable}_REF`]: reference(name) },
    evidence,
  });
}

function commandOf(name: Name): readonly string[] {
  return [process.execPath, serverFile, name];
}

function reference(name: Name): string {
  return `local://gate/${name}#value`;
}

function keyFile({ out }: Places): string {
  return path.join(out, 'key-of-a-server');
}

function isAnswered(answer: { readonly result?: object }): boolean {
  return answer.result !== undefined;
}

function writePolicies({ policies }: Places): void {
  const secret = (name: Name, gate: object, more: object = {}) => ({
    provider: { use: 'operator', instructions: 'Make one.' },
    backend: `local://gate/${name}`,
    schedule: 'manual',
    grace: '0s',
    consumers: [
      { gate: { server: name, command: commandOf(name), warm: '0s', idle: '1h', ...gate } },
    ],
    ...more,
  });
  const check = { server: 'leaky', tool: 'works', env: { [keyVariable]: '${value}' } };
  const secrets = {
    leaky: secret('leaky', { canary: { tool: 'works' } }, { verify: [{ mcp: check }] }),
    refused: secret('refused', { canary: { tool: 'fails' } }),
    plain: secret('plain', { redact: false }),
    'uses-admin': {
      provider: { use: 'exec', admin: 'local://gate/admin', command: ['./x'], crashClass: 'token' },
      backend: 'local://gate/made',
      schedule: 'manual',
    },
  };
  mkdirSync(policies, { mode: 0o700 });
  writeFileSync(path.join(policies, 'gate.yaml'), JSON.stringify({ secrets }), { mode: 0o600 });
}

const all = { names: [], tags: [], providers: [], consumers: [], all: true };

async function asking<T>(places: Places, question: (service: Machine) => Promise<T>): Promise<T> {
  const reached = await reachControl(controlSocketPath(places.state));
  if (reached.kind !== 'connected') throw new Error(`The daemon is ${reached.kind}.`);
  try {
    return await question(reached.client.service);
  } finally {
    reached.client.close();
  }
}

async function generationOf(places: Places, name: Name): Promise<number> {
  return asking(places, async (service) => {
    const status = await service.status({ ...all, all: false, names: [name] });
    return status.secrets[0]?.generation ?? 0;
  });
}

async function instancesServe(places: Places, name: Name, generation: number): Promise<boolean> {
  return asking(places, async (service) => {
    const status = await service.status({ ...all, all: false, names: [name] });
    const instances = status.secrets[0]?.instances ?? [];
    return instances.length > 0 && instances.every((one) => one.generation === generation);
  });
}
