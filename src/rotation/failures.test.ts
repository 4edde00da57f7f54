import { describe, expect, it } from 'vitest';
import { policyOf } from '../../test/support/world/policy.ts';
import { byName, everyone, World } from '../../test/support/world/world.ts';

async function rotatedOnce(options: Parameters<typeof policyOf>[0]): Promise<World> {
  const world = new World();
  const crashClass = (options.options?.['crashClass'] ?? 'listable') as 'listable';
  await world.start(policyOf(options));
  world.configure(options.name, { crashClass });
  await world.bootstrap(options.name);
  return world;
}

/** The number of calls of this operation so far: faults count from 1 over the life of the principal. */
function next(world: World, kind: string): number {
  return world.events('a').filter((event) => event === kind).length + 1;
}

describe('a mint whose answer is lost', () => {
  it('leaves no orphan where keys can be listed: the orphan is deleted and one is minted anew', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.keys('a')).toHaveLength(3);
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 1_000 });
    expect(world.live('a').map((key) => key.ref)).toEqual([(await world.served('a'))?.key?.ref]);
  });

  it('is repeated with the same token where the issuer knows tokens', async () => {
    const world = await rotatedOnce({ name: 'a', options: { crashClass: 'token' } });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.keys('a')).toHaveLength(2);
  });

  it('parks where the issuer cannot be asked, and mints nothing by itself', async () => {
    const world = await rotatedOnce({ name: 'a', options: { crashClass: 'blind' } });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    expect((await world.newest('a')).parked?.code).toBe('mint-blind');
    expect(world.keys('a')).toHaveLength(2);
    expect(world.notices.at(-1)?.event).toBe('rotation.parked');
    await world.machine.abandon('a', everyone);
    await world.until(async () => (await world.debts('a')).some((debt) => debt.needsPerson));
  });

  it('that lands after the rotation ended is found and ended by the sweep', async () => {
    const world = await rotatedOnce({ name: 'a', options: { settleSeconds: 10 } });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'late', ms: 100_000 }] });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect((await world.debts('a')).map((debt) => debt.kind)).toEqual(['sweep']);
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 5_000 });
    expect(world.live('a')).toHaveLength(1);
  });

  it('that lands when its rotation is long forgotten is found by the next one, and ended', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'late', ms: 86_400_000 }] });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 5_000 });
    world.clock.pass(86_400_000);
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.events('a')).toContain('late-landing');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 5_000 });
    expect(world.live('a')).toHaveLength(1);
  });

  it('parks where new keys carry no name: keys that nobody owns are never deleted', async () => {
    const world = await rotatedOnce({ name: 'a', options: { without: ['tag'] } });
    world.configure('a', { tag: false, faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 1_000 });
    expect((await world.newest('a')).parked?.message).toContain('no name of ours');
    expect(world.live('a')).toHaveLength(2);
  });
});

describe('a bad credential', () => {
  it('that the issuer refuses is abandoned: the old one stays in use, the new one is revoked', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const before = await world.served('a');
    world.configure('a', { lag: { uses: 1_000, lists: 0, ms: 0 } });
    await world.machine.run(byName('a'), everyone);
    const ended = await world.untilPhase('a', 'abandoned');
    expect(ended.lastError?.code).toBe('verify-failed');
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 1_000 });
    expect((await world.served('a'))?.value).toBe(before?.value);
    expect(world.live('a').map((key) => key.ref)).toEqual([before?.key?.ref]);
  });

  it('that is only slow to propagate is tried again within the settle time', async () => {
    const world = await rotatedOnce({ name: 'a', options: { settleSeconds: 20 } });
    world.configure('a', { lag: { uses: 3, lists: 0, ms: 0 } });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('that silently lost a right is a failed mint', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', {
      faults: [{ operation: 'mint', nth: 2, kind: 'rights', scopes: ['read'] }],
    });
    await world.machine.run(byName('a'), everyone);
    const ended = await world.untilPhase('a', 'abandoned');
    expect(ended.lastError?.message).toContain('lost the rights write');
  });

  it('that an own check refuses is never promoted', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a' }));
    await world.bootstrap('a');
    const before = await world.served('a');
    world.verifiersOf.set('a', [
      {
        id: 'exec:./check',
        verify: async () => ({ ok: false, kind: 'restricted', reason: 'cannot read the report' }),
      },
    ]);
    await world.machine.run(byName('a'), everyone);
    const ended = await world.untilPhase('a', 'abandoned');
    expect(ended.lastError?.message).toContain('exec:./check says cannot read the report');
    expect((await world.served('a'))?.value).toBe(before?.value);
  });
});

describe('failing again and again', () => {
  it('pauses the secret after so many failures in a row and says so; resume turns it on again', async () => {
    const world = new World();
    await world.start(
      policyOf({
        name: 'a',
        schedule: { trigger: { kind: 'every', everyMs: 3_600_000 } },
        failure: { attempts: 2, pauseAfter: 2 },
      }),
    );
    await world.until(async () => (await world.served('a')) !== null);
    world.configure('a', {
      faults: [{ operation: 'mint', nth: 2, kind: 'error', status: 503, times: 100 }],
    });
    await world.until(
      async () => (await world.machine.status(byName('a'))).secrets[0]?.paused !== null,
      { stepMs: 60_000 },
    );
    const [status] = (await world.machine.status(byName('a'))).secrets;
    expect(status?.paused?.reason).toContain('2 rotations in a row failed');
    expect(world.notices.some((notice) => notice.event === 'secret.paused')).toBe(true);
    world.configure('a', { faults: [] });
    await world.machine.resume('a', everyone);
    await world.until(async () => (await world.served('a'))?.generation === 2, { stepMs: 60_000 });
  });
});

