/** Nasty stories that need a provider or a machine which is not as it should be. */
import { describe, expect, it } from 'vitest';
import { policyOf } from '../../test/support/world/policy.ts';
import { byName, everyone, World, type WorldOptions } from '../../test/support/world/world.ts';
import type { AuditEvent } from '../journal/journal.ts';
import type { ProviderSession } from '../provider/provider.ts';
import { RotatedError } from '../errors.ts';
import { createScheduler } from '../schedule/due.ts';
import { Secret } from '../secret/secret.ts';
import type { Ports } from './ports.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** The provider's sessions, changed by `change`. */
function withSessions(
  change: (session: ProviderSession) => Partial<ProviderSession>,
): Pick<WorldOptions, 'alter'> {
  const alter = (ports: Ports): Ports => ({
    ...ports,
    provider: (policy) => {
      const access = ports.provider(policy);
      return {
        ...access,
        open: async () => {
          const session = await access.open();
          return { ...session, ...change(session), [Symbol.asyncDispose]: async () => {} };
        },
      };
    },
  });
  return { alter };
}

const changes = (world: World, from: number) =>
  world
    .events('a')
    .slice(from)
    .filter((kind) => ['mint', 'disable', 'revoke'].includes(kind));

describe('a key that is its own admin', () => {
  it.each([
    ['disable', {}],
    ['delete', { without: ['disable'] }],
  ])('is never contained, where that would %s it: the key lives on', async (_, options) => {
    let isOwnAdmin = false;
    const selfAdmin = {
      name: 'self-admin',
      level: 'red',
      message: 'It signs in with it.',
    } as const;
    const world = new World(
      withSessions((session) => ({
        check: async (signal) => [
          ...(await session.check(signal)),
          ...(isOwnAdmin ? [selfAdmin] : []),
        ],
      })),
    );
    await world.start(policyOf({ name: 'a', options, failure: { attempts: 1, pauseAfter: 9 } }));
    await world.bootstrap('a');
    const key = await world.served('a');
    isOwnAdmin = true;
    const from = world.events('a').length;
    await world.machine.now(byName('a'), 'contain', everyone);
    for (let hour = 0; hour < 12; hour++) {
      await world.tick();
      world.clock.pass(hourMs);
    }
    expect(changes(world, from)).toEqual([]);
    expect(world.issuer.probe('a', key?.value ?? '')?.accepted).toBe(true);
    const told = await world.newest('a');
    expect([told.parked?.code, told.lastError?.code]).toContain('self-admin');
  });
});

describe('a revoke that takes relatives along', () => {
  it('shows at once: the key in use is tried again after each, a person is told, and the debt stays', async () => {
    let takesAll = false;
    const world: World = new World(
      withSessions((session) => ({
        revoke: async (ref, signal) => {
          await session.revoke(ref, signal);
          if (!takesAll) return;
          for (const relative of world.live('a')) await session.revoke(relative.ref, signal);
        },
      })),
    );
    await world.start(policyOf({ name: 'a', graceMs: 0 }));
    await world.bootstrap('a');
    takesAll = true;
    await world.machine.run(byName('a'), everyone);
    await world.until(() => world.notices.some(({ event }) => event === 'current.refused'));
    const told = world.notices.find(({ event }) => event === 'current.refused');
    expect(told).toMatchObject({ level: 'alert', secret: 'a' });
    expect(told?.next).toContain('rotate run a');
    expect((await world.debts('a'))[0]?.lastError).toContain('refused');
    // As the alert says: another one mends it.
    takesAll = false;
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 60_000 });
    expect((await world.served('a'))?.key?.live).toBe(true);
  });
});

