/** One simulated life: commands drawn at random over a seeded world, interleavings by fast-check's scheduler. */
import fc from 'fast-check';
import type { Policy } from '../../src/policy/policy.ts';
import { createScheduler } from '../../src/schedule/due.ts';
import type { CrashClass } from '../../src/provider/provider.ts';
import type { Fault } from '../support/issuer/settings.ts';
import { policyOf } from '../support/world/policy.ts';
import { byName, everyone, World } from '../support/world/world.ts';
import {
  alwaysHolds,
  nothingForgotten,
  recordHolds,
  type ServedValues,
  type Violation,
} from './invariants.ts';

const secondMs = 1_000;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const names = ['a', 'b', 'c'] as const;
type Name = (typeof names)[number];

export type Step =
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'set-clock'; readonly byMs: number }
  | { readonly kind: 'reboot'; readonly downMs: number }
  | { readonly kind: 'kill'; readonly afterPoints: number }
  | {
      readonly kind:
        | 'run'
        | 'rollback'
        | 'abandon'
        | 'pause'
        | 'resume'
        | 'confirm'
        | 'remove'
        | 'add';
      readonly name: Name;
    }
  | { readonly kind: 'now'; readonly name: Name; readonly mode: 'continuity' | 'contain' }
  | {
      readonly kind: 'edit';
      readonly name: Name;
      readonly graceMs: number;
      readonly everyMs: number;
    }
  | {
      readonly kind: 'fault';
      readonly name: Name;
      readonly fault:
        | 'lost-mint'
        | 'late-mint'
        | 'no-mint'
        | 'no-revoke'
        | 'lying-revoke'
        | 'slow-key';
    }
  | {
      readonly kind: 'consumer';
      readonly name: Name;
      readonly what: 'stubborn' | 'well' | 'down' | 'missing';
    };

export interface Tally {
  commands: number;
  clockJumps: number;
  readonly violations: Violation[];
}

const name = fc.constantFrom(...names);
const graceMs = fc.constantFrom(0, 10 * secondMs, hourMs, dayMs, 20 * dayMs);

/** Weighted so that time passes between most commands, and every fifth command hurts. */
export const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('pass' as const),
        ms: fc.constantFrom(secondMs, 30 * secondMs, hourMs, 6 * hourMs, dayMs, 21 * dayMs),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('set-clock' as const),
        byMs: fc.constantFrom(-400 * dayMs, -dayMs, -hourMs, hourMs, dayMs, 400 * dayMs),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('reboot' as const),
        downMs: fc.constantFrom(secondMs, hourMs, 30 * dayMs),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('kill' as const),
        afterPoints: fc.integer({ min: 1, max: 30 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          'run' as const,
          'rollback' as const,
          'abandon' as const,
          'pause' as const,
          'resume' as const,
          'confirm' as const,
          'remove' as const,
          'add' as const,
        ),
        name,
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('run' as const), name }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('now' as const),
        name,
        mode: fc.constantFrom('continuity' as const, 'contain' as const),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('edit' as const),
        name,
        graceMs,
        everyMs: fc.constantFrom(hourMs, dayMs, 30 * dayMs),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('fault' as const),
        name,
        fault: fc.constantFrom(
          'lost-mint' as const,
          'late-mint' as const,
          'no-mint' as const,
          'no-revoke' as const,
          'lying-revoke' as const,
          'slow-key' as const,
        ),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('consumer' as const),
        name,
        what: fc.constantFrom(
          'stubborn' as const,
          'well' as const,
          'down' as const,
          'missing' as const,
        ),
      }),
    },
  ),
  { minLength: 5, maxLength: 40 },
);

const classes: Record<Name, CrashClass> = { a: 'listable', b: 'token', c: 'chosen' };

/** a: by interval. b: by cron in a zone with DST and a window. c: every night, in the hour that DST repeats or leaves out. */
function policies(): Policy[] {
  return [
    policyOf({
      name: 'a',
      graceMs: hourMs,
      schedule: { trigger: { kind: 'every', everyMs: dayMs } },
      adoption: { timeoutMs: hourMs, then: 'wait' },
    }),
    policyOf({
      name: 'b',
      graceMs: 10 * secondMs,
      options: { crashClass: 'token' },
      schedule: {
        trigger: { kind: 'cron', expression: '0 */6 * * *' },
        timezone: 'America/New_York',
        window: { days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '22:00', to: '07:00' },
      },
    }),
    policyOf({
      name: 'c',
      graceMs: 6 * hourMs,
      options: { crashClass: 'chosen' },
      schedule: { trigger: { kind: 'cron', expression: '30 2 * * *' }, timezone: 'Europe/Berlin' },
      adoption: { timeoutMs: hourMs, then: 'rollback' },
      // Longer than the adoption may take: its way back must not be taken to a leaked key.
      emergency: { mode: 'continuity', deadlineMs: 6 * hourMs },
    }),
  ];
}