describe('a debt', () => {
  it('for a revoke that fails outlives its rotation and is retried until it is paid', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', {
      faults: [{ operation: 'revoke', nth: 1, kind: 'error', status: 503, times: 8 }],
    });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect((await world.debts('a')).map((debt) => debt.kind)).toEqual(['revoke']);
    expect(world.live('a')).toHaveLength(2);
    await world.restart();
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 10_000 });
    expect(world.live('a')).toHaveLength(1);
    expect(world.notices.some((notice) => notice.event === 'debt.revoke')).toBe(true);
    expect((await world.newest('a')).deadAt['a']).toBeGreaterThan(0);
  });

  it('stays open while a revoked key is still accepted: only the proof closes it', async () => {
    const world = await rotatedOnce({ name: 'a' });
    world.configure('a', {
      faults: [{ operation: 'revoke', nth: 1, kind: 'lie', calls: 3 }],
      disable: false,
    });
    world.policies.set('a', policyOf({ name: 'a', options: { without: ['disable'] } }));
    await world.apply();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect((await world.debts('a')).map((debt) => [debt.kind, debt.lastError])).toEqual([
      ['prove', 'The revoked credential of a is still accepted.'],
    ]);
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 5_000 });
  });

  it('that holds the only free place delays a scheduled mint; an emergency pays it first', async () => {
    const world = await rotatedOnce({ name: 'a', options: { liveMax: 2 } });
    world.configure('a', {
      liveMax: 2,
      faults: [
        { operation: 'revoke', nth: 1, kind: 'error', status: 503, times: 4 },
        { operation: 'disable', nth: 1, kind: 'error', status: 503, times: 4 },
      ],
    });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(await world.debts('a')).toHaveLength(1);
    await world.machine.now(byName('a'), null, everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
    expect((await world.newest('a')).kind).toBe('emergency');
    expect(world.live('a').map((key) => key.ref)).toEqual([(await world.served('a'))?.key?.ref]);
  });

  it('never ends the credential that the backend serves now', async () => {
    const world = await rotatedOnce({ name: 'a' });
    const old = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    // Somebody writes the old value back while its revoke waits for the grace.
    const signal = AbortSignal.timeout(5_000);
    const current = await world.backend.read('test/a', 'current', signal);
    const { Secret } = await import('../secret/secret.ts');
    const note = { secret: 'a', generation: 9, ref: null, rotation: 'x', fields: ['key'] };
    await world.backend.rollback(
      'test/a',
      { key: new Secret(old?.value ?? '') },
      [note],
      { txn: 'by-hand', expectCurrent: current.version },
      signal,
    );
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect((await world.debts('a'))[0]?.lastError).toContain('would end what a uses now');
    expect((await world.served('a'))?.key?.live).toBe(true);
    expect(next(world, 'revoke')).toBe(1);
  });
});

describe('a key whose issuer id is unknown', () => {
  async function found(options: Record<string, unknown>): Promise<World> {
    const world = new World();
    const policy = policyOf({ name: 'a', options });
    await world.start(policy);
    const { Secret } = await import('../secret/secret.ts');
    const answer = world.issuer.handle({
      principal: 'a',
      operation: 'mint',
      adminKey: null,
      mint: { name: 'by hand' },
    });
    const { value } = (answer as { body: { value: string } }).body;
    const signal = AbortSignal.timeout(5_000);
    const note = {
      secret: 'config',
      generation: 0,
      ref: null,
      rotation: 'import',
      fields: ['key'],
    };
    const write = { txn: 'import', expectCurrent: null };
    const pending = await world.backend.stage(
      'test/a',
      { key: new Secret(value) },
      [note],
      write,
      signal,
    );
    await world.backend.promote('test/a', { ...write, pending }, signal);
    return world;
  }

  it('is looked up where the issuer can', async () => {
    const world = await found({});
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.live('a').map((key) => key.ref)).toEqual([(await world.served('a'))?.key?.ref]);
  });

  it('is a way back like any other while it lives', async () => {
    const world = await found({});
    const before = await world.served('a');
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'adopted');
    expect(await world.machine.rollback('a', everyone)).toMatchObject({ outcome: 'started' });
    await world.untilPhase('a', 'rolled-back');
    expect((await world.served('a'))?.value).toBe(before?.value);
  });

  it('becomes a debt for a person where it cannot; the proof of its death closes it', async () => {
    const world = await found({ without: ['resolve'] });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    const [debt] = await world.debts('a');
    expect(debt).toMatchObject({ kind: 'person', needsPerson: true });
    const [byHand] = world.keys('a');
    expect(byHand?.live).toBe(true);
    world.issuer.handle({
      principal: 'a',
      operation: 'revoke',
      adminKey: null,
      ref: byHand?.ref ?? '',
    });
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 10_000 });
  });

  it('can be confirmed by a person where no proof is possible', async () => {
    const world = await found({ without: ['resolve'], proof: 'none' });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    const [debt] = await world.debts('a');
    expect((await world.machine.confirm('a', debt?.id ?? '', everyone)).outcome).toBe('done');
    expect(await world.debts('a')).toEqual([]);
  });

  it('is not ended by a provider whose revoke would end the family', async () => {
    const world = await rotatedOnce({ name: 'a', options: { revokeScope: 'family' } });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect((await world.debts('a')).map((debt) => debt.needsPerson)).toEqual([true]);
    expect(next(world, 'revoke')).toBe(1);
  });
});
