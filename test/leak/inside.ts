/** The machine within this process: what an error, a log line or a debugger would show of it, and parts around it that throw values. */
import { writeFileSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { inspect } from 'node:util';
import type { Backend } from '../../src/backend/backend.ts';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { createLog } from '../../src/daemon/logs.ts';
import { asRotatedError, RotatedError } from '../../src/errors.ts';
import type { Fetch } from '../../src/http.ts';
import type { Ask } from '../../src/rotation/service.ts';
import type { Fields } from '../../src/secret/secret.ts';
import { fileKey } from '../../src/secret/key-sources.ts';
import { createRedactor } from '../../src/secret/redactor.ts';
import { openDeployment } from '../../src/wiring/deployment.ts';
import { takeOwnership } from '../../src/wiring/owner.ts';
import type { Evidence } from './evidence.ts';
import type { World } from './scenario.ts';
import { placesIn } from './stage.ts';

const ask: Ask = { actor: { id: 'leak', channel: 'command', proven: true }, reason: 'leak check' };
const everything = { names: [], tags: [], providers: [], consumers: [], all: true };
/** Retries wait some seconds; a rotation that has not ended then never will. */
const withinMs = 12_000;

export async function driveInside(world: World): Promise<void> {
  const { canaries, echoes, evidence, taken } = world;
  const places = placesIn(path.join(world.folder, 'inside'));
  writePolicies(places.policies, echoes.url);
  const lines: string[] = [];
  const redactor = createRedactor();
  const write = (line: string) => void lines.push(line);
  const log = await createLog({ level: 'debug', pretty: true, redactor, write });
  const thrown: unknown[] = [];
  const clock = systemClock();
  const random = systemRandom();
  await using deployment = await openDeployment({
    state: places.state,
    policies: places.policies,
    key: fileKey(places.key, { random, create: true }),
    log,
    clock,
    random,
    redactor,
    overrides: { fetch: throwing(thrown), wrapBackend: (backend) => talkative(backend, thrown) },
  });
  const line = readFileSync(places.key, 'utf8').trim();
  canaries.learn('the key', Buffer.from(line.slice(line.indexOf(':') + 1), 'base64'));
  const stop = new AbortController();
  const { journal, machine } = deployment;
  const owner = await takeOwnership({ journal, clock, log, what: 'leak', signal: stop.signal });
  machine.own(owner.fence);
  const mistakes = await deployment.usePolicies(ask);
  if (mistakes.length > 0) throw new Error(mistakes.join('\n'));
  const serving = machine.serve(stop.signal);
  try {
    const started = await machine.run(everything, ask);
    const rotations = started.flatMap(({ rotation }) => (rotation === null ? [] : [rotation]));
    for await (const progress of machine.watch(rotations, withinMs, AbortSignal.timeout(withinMs)))
      show(evidence, 'a progress', progress);
  } catch (error) {
    // The time is over: some rotations are meant to fail again and again.
    show(evidence, 'an error of the machine', error);
  }
  const fields: Fields[] = [];
  for (const { secret } of (await machine.status(everything)).secrets) {
    try {
      const read = await machine.read(secret, 'current', ask);
      fields.push(read.fields);
      for (const value of Object.values(read.fields))
        canaries.learn(`generated inside for ${secret}`, value.reveal());
      show(evidence, 'fields that were read', read);
    } catch (error) {
      show(evidence, 'an error of the machine', error);
    }
  }
  taken('values inside are known', fields.length > 0);
  taken('a backend and a fetch that throw values', thrown.length >= 4);
  for (const error of thrown) {
    const own = asRotatedError(error, 'unknown', 'secret');
    show(evidence, 'a foreign error once it is ours', own instanceof RotatedError ? own : null);
    log.error({ error, fields: fields[0], code: own.code }, 'what a careless line would log');
  }
  for (const one of [deployment, machine, deployment.ports, redactor, journal, owner])
    show(evidence, 'the parts of the machine', one);
  show(evidence, 'the policies', [...(await deployment.readPolicies()).policies]);
  show(evidence, 'the history', await machine.history(null, 1_000));
  show(evidence, 'the audit trail', await machine.audit(null, 0, 10_000));
  show(evidence, 'the status', await machine.status(everything));
  evidence.folder('the state inside', places.state);
  stop.abort();
  await serving;
  await owner.release();
  evidence.text('the pretty log inside', lines.join(''));
  taken('the log inside', lines.length > 5);
  for (const [at, value] of echoes.sent()) canaries.learn(`generated, then sent to ${at}`, value);
}

/** In every way that a value is commonly printed. */
function show(evidence: Evidence, where: string, what: unknown): void {
  evidence.text(
    `${where}, inspected`,
    inspect(what, { depth: 14, showHidden: true, getters: true }),
  );
  evidence.text(
    `${where}, as a text`,
    `${String(what)} ${what instanceof Error ? what.stack : ''}`,
  );
  let json = '';
  try {
    json = JSON.stringify(what) ?? '';
  } catch {
    // Goes in circles.
  }
  evidence.text(`${where}, as JSON`, json);
}

function carrying(text: string, own: object, name: string): Error {
  return Object.assign(new Error(text, { cause: new Error(text) }), own, { name });
}

/** Fails first, as libraries do that put the request into the error. */
function throwing(thrown: unknown[]): Fetch {
  let calls = 0;
  return (input, init) => {
    calls++;
    const headers = Object.fromEntries(new Headers(init?.headers));
    if (calls % 3 !== 1 || headers['authorization'] === undefined) return fetch(input, init);
    const value = headers['authorization'].replace('Bearer ', '');
    const error = carrying(`request with ${value} failed`, { config: { headers } }, value);
    thrown.push(error);
    throw error;
  };
}

/** Each write fails once, with the value in the message, the name and the members of the error. */
function talkative(backend: Backend, thrown: unknown[]): Backend {
  const failed = new Set<string>();
  const failOnce = (what: string, fields: Fields | null): void => {
    if (failed.has(what)) return;
    failed.add(what);
    const plain = Object.fromEntries(
      Object.entries(fields ?? {}).map(([name, value]) => [name, value.reveal()]),
    );
    const text = Object.values(plain).join(' ');
    const error = carrying(`${what} of ${text} failed`, { body: plain }, text || 'Error');
    thrown.push(error);
    throw error;
  };
  return {
    ...backend,
    stage: async (item, fields, ...rest) => {
      failOnce(`stage ${item}`, fields);
      return backend.stage(item, fields, ...rest);
    },
    promote: async (item, write, signal) => {
      const version = await backend.read(item, 'pending', signal).catch(() => null);
      if (!failed.has(`conflict ${item}`)) {
        failed.add(`conflict ${item}`);
        throw new RotatedError('conflict', 'Somebody else wrote this item.', { effect: 'none' });
      }
      failOnce(`promote ${item}`, version?.fields ?? null);
      return backend.promote(item, write, signal);
    },
    retirePrevious: async (item, version, signal) => {
      const before = await backend.read(item, 'previous', signal).catch(() => null);
      failOnce(`retire ${item}`, before?.fields ?? null);
      return backend.retirePrevious(item, version, signal);
    },
  };
}

function writePolicies(folder: string, echoes: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const secret = (name: string, more: object) => ({
    provider: { use: 'generated', kind: 'random' },
    backend: `local://inside/${name}`,
    schedule: 'manual',
    grace: '0s',
    failure: { attempts: 6, pauseAfter: 1 },
    ...more,
  });
  const http = (to: string) => ({
    url: `${echoes}/${to}`,
    headers: { Authorization: 'Bearer ${value}' },
    timeout: '2s',
  });
  const secrets = {
    plain: secret('plain', {}),
    fetched: secret('fetched', { verify: { http: { ...http('person'), expect: [200] } } }),
    refused: secret('refused', { verify: { http: http('inside-error') } }),
  };
  const text = JSON.stringify({ secrets });
  writeFileSync(path.join(folder, 'inside.yaml'), text, { mode: 0o600 });
}