export async function live(
  script: readonly Step[],
  scheduler: fc.Scheduler,
  seed: number,
  tally: Tally,
): Promise<readonly Violation[]> {
  const broken: Violation[] = [];
  const due = createScheduler();
  // Two days before Europe leaves summer time: the nights that count come early in most lives.
  const startAt = Date.UTC(2026, 9, 23, 12);
  const world = new World({
    seed,
    startAt,
    nextDue: (policy, context) => due.nextDue(policy.schedule, context, policy.name),
    mayBegin: (policy, now) => due.mayBegin(policy.schedule, now),
  });
  const leaked = new Set<string>();
  const generations = new Map<string, number>();
  const served: ServedValues = new Map();
  for (const one of names) {
    world.configure(one, { crashClass: classes[one] });
    world.consumer(`app-${one}`, 'user', one).add('one');
  }
  const original = new Map(policies().map((policy) => [policy.name, policy]));
  const note = async (point: string) => {
    for (const invariant of await alwaysHolds(world, names, leaked, generations, served))
      broken.push({ point, invariant });
  };
  const permute = (point: string) => scheduler.schedule(Promise.resolve(), point);
  await world.start(...original.values());
  world.at = permute;
  let died = false;

  let onDeath: () => void = () => {};
  /** A killed process never comes back from the point it died at: what waits for it is left behind. */
  const unlessKilled = async (work: Promise<unknown>) => {
    const dead = Promise.withResolvers<void>();
    onDeath = dead.resolve;
    const going = work.catch((error: unknown) => {
      if (!died) throw error;
    });
    await scheduler.waitFor(Promise.race([going, dead.promise]));
  };
  const tick = () => unlessKilled(world.tick());

  const revive = async () => {
    died = false;
    world.at = permute;
    await world.restart();
    world.at = permute;
  };

  const pass = async (ms: number) => {
    const slices = 6;
    for (let slice = 0; slice < slices; slice++) {
      await tick();
      if (died) await revive();
      world.clock.pass(ms / slices);
    }
    await tick();
    if (died) await revive();
  };

  async function perform(step: Step): Promise<void> {
    const { machine } = world;
    switch (step.kind) {
      case 'pass':
        return pass(step.ms);
      case 'set-clock':
        tally.clockJumps += 1;
        return world.clock.setWall(world.clock.now() + step.byMs);
      case 'reboot':
        world.kill();
        world.clock.reboot(step.downMs);
        await world.start();
        return;
      case 'kill': {
        let left = step.afterPoints;
        world.at = async (point) => {
          left -= 1;
          if (left > 0) return permute(point);
          died = true;
          onDeath();
          return new Promise(() => {});
        };
        return;
      }
      case 'now':
        leaked.add(step.name);
        await unlessKilled(
          machine.now(byName(step.name), step.mode, everyone).catch(ignoreUnknown),
        );
        return;
      case 'run':
        await unlessKilled(machine.run(byName(step.name), everyone).catch(ignoreUnknown));
        return;
      case 'confirm':
        // A person vouches, truly or not: from here on an instance that did not follow is theirs to answer for.
        leaked.add(step.name);
        await unlessKilled(machine.confirm(step.name, null, everyone));
        return;
      case 'rollback':
      case 'abandon':
      case 'pause':
      case 'resume':
        await unlessKilled(machine[step.kind](step.name, everyone));
        return;
      case 'remove':
        world.policies.delete(step.name);
        await world.apply();
        return;
      case 'add':
        world.policies.set(
          step.name,
          world.policies.get(step.name) ?? (original.get(step.name) as Policy),
        );
        await world.apply();
        return;
      case 'edit': {
        const policy = world.policies.get(step.name);
        if (policy === undefined) return;
        const schedule = {
          ...policy.schedule,
          trigger: { kind: 'every', everyMs: step.everyMs } as const,
        };
        world.policies.set(step.name, { ...policy, graceMs: step.graceMs, schedule });
        await world.apply();
        return;
      }
      case 'fault':
        return world.configure(step.name, faultSettings(world, step.name, step.fault));
      case 'consumer':
        return upset(world, step.name, step.what);
      default:
        return step satisfies never;
    }
  }

  for (const step of script) {
    tally.commands += 1;
    if (died) await revive();
    await perform(step);
    if (died) await revive();
    await note(`${step.kind} ${JSON.stringify(step)}`);
    for (const one of leaked) if (await isOver(world, one)) leaked.delete(one);
  }
  await settle();
  for (const invariant of [
    ...(await nothingForgotten(world, names)),
    ...(await recordHolds(world, names)),
  ])
    broken.push({ point: 'end', invariant });
  return broken;

  /** Everything heals, people say what only they can say, and a long time passes. */
  async function settle(): Promise<void> {
    world.at = null;
    if (died) await world.restart();
    for (const one of names) {
      world.configure(one, { faults: [], lag: { uses: 0, lists: 0, ms: 0 } });
      upset(world, one, 'well');
      world.policies.set(one, world.policies.get(one) ?? (original.get(one) as Policy));
    }
    await world.apply();
    for (let round = 0; round < 30; round++) {
      await world.tick();
      for (const one of names) await world.machine.confirm(one, null, everyone);
      world.clock.pass(dayMs);
    }
    for (let round = 0; round < 60; round++) {
      await world.tick();
      world.clock.pass(30 * secondMs);
    }
    await world.tick();
  }
}

