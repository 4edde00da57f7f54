import { describe, expect, it } from 'vitest';
import { policyOf, type PolicyParts } from '../../test/support/world/policy.ts';
import { byName, everyone, World } from '../../test/support/world/world.ts';

async function withApp(parts: PolicyParts, role: 'user' | 'verifier' = 'user') {
  const world = new World();
  const app = world.consumer('app', role, parts.name);
  const instance = app.add('one');
  await world.start(policyOf(parts));
  await world.bootstrap(parts.name);
  return { world, app, instance };
}

describe('adoption', () => {
  it('is waited for: the old key is not revoked while one instance still uses it, and somebody is told', async () => {
    const { world, instance } = await withApp({ name: 'a', graceMs: 1_000 });
    instance.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.until(() => world.notices.some((notice) => notice.event === 'adoption.timeout'), {
      stepMs: 1_000,
    });
    world.clock.pass(86_400_000);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('promoted');
    expect(world.issuer.probe('a', instance.value ?? '')?.live).toBe(true);
    expect(world.notices.filter((notice) => notice.event === 'adoption.timeout')).toHaveLength(1);
    instance.stubborn = false;
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('can be vouched for by a person', async () => {
    const { world, instance } = await withApp({ name: 'a', graceMs: 1_000 });
    instance.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.until(() => world.notices.some((notice) => notice.event === 'adoption.timeout'), {
      stepMs: 1_000,
    });
    expect((await world.machine.confirm('a', null, everyone)).outcome).toBe('done');
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('goes on without a consumer that cannot report only if the policy says so', async () => {
    const { world, app } = await withApp({
      name: 'a',
      graceMs: 1_000,
      adoption: { timeoutMs: 10_000, then: 'revoke' },
    });
    app.mute = true;
    const began = world.clock.now();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect(world.clock.now() - began).toBeGreaterThanOrEqual(10_000);
    expect((await world.newest('a')).unconfirmedConsumers).toEqual(['app']);
  });

  it('tells a consumer that cannot report once, not every few seconds for as long as it waits', async () => {
    const { world, app } = await withApp({ name: 'a' });
    app.mute = true;
    app.reloads.length = 0;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted');
    for (let minute = 0; minute < 60; minute++) {
      world.clock.pass(60_000);
      await world.tick();
    }
    expect((await world.newest('a')).phase).toBe('promoted');
    expect(app.reloads).toHaveLength(1);
    // Another owner cannot know whether it was told.
    await world.restart();
    await world.tick();
    expect(app.reloads).toHaveLength(2);
  });

  it('that fails rolls back where the policy says so', async () => {
    const { world, instance } = await withApp({
      name: 'a',
      adoption: { timeoutMs: 10_000, then: 'rollback' },
    });
    const before = await world.served('a');
    instance.stubborn = true;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'rolling-back', { stepMs: 1_000 });
    instance.stubborn = false;
    await world.untilPhase('a', 'rolled-back', { stepMs: 1_000 });
    expect(await world.served('a')).toMatchObject({ value: before?.value, generation: 3 });
    expect((await world.newest('a')).lastError?.code).toBe('adoption-timeout');
  });

  it('counts an instance that was seen and is missing as unreachable, also after a restart, until it is proven gone', async () => {
    const { world, app, instance } = await withApp({ name: 'a', graceMs: 1_000 });
    app.instances.delete('one');
    app.add('two');
    await world.restart();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted');
    world.clock.pass(30_000);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('promoted');
    instance.state = 'gone';
    app.instances.set('one', instance);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('asks once more before the way back closes: an instance that went missing in the grace delays the revoke', async () => {
    const { world, app, instance } = await withApp({ name: 'a', graceMs: 60_000 });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    app.instances.delete('one');
    world.clock.pass(120_000);
    await world.tick();
    expect((await world.newest('a')).phase).toBe('adopted');
    app.instances.set('one', instance);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('counts an idle instance: it takes the new key at its next use', async () => {
    const { world, instance } = await withApp({ name: 'a', graceMs: 1_000 });
    Object.assign(instance, { stubborn: true, state: 'idle' });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('tells a consumer that was down again when it is back', async () => {
    const { world, app } = await withApp({ name: 'a', graceMs: 1_000 });
    world.at = (point) => {
      if (point === 'after:commit:promoted') app.down = true;
    };
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'promoted');
    world.clock.pass(5_000);
    await world.tick();
    world.at = null;
    app.down = false;
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('is checked before the mint: a consumer that is down stops a planned rotation before anything changed', async () => {
    const { world, app } = await withApp({ name: 'a' });
    app.down = true;
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'abandoned', { stepMs: 5_000 });
    expect(world.keys('a')).toHaveLength(1);
  });
});

describe('a verifier', () => {
  it('accepts the pending key before anybody uses it and drops the old one at the revoke', async () => {
    const { world, app } = await withApp({ name: 'a', graceMs: 1_000 }, 'verifier');
    app.reloads.length = 0;
    await world.machine.run(byName('a'), everyone);
    const done = await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect(done.phases.map((one) => one.phase)).toContain('distributed');
    const stages = app.reloads.map(([change]) => `${change?.stage} ${change?.generation}`);
    expect(stages).toEqual(['pending 2', 'retired 2']);
  });
});

describe('the old key in use', () => {
  it('is not revoked before it has been quiet, where the issuer tells when it was last used', async () => {
    const { world } = await withApp({ name: 'a', graceMs: 10_000, quietMs: 30_000 });
    const old = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    const use = () =>
      world.issuer.handle({
        principal: 'a',
        operation: 'use',
        adminKey: null,
        value: old?.value ?? '',
      });
    for (let round = 0; round < 10; round++) {
      world.clock.pass(20_000);
      expect(use()).toMatchObject({ status: 200 });
      await world.tick();
    }
    expect((await world.newest('a')).phase).toBe('adopted');
    expect((await world.newest('a')).waitsFor).toContain('to be quiet');
    expect(world.notices.filter((notice) => notice.event === 'adoption.timeout')).toHaveLength(1);
    await world.untilPhase('a', 'retired', { stepMs: 10_000, stepsMax: 8 });
  });
});

describe('the new key', () => {
  it('that stops working in the grace keeps the old one alive, and the way back open', async () => {
    const { world } = await withApp({ name: 'a', graceMs: 60_000 });
    const old = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    const ref = (await world.served('a'))?.key?.ref ?? '';
    world.issuer.handle({ principal: 'a', operation: 'revoke', adminKey: null, ref });
    world.clock.pass(180_000);
    await world.tick();
    expect((await world.newest('a')).waitsFor).toContain('to be accepted');
    expect(world.notices.some((notice) => notice.event === 'adoption.timeout')).toBe(true);
    expect((await world.machine.rollback('a', everyone)).outcome).toBe('started');
    await world.untilPhase('a', 'rolled-back', { stepMs: 1_000 });
    expect((await world.served('a'))?.value).toBe(old?.value);
  });
});
