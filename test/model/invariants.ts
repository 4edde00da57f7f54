/** What must hold at every instant, and what must hold once everything has been given the time to settle. */
import type { Rotation, RotationData, SecretState } from '../../src/rotation/model.ts';
import type { World } from '../support/world/world.ts';

export interface Violation {
  readonly point: string;
  readonly invariant: string;
}

/** Secrets whose present key was declared leaked: until a successor is adopted, its death is what was asked for. */
export type Leaked = ReadonlySet<string>;

/** By secret and generation: every value that the backend was seen to serve. */
export type ServedValues = Map<string, Map<number, string>>;

export async function alwaysHolds(
  world: World,
  names: readonly string[],
  leaked: Leaked,
  generations: Map<string, number>,
  served: ServedValues,
): Promise<string[]> {
  const broken: string[] = [];
  const active = (await world.journal.unfinished()) as unknown as readonly Rotation[];
  for (const name of names) {
    if (await isLeakedAgain(world, name, served)) broken.push(`a leaked key of ${name} is back`);
    const now = await world.served(name);
    if (active.filter((one) => one.secrets.includes(name)).length > 1)
      broken.push(`two rotations of ${name} at once`);
    if (now !== null && !leaked.has(name) && now.key?.live !== true)
      broken.push(`the backend's key of ${name} is dead`);
    const generation = now?.generation ?? 0;
    if (generation < (generations.get(name) ?? 0))
      broken.push(`the generation of ${name} went back`);
    generations.set(name, Math.max(generation, generations.get(name) ?? 0));
  }
  for (const consumer of world.consumers.values()) {
    for (const instance of consumer.instances.values()) {
      const principal = names.find((name) => world.consumersOf.get(name)?.includes(consumer));
      if (
        principal === undefined ||
        instance.value === null ||
        instance.state !== 'serving' ||
        leaked.has(principal)
      )
        continue;
      if (world.issuer.probe(principal, instance.value)?.live !== true)
        broken.push(`instance ${instance.id} of ${principal} serves a dead key`);
    }
  }
  return broken;
}

/** A value that was declared leaked is never served under a generation of its own afterwards: no way leads back to it. */
async function isLeakedAgain(world: World, name: string, seen: ServedValues): Promise<boolean> {
  const served = await world.served(name);
  if (served === null) return false;
  const values = seen.get(name) ?? new Map<number, string>();
  seen.set(name, values.set(served.generation, served.value));
  const row = (await world.journal.secret(name)) as unknown as SecretState | null;
  const leakedThrough = row?.data.leakedThrough ?? -1;
  return [...values].some(
    ([generation, value]) =>
      generation <= leakedThrough && served.generation > leakedThrough && value === served.value,
  );
}

/** A due instant is used once; no grace ends before its time; the audit chain is whole. */
export async function recordHolds(world: World, names: readonly string[]): Promise<string[]> {
  const broken: string[] = [];
  const fired = new Set<string>();
  for (const line of await world.journal.auditLines(1, 1_000_000)) {
    const event = JSON.parse(line.line) as {
      action: string;
      secret: string;
      detail: { dueAt?: number | null };
    };
    if (event.action !== 'rotation.planned' || event.detail.dueAt == null) continue;
    const key = `${event.secret} ${event.detail.dueAt}`;
    if (fired.has(key))
      broken.push(`the due instant ${event.detail.dueAt} of ${event.secret} fired twice`);
    fired.add(key);
  }
  for (const name of names) {
    for (const row of await world.journal.history(name, 1_000)) {
      const data = row.data as unknown as RotationData;
      const at = (phase: string) => data.phases.findLast((mark) => mark.phase === phase)?.uptimeMs;
      const [adopted, retiring] = [at('adopted'), at('retiring')];
      if (adopted === undefined || retiring === undefined || data.kind === 'emergency') continue;
      const hasOlds = data.members.some((member) => member.olds.length > 0);
      const graceMs = Math.max(...data.members.map((member) => member.policy.graceMs));
      if (hasOlds && graceMs - (retiring - adopted) > 1)
        broken.push(`the grace of ${row.id} ended after ${retiring - adopted} of ${graceMs} ms`);
    }
  }
  const audit = await world.machine.auditVerify();
  if (!audit.ok) broken.push(`the audit chain is broken: ${audit.problem}`);
  return broken;
}

/** Every live key is the one that is served, or something names it: a debt, a park, a rotation under way. */
export async function nothingForgotten(world: World, names: readonly string[]): Promise<string[]> {
  const broken: string[] = [];
  for (const name of names) {
    const served = await world.served(name);
    const debts = await world.journal.debts(name);
    const active = await world.journal.activeRotationOf(name);
    const unknown = world
      .live(name)
      .filter((key) => key.ref !== served?.key?.ref && key.name?.startsWith('rotated-') === true);
    const isNamed = debts.length > 0 || active !== null;
    if (unknown.length > 0 && !isNamed)
      broken.push(
        `${unknown.length} live key(s) of ${name} that nothing names: ${unknown.map((key) => key.name).join(', ')}`,
      );
  }
  return broken;
}

export class Broken extends Error {
  readonly violations: readonly Violation[];

  constructor(violations: readonly Violation[]) {
    super(violations.map((one) => `${one.point}: ${one.invariant}`).join('\n'));
    this.violations = violations;
  }
}
