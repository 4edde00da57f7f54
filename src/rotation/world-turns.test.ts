import { describe, expect, it } from 'vitest';
import { policyOf } from '../../test/support/world/policy.ts';
import { byName, everyone, World } from '../../test/support/world/world.ts';
import { RotatedError } from '../errors.ts';
import { createScheduler } from '../schedule/due.ts';
import { Secret } from '../secret/secret.ts';
import type { Verifier } from '../verify/verifier.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const every = (everyMs: number) => ({ trigger: { kind: 'every', everyMs } as const });
const soon = () => AbortSignal.timeout(5_000);

describe('clocks', () => {
  it('a wall clock set forward ends no grace early', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', graceMs: dayMs }));
    await world.bootstrap('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    world.clock.setWall(world.clock.now() + 365 * dayMs);
    world.clock.pass(hourMs);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('adopted');
    await world.untilPhase('a', 'retired', { stepMs: hourMs });
  });

  it('a wall clock set back a year fires nothing twice, and status warns', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', graceMs: 1_000, schedule: every(dayMs) }));
    await world.until(async () => (await world.served('a')) !== null);
    await world.until(async () => (await world.served('a'))?.generation === 3, { stepMs: hourMs });
    world.clock.setWall(world.clock.now() - 365 * dayMs);
    world.clock.pass(hourMs);
    await world.tick();
    expect((await world.served('a'))?.generation).toBe(3);
    expect((await world.machine.status({ ...byName(), all: true })).warnings.join()).toContain(
      'behind what the journal has seen',
    );
    await world.until(async () => (await world.served('a'))?.generation === 4, {
      stepMs: hourMs,
      stepsMax: 60,
    });
  });

  it('a failed run is tried again after its instant, never at it, by an owner that starts on a clock set back', async () => {
    const due = createScheduler();
    const world = new World({
      nextDue: (policy, context) => due.nextDue(policy.schedule, context, policy.name),
      mayBegin: (policy, now) => due.mayBegin(policy.schedule, now),
    });
    const trigger = { kind: 'cron', expression: '30 2 * * *' } as const;
    await world.start(policyOf({ name: 'a', graceMs: 1_000, schedule: { trigger } }));
    await world.until(async () => (await world.served('a')) !== null);
    await world.until(async () => (await world.newest('a')).phase === 'retired');
    world.clock.setWall(world.clock.now() - 400 * dayMs);
    const judge = (verify: Verifier['verify']) =>
      world.verifiersOf.set('a', [{ id: 'exec:./check', verify }]);
    judge(async () => Promise.reject(new RotatedError('unavailable', 'Not now.')));
    await world.until(async () => (await world.newest('a')).phase === 'staged', {
      stepMs: hourMs / 2,
    });
    const firedAt = (await plannedAt(world, 'a')).at(-1) as number;
    // The next owner's schedules go on from the newest journalled instant, which lies before the one that fired.
    await world.restart();
    judge(async () => ({ ok: false, kind: 'rejected', reason: 'no' }));
    await world.untilPhase('a', 'abandoned');
    world.verifiersOf.delete('a');
    await world.until(async () => (await world.served('a'))?.generation === 2, {
      stepMs: hourMs / 2,
    });
    expect((await plannedAt(world, 'a')).at(-1)).toBeGreaterThan(firedAt);
  });

  it('a month switched off coalesces the missed runs into one, and the time does not count for a grace', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', graceMs: hourMs, schedule: every(dayMs) }));
    await world.until(async () => (await world.served('a')) !== null);
    await world.until(async () => (await world.served('a'))?.generation === 2, { stepMs: hourMs });
    await world.untilPhase('a', 'adopted');
    world.kill();
    world.clock.reboot(30 * dayMs);
    await world.start();
    await world.tick();
    expect((await world.newest('a')).phase).toBe('adopted');
    expect(world.live('a')).toHaveLength(2);
    await world.until(async () => (await world.newest('a')).phase === 'retired', {
      stepMs: hourMs / 4,
    });
    await world.until(async () => (await world.served('a'))?.generation === 3, { stepMs: hourMs });
    world.clock.pass(hourMs * 2);
    await world.tick();
    expect((await world.served('a'))?.generation).toBe(3);
  });
});