describe('a policy that is removed while its rotation is parked', () => {
  it('leaves it parked and shown over a restart, and abandon ends it with the old key in use', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', options: { crashClass: 'blind' } }));
    world.configure('a', { crashClass: 'blind' });
    await world.bootstrap('a');
    const before = await world.served('a');
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    world.policies.delete('a');
    await world.apply();
    await world.restart();
    world.clock.pass(30 * dayMs);
    await world.tick();
    const shown = (await world.machine.status({ ...byName(), all: true })).secrets;
    expect(shown).toMatchObject([
      {
        secret: 'a',
        warnings: ['its policy was removed'],
        active: { parked: { code: 'mint-blind' } },
      },
    ]);
    expect((await world.machine.status(byName('a'))).secrets).toEqual(shown);
    await expect(world.machine.status(byName('b'))).rejects.toMatchObject({
      code: 'policy-unknown',
    });
    expect(await world.machine.abandon('a', everyone)).toMatchObject({ outcome: 'done' });
    await world.tick();
    expect((await world.newest('a')).phase).toBe('abandoned');
    const after = await world.served('a');
    expect(after?.value).toBe(before?.value);
    expect(after?.key?.live).toBe(true);
    // What the lost mint may have left is still owed, and shown though the policy is gone.
    const owed = (await world.machine.status({ ...byName(), all: true })).secrets[0]?.debts ?? [];
    expect(owed.map(({ needsPerson }) => needsPerson)).toEqual([true]);
  });
});

describe('a month switched off', () => {
  it('is made good inside the window alone, and so many at a time at one issuer', async () => {
    const due = createScheduler();
    const names = ['a', 'b', 'c', 'd', 'e'];
    let [minting, most] = [0, 0];
    const bounded = { total: 64, perIssuer: 2 };
    const world = new World({
      nextDue: (policy, context) => due.nextDue(policy.schedule, context, policy.name),
      mayBegin: (policy, now) => due.mayBegin(policy.schedule, now),
      alter: (ports) => ({ ...ports, parallel: bounded }),
    });
    const schedule = {
      trigger: { kind: 'cron', expression: '0 3 * * *' },
      window: { days: ['sat', 'sun'], from: '01:00', to: '06:00' },
    } as const;
    const options = { principal: 'one-account' };
    await world.start(
      ...names.map((name) => policyOf({ name, options, schedule, graceMs: 1_000 })),
    );
    await world.until(async () => (await generations(world, names)).every((one) => one === 1));
    world.kill();
    world.clock.reboot(30 * dayMs);
    await world.start();
    world.at = async (point) => {
      if (point === 'before:mint') most = Math.max(most, ++minting);
      if (point === 'after:mint') minting--;
      // Whoever else may begin does so now.
      for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    };
    await world.until(async () => (await generations(world, names)).every((one) => one === 2), {
      stepMs: hourMs / 2,
    });
    expect(most).toBe(2);
    const history = await world.machine.history(null, names.length);
    for (const { startedAt } of history) {
      const began = new Date(startedAt);
      expect([0, 6]).toContain(began.getUTCDay());
      expect(began.getUTCHours()).toBeGreaterThanOrEqual(1);
      expect(began.getUTCHours()).toBeLessThan(6);
    }
    expect(await world.machine.history(null, 99)).toHaveLength(2 * names.length);
  });
});

async function generations(world: World, names: readonly string[]): Promise<readonly number[]> {
  return Promise.all(names.map(async (name) => (await world.served(name))?.generation ?? 0));
}

describe('a restore that is cut off', () => {
  it.each([1, 2, 3, 4])('at its point %i is finished by the next one', async (nth) => {
    const world = new World();
    const policy = policyOf({ name: 'a' });
    await world.start(policy);
    await world.bootstrap('a');
    const before = await world.served('a');
    world.policies.set('a', { ...policy, backend: { ...policy.backend, item: 'test/empty' } });
    await world.apply();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'abandoned');
    const died = Promise.withResolvers<void>();
    let left = nth;
    world.at = (point) => {
      if (!point.endsWith(':restore') || --left > 0) return;
      died.resolve();
      return new Promise(() => {});
    };
    void world.machine.restore('a', everyone);
    await died.promise;
    await world.restart();
    expect(await world.machine.restore('a', everyone)).toMatchObject({ outcome: 'done' });
    expect((await world.served('a'))?.value).toBe(before?.value);
    const [status] = (await world.machine.status(byName('a'))).secrets;
    expect(status).toMatchObject({ lost: false, paused: null });
    expect(await world.machine.restore('a', everyone)).toMatchObject({ outcome: 'refused' });
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(world.live('a').map((key) => key.ref)).toEqual([(await world.served('a'))?.key?.ref]);
  });
});

