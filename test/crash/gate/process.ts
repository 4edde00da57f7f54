/** The instances behind the gate as a program: one process holds those of many cases, and outlives every daemon. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { issuerControl, type IssuerControl } from '../../support/issuer/server.ts';
import { hashOf } from '../../support/issuer/store.ts';
import type { Serving } from '../../support/world-consumer/app.ts';
import { type GateSettings, type RunningGates, startGates, type Told } from './control.ts';
import { type Instance, startInstance } from './instance.ts';

interface Group {
  readonly settings: GateSettings;
  instances: readonly Instance[];
  /** In a process of its own, which is the proof that it has ended. */
  leaver: RunningGates | null;
}

const groups = new Map<string, Group>();
const issuers = new Map<string, IssuerControl>();
/** What takes longer never comes. */
const settlesWithinMs = 20_000;

const server = createServer((request, response) => {
  serve(request).then(
    (body) => answer(response, 200, body),
    (error: unknown) => {
      process.stderr.write(`test gate: ${String(error)}\n`);
      answer(response, 500, {});
    },
  );
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
server.keepAliveTimeout = 0;
// Whoever started this ended without saying so: end too.
process.stdin.on('end', () => process.exit(0)).resume();

async function serve(request: IncomingMessage): Promise<object> {
  const { pathname } = new URL(request.url ?? '/', 'http://gate');
  const [, verb = '', name = ''] = pathname.split('/').map(decodeURIComponent);
  if (verb === 'configure') {
    const settings = await readJson<GateSettings>(request);
    groups.set(name, { settings, instances: [], leaver: null });
    return {};
  }
  const group = groups.get(name);
  if (group === undefined) throw new Error(`${verb} of ${name}: there is no such case`);
  switch (verb) {
    case 'open':
      await open(name, group);
      return {};
    case 'settle':
      await settle(name, group);
      return {
        told: [...group.instances.map(toldOf), ...((await group.leaver?.settle(name)) ?? [])],
      };
    case 'asked':
      await asked(name, group);
      return {};
    case 'silence':
      for (const one of group.instances) one.dropLine();
      return {};
    case 'serving':
      return {
        serving: [...(await serving(group)), ...((await group.leaver?.serving(name)) ?? [])],
      };
    case 'use': {
      const answers = await Promise.all(group.instances.map((one) => one.use()));
      return { errors: answers.filter((one) => one === 'error').length };
    }
    case 'ledger':
      return { ledgers: group.instances.map(({ ledger }) => ledger) };
    case 'forget':
      groups.delete(name);
      await Promise.all(group.instances.map((one) => one.leave()));
      await group.leaver?.[Symbol.asyncDispose]();
      return {};
    default:
      throw new Error(`what is ${verb}?`);
  }
}

/** Returns when no instance would change by itself any more. */
async function settle(name: string, group: Group): Promise<void> {
  const until = performance.now() + settlesWithinMs;
  // Twice in a row: what has just arrived is heard by then.
  for (let quiet = 0; quiet < 2; ) {
    await delay(1);
    const busy = group.instances.flatMap((one) => one.busyWith() ?? []);
    quiet = busy.length === 0 ? quiet + 1 : 0;
    if (performance.now() > until) throw new Error(`${name} does not settle: ${busy.join(', ')}`);
  }
}

/** Where one leaves, it is one of the number. */
async function open(name: string, group: Group): Promise<void> {
  if (group.instances.length > 0) return;
  const { settings } = group;
  const length = settings.instances - (settings.leaves ? 1 : 0);
  group.instances = Array.from({ length }, () => startInstance(settings));
  if (!settings.leaves) return;
  group.leaver = await startGates();
  await group.leaver.configure(name, { ...settings, instances: 1, leaves: false });
  await group.leaver.open(name);
}

async function asked(name: string, group: Group): Promise<void> {
  const { leaver } = group;
  group.leaver = null;
  await leaver?.forget(name);
  await leaver?.[Symbol.asyncDispose]();
  for (const one of group.instances) one.asked();
}

function toldOf({ id, isAway, status }: Instance): Told {
  return {
    instance: id,
    isAway,
    state: status?.state ?? null,
    generations: status?.generations ?? {},
  };
}

/** Every process of every instance: each that runs uses its key. */
async function serving({ settings, instances }: Group): Promise<readonly Serving[]> {
  const issuer = issuers.get(settings.issuer) ?? issuerControl(settings.issuer);
  issuers.set(settings.issuer, issuer);
  const running = instances.flatMap(({ id, processes }) =>
    processes().map(({ generation, value }) => ({ instance: id, generation, value })),
  );
  return Promise.all(
    running.map(async ({ instance, generation, value }) => {
      const key = await issuer.probe(settings.principal, value);
      return { instance, generation, hashes: [hashOf(value)], accepted: key?.accepted ?? false };
    }),
  );
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function readJson<T>(request: IncomingMessage): Promise<T> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString('utf8')) as T;
}
