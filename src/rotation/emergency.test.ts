import { describe, expect, it } from 'vitest';
import { policyOf } from '../../test/support/world/policy.ts';
import { byName, everyone, World } from '../../test/support/world/world.ts';
import type { Secret } from '../secret/secret.ts';

async function secretBox(value: string): Promise<Secret> {
  const box = await import('../secret/secret.ts');
  return new box.Secret(value);
}

async function rotatedOnce(parts: Parameters<typeof policyOf>[0]): Promise<World> {
  const world = new World();
  await world.start(policyOf(parts));
  const { crashClass } = (parts.options ?? {}) as { crashClass?: 'listable' };
  world.configure(parts.name, { crashClass: crashClass ?? 'listable' });
  await world.bootstrap(parts.name);
  return world;
}

const soon = () => AbortSignal.timeout(10_000);
const continuity = (world: World) => world.machine.now(byName('a'), 'continuity', everyone);
const contain = (world: World) => world.machine.now(byName('a'), 'contain', everyone);

/** The issuer's record, from the given length on, of what changed credentials. */
const changes = (world: World, from = 0) =>
  world
    .events('a')
    .slice(from)
    .filter((kind) => ['mint', 'disable', 'revoke'].includes(kind));

describe('--now, the present key leaked', () => {
  it('in continuity: the new key is in use before the old one dies, and no grace is waited for', async () => {
    const world = await rotatedOnce({ name: 'a', graceMs: 86_400_000 });
    const app = world.consumer('app', 'user', 'a');
    app.add('one');
    const from = world.events('a').length;
    const began = world.clock.now();
    await continuity(world);
    await world.untilPhase('a', 'retired');
    expect(changes(world, from)).toEqual(['mint', 'disable', 'revoke']);
    expect(world.clock.now() - began).toBeLessThan(5_000);
    expect(app.instances.get('one')?.value).toBe((await world.served('a'))?.value);
  });

  it('in continuity with a consumer that does not follow: revoked at the deadline all the same', async () => {
    const world = await rotatedOnce({
      name: 'a',
      emergency: { mode: 'continuity', deadlineMs: 60_000 },
    });
    world.consumer('app', 'user', 'a').add('one').stubborn = true;
    const began = world.clock.now();
    await continuity(world);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect(world.clock.now() - began).toBeGreaterThanOrEqual(60_000);
    expect(world.clock.now() - began).toBeLessThan(70_000);
    expect((await world.newest('a')).unconfirmedConsumers).not.toEqual([]);
  });

  it('in contain: the old key is disabled and revoked before there is a new one', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const from = world.events('a').length;
    await contain(world);
    await world.untilPhase('a', 'retired');
    expect(changes(world, from)).toEqual(['disable', 'revoke', 'mint']);
    expect(world.live('a')).toHaveLength(1);
    expect(await world.debts('a')).toEqual([]);
  });

  it('in contain: the leaked key is disabled even while a check before the mint fails', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', {
      faults: [{ operation: 'check', nth: 2, kind: 'error', status: 503, times: 3 }],
    });
    const leaked = await world.served('a');
    await contain(world);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('planned');
    expect(world.issuer.probe('a', leaked?.value ?? '')?.accepted).toBe(false);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('in contain where nothing can be disabled: deleted, and only after the checks before the mint passed', async () => {
    const world = await rotatedOnce({ name: 'a', options: { without: ['disable'] } });
    world.configure('a', {
      disable: false,
      faults: [{ operation: 'check', nth: 2, kind: 'error', status: 503 }],
    });
    const from = world.events('a').length;
    await contain(world);
    await world.untilPhase('a', 'retired');
    const record = world.events('a').slice(from);
    expect(changes(world, from)).toEqual(['revoke', 'mint']);
    expect(record.indexOf('revoke')).toBeGreaterThan(record.indexOf('fault-error'));
  });

  it('in contain is refused where there is no issuer to revoke at', async () => {
    const world = await rotatedOnce({ name: 'a', options: { strategy: 'self-generated' } });
    const [started] = await contain(world);
    expect(started).toMatchObject({ outcome: 'refused', code: 'contain-refused' });
    expect(started?.next).toContain('--mode continuity');
  });

  it.each(['continuity', 'contain'] as const)(
    'over a grace in progress ends it at once, and the successor replaces the leaked key: %s',
    async (mode) => {
      const world = await rotatedOnce({ name: 'a', graceMs: 86_400_000 });
      await world.machine.run(byName('a'), everyone);
      await world.untilPhase('a', 'adopted');
      expect(world.live('a')).toHaveLength(2);
      const leaked = await world.served('a');
      const from = world.events('a').length;
      await world.machine.now(byName('a'), mode, everyone);
      await world.untilPhase('a', 'retired');
      await world.until(async () => (await world.debts('a')).length === 0);
      const now = await world.served('a');
      expect(now?.generation).toBe(3);
      expect(world.live('a').map((key) => key.ref)).toEqual([now?.key?.ref]);
      expect(leaked?.key?.ref).not.toBe(now?.key?.ref);
      const [, before] = await world.machine.history('a', 2);
      expect(before?.phase).toBe('retired');
      const record = changes(world, from);
      // In contain both old keys are dead before there is a new one.
      if (mode === 'contain') expect(record.indexOf('mint')).toBe(record.length - 1);
      else expect(record.lastIndexOf('revoke')).toBeGreaterThan(record.indexOf('mint'));
    },
  );

  it('in contain while consumers still reload: the leaked key is dead before there is a new one, and nothing is left', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const slow = world.consumer('app', 'user', 'a').add('one');
    slow.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted');
    const leaked = await world.served('a');
    world.at = (point) => {
      if (point !== 'before:mint') return;
      expect(world.issuer.probe('a', leaked?.value ?? '')?.live).toBe(false);
    };
    await contain(world);
    slow.stubborn = false;
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 1_000 });
    expect(world.live('a').map((key) => key.ref)).toEqual([(await world.served('a'))?.key?.ref]);
    expect(slow.value).toBe((await world.served('a'))?.value);
  });

  it('while consumers still reload: both older keys live until the successor is adopted, then both die', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const slow = world.consumer('app', 'user', 'a').add('one');
    slow.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted');
    await world.until(() => world.clock.now() > 0);
    await continuity(world);
    await world.until(
      async () =>
        (await world.newest('a')).phase === 'promoted' &&
        (await world.newest('a')).kind === 'emergency',
    );
    expect(world.live('a')).toHaveLength(3);
    slow.stubborn = false;
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    await world.until(async () => (await world.debts('a')).length === 0);
    expect(world.live('a')).toHaveLength(1);
  });

  it.each(['minting', 'minted', 'staged', 'verified'])(
    'finds an unpromoted rotation at %s: that one becomes the emergency',
    async (phase) => {
      const world = await rotatedOnce({ name: 'a', graceMs: 86_400_000 });
      const stopped = Promise.withResolvers<void>();
      world.at = (point) =>
        point === `after:commit:${phase}` ? (stopped.resolve(), new Promise(() => {})) : undefined;
      await world.machine.run(byName('a'), everyone);
      void world.tick().catch(() => {});
      await stopped.promise;
      const { id } = await world.newest('a');
      await world.restart();
      const [started] = await continuity(world);
      expect(started).toMatchObject({ outcome: 'joined', rotation: id });
      await world.untilPhase('a', 'retired', { stepMs: 1_000 });
      await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 1_000 });
      expect(world.live('a')).toHaveLength(1);
    },
  );

  it('on a parked rotation: the park becomes the emergency, and contain ends the leaked key at once', async () => {
    const world = await rotatedOnce({ name: 'a', options: { crashClass: 'blind' } });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    const leaked = await world.served('a');
    const [started] = await contain(world);
    expect(started?.outcome).toBe('waits-for-person');
    await world.until(() => world.issuer.probe('a', leaked?.value ?? '')?.live === false);
    expect((await world.newest('a')).kind).toBe('emergency');
  });

  it('destroys old backend versions, and no roll back returns to a leaked key', async () => {
    const world = await rotatedOnce({ name: 'a' });
    await continuity(world);
    await world.untilPhase('a', 'promoted').catch(() => undefined);
    const refused = await world.machine.rollback('a', everyone);
    expect(refused.outcome).toBe('refused');
    await world.untilPhase('a', 'retired');
    expect(
      (await world.backend.describe('test/a', AbortSignal.timeout(5_000))).previous,
    ).toBeNull();
  });

  it('never rolls back to the leaked key, though the policy says rollback for an adoption that takes too long', async () => {
    const world = await rotatedOnce({
      name: 'a',
      adoption: { timeoutMs: 10_000, then: 'rollback' },
      emergency: { mode: 'continuity', deadlineMs: 60_000 },
    });
    const leaked = await world.served('a');
    world.consumer('app', 'user', 'a').add('one').stubborn = true;
    await continuity(world);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect((await world.newest('a')).phases.map((one) => one.phase)).not.toContain('rolling-back');
    expect(world.issuer.probe('a', leaked?.value ?? '')?.live).toBe(false);
  });

  it('that fails leaves its key declared leaked: no later rotation rolls back to it, asked or by itself', async () => {
    const world = await rotatedOnce({
      name: 'a',
      adoption: { timeoutMs: 10_000, then: 'rollback' },
    });
    world.configure('a', { lag: { uses: 1_000_000, lists: 0, ms: 0 } });
    await continuity(world);
    await world.untilPhase('a', 'abandoned', { stepMs: 1_000 });
    world.configure('a', { lag: { uses: 0, lists: 0, ms: 0 } });
    const slow = world.consumer('app', 'user', 'a').add('one');
    slow.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted', { stepMs: 1_000 });
    expect(await world.machine.rollback('a', everyone)).toMatchObject({
      outcome: 'refused',
      code: 'way-back-closed',
    });
    world.clock.pass(60_000);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('promoted');
    expect(world.notices.at(-1)?.event).toBe('adoption.timeout');
    slow.stubborn = false;
    await world.untilPhase('a', 'retired', { stepMs: 10_000 });
  });

  it('is not given up while the issuer is down: it goes on when the issuer is back', async () => {
    const world = await rotatedOnce({ name: 'a', failure: { attempts: 2, pauseAfter: 1 } });
    world.configure('a', {
      faults: [{ operation: 'mint', nth: 2, kind: 'error', status: 503, times: 20 }],
    });
    await continuity(world);
    await world.untilPhase('a', 'retired', { stepMs: 10_000 });
    expect((await world.newest('a')).kind).toBe('emergency');
  });
});