describe('missed runs', () => {
  it('of a cron schedule are made good by one rotation', async () => {
    const due = createScheduler();
    const world = new World({
      nextDue: (policy, context) => due.nextDue(policy.schedule, context, policy.name),
      mayBegin: (policy, now) => due.mayBegin(policy.schedule, now),
    });
    const trigger = { kind: 'cron', expression: '0 3 * * *' } as const;
    await world.start(policyOf({ name: 'a', graceMs: 1_000, schedule: { trigger } }));
    await world.until(async () => (await world.served('a')) !== null);
    world.kill();
    world.clock.reboot(30 * dayMs);
    await world.start();
    await world.until(async () => (await world.served('a'))?.generation === 2, { stepMs: 60_000 });
    for (let hour = 0; hour < 12; hour++) {
      world.clock.pass(hourMs);
      await world.tick();
    }
    expect((await world.served('a'))?.generation).toBe(2);
  });
});

describe('the backend lost', () => {
  it('is never taken for a first time: the secret pauses, and restore writes the sealed copy back', async () => {
    const world = new World();
    const policy = policyOf({ name: 'a' });
    await world.start(policy);
    await world.bootstrap('a');
    const before = await world.served('a');
    world.policies.set('a', { ...policy, backend: { ...policy.backend, item: 'test/empty' } });
    await world.apply();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'abandoned');
    const [status] = (await world.machine.status(byName('a'))).secrets;
    expect(status).toMatchObject({ lost: true });
    expect(status?.paused?.reason).toContain('rotate restore a');
    expect(world.keys('a')).toHaveLength(1);
    expect((await world.machine.restore('a', everyone)).outcome).toBe('done');
    expect((await world.served('a'))?.value).toBe(before?.value);
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.live('a')).toHaveLength(1);
  });

  it('cannot be restored where the policy keeps no escrow', async () => {
    const world = new World();
    const policy = policyOf({ name: 'a', escrow: false });
    await world.start(policy);
    await world.bootstrap('a');
    world.policies.set('a', { ...policy, backend: { ...policy.backend, item: 'test/empty' } });
    await world.apply();
    expect(await world.machine.restore('a', everyone)).toMatchObject({
      outcome: 'refused',
      code: 'escrow-missing',
    });
  });
});

describe('the journal lost', () => {
  it('generation and issuer id stand with the item: the next rotation goes on from there and ends the right key', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', item: 'shared' }));
    const answer = world.issuer.handle({
      principal: 'a',
      operation: 'mint',
      adminKey: null,
      mint: { name: 'rotated-a-lost-1' },
    });
    const { ref, value } = (answer as { body: { ref: string; value: string } }).body;
    const note = { secret: 'a', generation: 7, ref, rotation: 'lost', fields: ['key'] };
    const write = { txn: 'lost-0', expectCurrent: null };
    const pending = await world.backend.stage(
      'shared',
      { key: new Secret(value) },
      [note],
      write,
      soon(),
    );
    await world.backend.promote('shared', { ...write, pending }, soon());
    // Somebody else's key at the same issuer.
    world.issuer.handle({
      principal: 'a',
      operation: 'mint',
      adminKey: null,
      mint: { name: 'a human' },
    });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect((await world.served('a'))?.generation).toBe(8);
    expect(world.keys('a').find((key) => key.ref === ref)?.live).toBe(false);
    expect(world.keys('a').find((key) => key.name === 'a human')?.live).toBe(true);
  });

  it('a pending version that is not ours parks the rotation', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', item: 'shared' }));
    const note = { secret: 'a', generation: 7, ref: null, rotation: 'lost', fields: ['key'] };
    await world.backend.stage(
      'shared',
      { key: new Secret('x') },
      [note],
      { txn: 'lost-0', expectCurrent: null },
      soon(),
    );
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null);
    expect((await world.newest('a')).parked?.code).toBe('pending-foreign');
    expect(world.keys('a')).toHaveLength(0);
  });
});

