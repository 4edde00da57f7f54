import { describe, expect, it } from 'vitest';
import { policyOf } from '../../test/support/world/policy.ts';
import { byName, everyone, World } from '../../test/support/world/world.ts';

describe('the life of a rotation', () => {
  it.each(['chosen', 'token', 'listable', 'blind'] as const)(
    'a %s key is minted, promoted, adopted, and its predecessor proven dead',
    async (crashClass) => {
      const world = new World();
      const app = world.consumer('app', 'user', 'a');
      app.add('one');
      await world.start(policyOf({ name: 'a', options: { crashClass } }));
      world.configure('a', { crashClass });
      await world.bootstrap('a');
      const first = await world.served('a');
      await world.machine.run(byName('a'), everyone);
      await world.untilPhase('a', 'adopted');
      expect(world.live('a')).toHaveLength(2);
      const done = await world.untilPhase('a', 'retired', { stepMs: 5_000 });
      const second = await world.served('a');
      expect(done.phases.map((one) => one.phase)).toEqual([
        'planned',
        'minting',
        'minted',
        'staged',
        'verified',
        'promoted',
        'adopted',
        'retiring',
        'retired',
      ]);
      expect(second?.value).not.toBe(first?.value);
      expect(world.live('a').map((key) => key.ref)).toEqual([second?.key?.ref]);
      expect(app.instances.get('one')?.value).toBe(second?.value);
      expect(second?.generation).toBe(2);
      expect(await world.debts('a')).toEqual([]);
      expect((await world.machine.auditVerify()).ok).toBe(true);
      expect(done.deadAt['a']).toBeGreaterThan(0);
    },
  );
});