describe('an emergency', () => {
  it('does not wait for work that hangs at other issuers', async () => {
    const hung = ['h1', 'h2', 'h3'];
    const world = new World({
      alter: (ports) => ({ ...ports, parallel: { total: 2, perIssuer: 2 } }),
    });
    await world.start(policyOf({ name: 'a' }), ...hung.map((name) => policyOf({ name })));
    await world.bootstrap('a');
    let asleep = 0;
    const allAsleep = Promise.withResolvers<void>();
    world.at = (point) => {
      if (point !== 'before:mint' || asleep >= 2) return;
      asleep += 1;
      if (asleep === 2) allAsleep.resolve();
      return new Promise(() => {});
    };
    await world.machine.run(byName(...hung), everyone);
    void world.tick().catch(() => {});
    await allAsleep.promise;
    const [started] = await continuity(world);
    for await (const progress of world.machine.watch([started?.rotation ?? ''], 0, soon())) {
      if (progress.final !== null) expect(progress.phase).toBe('retired');
    }
    expect(world.live('a')).toHaveLength(1);
    expect((await world.served('a'))?.generation).toBe(2);
    world.kill();
  });
});

describe('roll back', () => {
  it('returns to the predecessor under a new generation while it lives, and ends the new key', async () => {
    const world = await rotatedOnce({ name: 'a', graceMs: 86_400_000 });
    const app = world.consumer('app', 'user', 'a');
    app.add('one');
    const before = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    expect((await world.machine.rollback('a', everyone)).outcome).toBe('started');
    await world.untilPhase('a', 'rolled-back');
    await world.until(async () => (await world.debts('a')).length === 0);
    const after = await world.served('a');
    expect(after).toMatchObject({ value: before?.value, generation: 3 });
    expect(app.instances.get('one')).toMatchObject({ value: before?.value, generation: 3 });
    expect(world.live('a').map((key) => key.ref)).toEqual([before?.key?.ref]);
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 60_000 });
    expect((await world.served('a'))?.generation).toBe(4);
    expect(world.live('a')).toHaveLength(1);
  });

  it('is refused once the old key is being retired', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const stopped = Promise.withResolvers<void>();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    world.at = (point) =>
      point === 'after:commit:retiring' ? (stopped.resolve(), new Promise(() => {})) : undefined;
    world.clock.pass(61_000);
    void world.tick().catch(() => {});
    await stopped.promise;
    await world.restart();
    expect(await world.machine.rollback('a', everyone)).toMatchObject({
      outcome: 'refused',
      code: 'way-back-closed',
    });
  });

  it('is refused where the predecessor is no longer accepted', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const before = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    world.issuer.handle({
      principal: 'a',
      operation: 'revoke',
      adminKey: null,
      ref: before?.key?.ref ?? '',
    });
    expect(await world.machine.rollback('a', everyone)).toMatchObject({
      outcome: 'refused',
      code: 'way-back-closed',
    });
  });
});