/** Refused: its policy is removed at the moment. */
function ignoreUnknown(error: { code?: string }): void {
  if (error.code !== 'policy-unknown') throw error;
}

async function isOver(world: World, secret: string): Promise<boolean> {
  const rotations = (await world.journal.history(secret, 1)) as unknown as readonly Rotation[];
  return (
    rotations[0]?.active !== true &&
    (await world.served(secret))?.key?.live === true &&
    instancesLive(world, secret)
  );
}

function instancesLive(world: World, secret: string): boolean {
  const instances = (world.consumersOf.get(secret) ?? []).flatMap((consumer) => [
    ...consumer.instances.values(),
  ]);
  return instances.every(
    (one) => one.value === null || world.issuer.probe(secret, one.value)?.live === true,
  );
}

type Rotation = { readonly active: boolean };

function faultSettings(
  world: World,
  principal: Name,
  fault: Extract<Step, { kind: 'fault' }>['fault'],
): { faults?: Fault[]; lag?: { uses: number; lists: number; ms: number } } {
  const count = (kind: string) =>
    world.events(principal).filter((event) => event.startsWith(kind)).length;
  const nth = { mint: count('mint') + count('fault'), revoke: count('revoke') + count('fault') };
  const wide = { times: 200 };
  switch (fault) {
    case 'lost-mint':
      return { faults: [{ operation: 'mint', kind: 'lost', nth: nth.mint, times: 2 }] };
    case 'late-mint':
      return { faults: [{ operation: 'mint', kind: 'late', ms: 3_000, nth: nth.mint, times: 1 }] };
    case 'no-mint':
      return { faults: [{ operation: 'mint', kind: 'error', status: 503, nth: 1, ...wide }] };
    case 'no-revoke':
      return { faults: [{ operation: 'revoke', kind: 'error', status: 503, nth: 1, ...wide }] };
    case 'lying-revoke':
      return {
        faults: [{ operation: 'revoke', kind: 'lie', calls: 2, nth: nth.revoke, times: 1 }],
      };
    case 'slow-key':
      return { lag: { uses: 2, lists: 1, ms: 0 } };
    default:
      return fault satisfies never;
  }
}

function upset(
  world: World,
  secret: Name,
  what: Extract<Step, { kind: 'consumer' }>['what'],
): void {
  const consumer = world.consumersOf.get(secret)?.[0];
  if (consumer === undefined) return;
  const [instance] = consumer.instances.values();
  switch (what) {
    case 'stubborn':
      if (instance !== undefined) instance.stubborn = true;
      return;
    case 'down':
      consumer.down = true;
      return;
    case 'missing':
      if (instance !== undefined) instance.state = 'unreachable';
      return;
    case 'well':
      consumer.down = false;
      if (instance !== undefined) Object.assign(instance, { stubborn: false, state: 'serving' });
      return;
    default:
      what satisfies never;
  }
}