describe('resume of a parked rotation', () => {
  it('mints anew where a lost mint could not be looked up: whoever says so has looked, and is in the audit', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', options: { crashClass: 'blind' } }));
    world.configure('a', { crashClass: 'blind' });
    await world.bootstrap('a');
    const before = await world.served('a');
    world.configure('a', { faults: [{ operation: 'mint', nth: 2, kind: 'lost' }] });
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null, { stepMs: 5_000 });
    const left = world.live('a').find((key) => key.ref !== before?.key?.ref);
    const byHand = { principal: 'a', operation: 'revoke', adminKey: null } as const;
    world.issuer.handle({ ...byHand, ref: left?.ref ?? '' });
    const reason = 'looked at the console';
    expect(await world.machine.resume('a', { ...everyone, reason })).toMatchObject({
      outcome: 'started',
    });
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    const after = await world.served('a');
    expect(after?.generation).toBe(2);
    expect(world.live('a').map((key) => key.ref)).toEqual([after?.key?.ref]);
    // The lost mint may still land: that stays owed, for a person again.
    expect((await world.debts('a')).map(({ needsPerson }) => needsPerson)).toEqual([true]);
    const lines = (await world.machine.audit('a', -1, 100)).map(({ line }) => line).join();
    expect(lines).toContain('command.resume');
    expect(lines).toContain(reason);
  });

  it('goes on where a foreign pending version stood in the way and is gone', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a' }));
    const signal = AbortSignal.timeout(5_000);
    const note = { secret: 'a', generation: 7, ref: null, rotation: 'lost', fields: ['key'] };
    const write = { txn: 'lost-0', expectCurrent: null };
    await world.backend.stage('test/a', { key: new Secret('x') }, [note], write, signal);
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null);
    await world.machine.resume('a', everyone);
    await world.tick();
    expect((await world.newest('a')).parked?.code).toBe('pending-foreign');
    await world.backend.discard('test/a', 'lost-0', signal);
    await world.machine.resume('a', everyone);
    await world.untilPhase('a', 'retired', { stepMs: 1_000 });
  });

  it('is refused where only a person can make the credential', async () => {
    const world = new World({
      alter: (ports) => ({
        ...ports,
        provider: (policy) => {
          const access = ports.provider(policy);
          const mint = async () =>
            Promise.reject(
              new RotatedError('needs-person', 'By hand.', { next: 'rotate supply a' }),
            );
          return { ...access, open: async () => ({ ...(await access.open()), mint }) };
        },
      }),
    });
    await world.start(policyOf({ name: 'a' }));
    await world.machine.run(byName('a'), everyone);
    await world.until(async () => (await world.newest('a')).parked !== null);
    expect(await world.machine.resume('a', everyone)).toMatchObject({
      outcome: 'refused',
      next: 'rotate supply a',
    });
    expect((await world.newest('a')).parked?.code).toBe('needs-person');
  });
});

describe('a command that is refused', () => {
  it('is a line of the trail, with who, why and the code', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a', options: { strategy: 'self-generated' } }));
    await world.bootstrap('a');
    const ask = { ...everyone, reason: 'found in a repository' };
    await world.machine.now(byName('a'), 'contain', ask);
    await world.machine.rollback('a', ask);
    await world.machine.abandon('a', ask);
    await world.machine.restore('a', ask);
    await world.machine.confirm('a', null, ask);
    await expect(world.machine.read('a', 'previous', ask)).rejects.toMatchObject({
      code: 'not-found',
    });
    const refused = (await world.machine.audit('a', -1, 100))
      .map(({ line }) => JSON.parse(line) as AuditEvent)
      .filter(({ outcome }) => outcome === 'refused');
    const lines = refused.map(
      ({ action, detail }) => `${action} ${JSON.stringify(detail['code'])}`,
    );
    expect(lines.toSorted()).toEqual([
      'command.abandon "not-active"',
      'command.confirm "refused"',
      'command.now "contain-refused"',
      'command.read "not-found"',
      'command.restore "refused"',
      'command.rollback "not-active"',
    ]);
    for (const { actor, reason } of refused) {
      expect([actor.id, reason]).toEqual(['tester', 'found in a repository']);
    }
  });
});