describe('policies', () => {
  it('an edit applies to the next rotation; one of the backend is refused while a rotation is active', async () => {
    const world = new World();
    const policy = policyOf({ name: 'a', graceMs: hourMs });
    await world.start(policy);
    await world.bootstrap('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    world.policies.set('a', { ...policy, graceMs: 1_000 });
    await world.apply();
    world.clock.pass(10_000);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('adopted');
    world.policies.set('a', { ...policy, backend: { ...policy.backend, item: 'elsewhere' } });
    const warnings = await world.apply();
    expect(warnings.join()).toContain('changes its backend while rotation');
    expect((await world.machine.status(byName('a'))).secrets[0]?.backend).toBe('local://test/a');
    await world.untilPhase('a', 'retired', { stepMs: hourMs / 4 });
    await world.tick();
    expect((await world.machine.status(byName('a'))).secrets[0]?.backend).toBe('local://elsewhere');
  });

  it('a removed policy lets its rotation finish, then stops', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', graceMs: hourMs, schedule: every(dayMs) }));
    await world.until(async () => (await world.served('a')) !== null);
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    world.policies.delete('a');
    await world.apply();
    await world.untilPhase('a', 'retired', { stepMs: hourMs / 4 });
    world.clock.pass(10 * dayMs);
    await world.tick();
    expect(await world.machine.history('a', 10)).toHaveLength(2);
  });
});

describe('one at a time', () => {
  it('a second rotation of a secret joins the first', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', graceMs: dayMs }));
    await world.bootstrap('a');
    const [first] = await world.machine.run(byName('a'), everyone);
    const [second] = await world.machine.run(byName('a'), everyone);
    expect(second).toMatchObject({ outcome: 'joined', rotation: first?.rotation });
  });

  it('two secrets that are fields of one item never write it at once, and a roll back keeps the neighbour at its newest', async () => {
    const world = new World();
    const a = policyOf({ name: 'a', item: 'shared', fields: { a_key: 'value' }, graceMs: hourMs });
    const b = policyOf({ name: 'b', item: 'shared', fields: { b_key: 'value' }, graceMs: hourMs });
    await world.start(a, b);
    await world.machine.run({ ...byName(), all: true }, everyone);
    await world.until(
      async () =>
        (await world.newest('a')).phase === 'retired' &&
        (await world.newest('b')).phase === 'retired',
      { stepMs: 1_000 },
    );
    const firstA = await world.served('a');
    await world.machine.run({ ...byName(), all: true }, everyone);
    await world.until(
      async () =>
        (await world.newest('a')).phase === 'adopted' &&
        (await world.newest('b')).phase === 'adopted',
      { stepMs: 1_000 },
    );
    const secondB = await world.served('b');
    await world.machine.rollback('a', everyone);
    await world.untilPhase('a', 'rolled-back');
    expect((await world.served('a'))?.value).toBe(firstA?.value);
    expect((await world.served('b'))?.value).toBe(secondB?.value);
  });

  it.each(['before:stage', 'after:stage', 'before:promote'])(
    'a neighbour that writes the item by hand %s keeps its newest value',
    async (where) => {
      const world = new World();
      await world.start(policyOf({ name: 'a', item: 'shared', fields: { a_key: 'value' } }));
      await world.bootstrap('a');
      const own = { secret: 'by-hand', generation: 1, ref: null, rotation: 'hand', fields: ['n'] };
      let writes = 0;
      world.at = async (point) => {
        if (point !== where || writes > 0) return;
        writes += 1;
        const { version } = await world.backend.read('shared', 'current', soon());
        const write = { txn: `hand-${writes}`, expectCurrent: version };
        await world.backend.rollback('shared', { n: new Secret('newest') }, [own], write, soon());
      };
      await world.machine.run(byName('a'), everyone);
      await world.untilPhase('a', 'retired', { stepMs: 5_000 });
      const item = await world.backend.read('shared', 'current', soon());
      expect(writes).toBe(1);
      expect(item.fields['n']?.reveal()).toBe('newest');
      expect((await world.served('a'))?.generation).toBe(2);
      expect(world.live('a')).toHaveLength(1);
    },
  );

  it('a process that was stopped past its lease changes nothing when it goes on', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a' }));
    await world.bootstrap('a');
    const { promise: asleep, resolve: fallAsleep } = Promise.withResolvers<void>();
    const { promise: awake, resolve: wakeUp } = Promise.withResolvers<void>();
    let isFirst = true;
    world.at = async (point) => {
      if (point !== 'before:mint' || !isFirst) return;
      isFirst = false;
      fallAsleep();
      await awake;
    };
    await world.machine.run(byName('a'), everyone);
    const sleeper = world.tick().then(
      () => 'finished',
      (error: { code?: string }) => error.code,
    );
    await asleep;
    await world.start();
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    const record = world.events('a').filter((kind) => kind === 'mint').length;
    wakeUp();
    expect(await sleeper).toBe('fence-lost');
    expect(world.events('a').filter((kind) => kind === 'mint')).toHaveLength(record);
    expect(world.live('a')).toHaveLength(1);
  });
});