describe('abandon', () => {
  it('of a parked rotation keeps the old key, and of a promoted one is refused', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const before = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    expect(await world.machine.abandon('a', everyone)).toMatchObject({ outcome: 'refused' });
    await world.untilPhase('a', 'retired', { stepMs: 60_000 });
    expect(before?.key?.ref).toBeDefined();
  });
});

describe('supply', () => {
  it("hands in a person's key where a mint is parked; everything after it is automatic", async () => {
    const world = await rotatedOnce({ name: 'a', options: { crashClass: 'blind' } });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    // The policy goes while it is parked: it stays parked and shown, and supply finishes it.
    const policy = world.policies.get('a');
    world.policies.delete('a');
    await world.apply();
    expect((await world.machine.status({ ...byName(), all: true })).secrets[0]).toMatchObject({
      secret: 'a',
      warnings: ['its policy was removed'],
    });
    const answer = world.issuer.handle({
      principal: 'a',
      operation: 'mint',
      adminKey: null,
      mint: { name: 'by hand' },
    });
    const { value } = (answer as { body: { value: string } }).body;
    expect(
      (await world.machine.supply('a', { value: await secretBox(value) }, everyone)).outcome,
    ).toBe('started');
    if (policy !== undefined) world.policies.set('a', policy);
    await world.untilPhase('a', 'retired', { stepMs: 60_000 });
    expect((await world.served('a'))?.value).toBe(value);
  });

  it('of a key that does not work is abandoned like any other', async () => {
    const world = await rotatedOnce({ name: 'a', options: { crashClass: 'blind' } });
    const before = await world.served('a');
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    await world.machine.supply('a', { value: await secretBox('nonsense') }, everyone);
    await world.untilPhase('a', 'abandoned');
    expect((await world.served('a'))?.value).toBe(before?.value);
  });

  it('is refused when nothing waits for it', async () => {
    const world = await rotatedOnce({ name: 'a' });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    expect(
      await world.machine.supply('a', { value: await secretBox('x') }, everyone),
    ).toMatchObject({ outcome: 'refused' });
  });
});