describe('a credential that a person hands in', () => {
  const handMade = (world: World) => {
    const mint = {
      principal: 'a',
      operation: 'mint',
      adminKey: null,
      mint: { name: 'by hand' },
    } as const;
    return (world.issuer.handle(mint) as { body: { value: string } }).body.value;
  };

  it('is refused, and starts nothing, where the provider makes them itself', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a' }));
    await world.bootstrap('a');
    const value = new Secret(handMade(world));
    expect(await world.machine.supply('a', { value }, everyone)).toMatchObject({
      outcome: 'refused',
    });
    await world.tick();
    expect(await world.machine.history('a', 9)).toHaveLength(1);
  });

  it('is the way out where the backend lost an item of which no sealed copy is kept', async () => {
    const world = new World();
    const policy = policyOf({ name: 'a', escrow: false });
    await world.start(policy);
    await world.bootstrap('a');
    const lost = await world.served('a');
    world.policies.set('a', { ...policy, backend: { ...policy.backend, item: 'test/empty' } });
    await world.apply();
    await world.machine.run(byName('a'), everyone);
    await world.untilPhase('a', 'abandoned');
    const restored = await world.machine.restore('a', everyone);
    expect(restored).toMatchObject({ code: 'escrow-missing' });
    expect(restored.next).toContain('rotate supply a');
    const value = handMade(world);
    expect(await world.machine.supply('a', { value: new Secret(value) }, everyone)).toMatchObject({
      outcome: 'started',
    });
    await world.untilPhase('a', 'retired', { stepMs: 5_000 });
    expect(await world.served('a')).toMatchObject({ value, generation: 2 });
    await world.until(async () => (await world.debts('a')).length === 0, { stepMs: 5_000 });
    expect(world.live('a').map((key) => key.ref)).not.toContain(lost?.key?.ref);
    const [status] = (await world.machine.status(byName('a'))).secrets;
    expect(status).toMatchObject({ lost: false });
  });
});

describe('what is shown', () => {
  it('a plan begins now where the backend holds nothing yet, and says that a schedule is off', async () => {
    const world = new World();
    await world.start(
      policyOf({ name: 'a', schedule: { trigger: { kind: 'every', everyMs: dayMs } } }),
    );
    const plan = async () => (await world.machine.plan(byName('a'), null))[0];
    expect((await plan())?.runs).toEqual([world.clock.now()]);
    await world.until(async () => (await world.served('a')) !== null);
    expect((await plan())?.runs).toEqual([]);
    expect((await plan())?.warnings).toEqual([]);
    await world.machine.pause('a', { ...everyone, reason: 'an audit' });
    expect((await plan())?.warnings).toEqual(["its schedule is off until 'rotate resume a'"]);
  });

  it('a plan says that contain would be refused, and promises no overlap where there is none', async () => {
    const world = new World();
    await world.start(
      policyOf({ name: 'a', options: { strategy: 'self-generated' } }),
      policyOf({ name: 'b', options: { liveMax: 1 } }),
    );
    const [made] = await world.machine.plan(byName('a'), 'contain');
    expect(made?.warnings.join()).toContain('the mode contain would be refused');
    const [single] = await world.machine.plan(byName('b'), null);
    expect(single?.steps.map(({ what }) => what).join()).not.toContain('works on');
    const [both] = await world.machine.plan(byName('a'), null);
    expect(both?.warnings).toEqual([]);
    expect(both?.steps.map(({ what }) => what).join()).toContain('works on');
  });

  it('a second pause without a reason keeps the first one', async () => {
    const world = new World();
    await world.start(policyOf({ name: 'a' }));
    await world.machine.pause('a', { ...everyone, reason: 'an audit' });
    const again = await world.machine.pause('a', { ...everyone, reason: null });
    expect(again.message).toContain('an audit');
    const [status] = (await world.machine.status(byName('a'))).secrets;
    expect(status?.paused?.reason).toBe('an audit');
  });
});