describe('a group', () => {
  const group = (name: string, more: object = {}) =>
    policyOf({
      name,
      group: 'pair',
      item: 'pair',
      fields: { [`${name}_key`]: 'value' },
      graceMs: 1_000,
      ...more,
    });

  it('is staged, verified and flipped once, in one reload', async () => {
    const world = new World();
    const app = world.consumer('app', 'user', 'a', 'b');
    app.add('one');
    await world.start(group('a'), group('b'));
    await world.machine.run(byName('a'), everyone);
    const done = await world.untilPhase('b', 'retired', { stepMs: 1_000 });
    expect(done.secrets).toEqual(['a', 'b']);
    app.reloads.length = 0;
    await world.machine.run(byName('b'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect(app.reloads.map((changes) => changes.map((change) => change.secret))).toEqual([
      ['a', 'b'],
    ]);
    expect(world.live('a')).toHaveLength(1);
    expect(world.live('b')).toHaveLength(1);
  });

  it('whose second mint fails is abandoned whole: the first member keeps its old key', async () => {
    const world = new World();
    await world.start(group('a'), group('b', { failure: { attempts: 2, pauseAfter: 9 } }));
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('b', 'retired', { stepMs: 1_000 });
    const before = await world.served('a');
    world.configure('b', {
      faults: [{ operation: 'mint', nth: 2, kind: 'error', status: 503, times: 50 }],
    });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'abandoned', { stepMs: 1_000 });
    await world.until(
      async () => (await world.debts('a')).length === 0 && (await world.debts('b')).length === 0,
      { stepMs: 1_000 },
    );
    expect((await world.served('a'))?.value).toBe(before?.value);
    expect(world.live('a').map((key) => key.ref)).toEqual([before?.key?.ref]);
    expect(world.live('b')).toHaveLength(1);
  });
});

describe('the schedule', () => {
  it('makes a secret that the backend does not hold yet, and leaves one that it holds to its next due instant', async () => {
    const world = new World();
    await world.start(
      policyOf({ name: 'a', item: 'held', schedule: every(dayMs) }),
      policyOf({ name: 'b', schedule: every(dayMs) }),
    );
    const note = { secret: 'x', generation: 0, ref: null, rotation: 'import', fields: ['key'] };
    const write = { txn: 'import', expectCurrent: null };
    const pending = await world.backend.stage(
      'held',
      { key: new Secret('by hand') },
      [note],
      write,
      soon(),
    );
    await world.backend.promote('held', { ...write, pending }, soon());
    await world.until(async () => (await world.served('b'))?.generation === 1);
    expect(await world.machine.history('a', 1)).toEqual([]);
    await world.until(async () => (await world.served('a'))?.generation === 1, { stepMs: hourMs });
  });
});

/** The due instants that rotations of the secret were begun for, oldest first. */
async function plannedAt(world: World, secret: string): Promise<readonly number[]> {
  return (await world.journal.auditLines(1, 10_000))
    .map(
      ({ line }) =>
        JSON.parse(line) as { action: string; secret: string; detail: { dueAt?: number | null } },
    )
    .filter((event) => event.secret === secret && event.action === 'rotation.planned')
    .flatMap((event) => event.detail.dueAt ?? []);
}
