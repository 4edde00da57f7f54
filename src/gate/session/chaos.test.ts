/** Sessions in a storm: simulated servers, client and clock, thousands of orders of events, each from its seed. */
import { describe, expect, test } from 'vitest';
import { run } from '../testing/chaos/run.ts';
import type { Mix } from '../testing/chaos/world.ts';

/** A storm of one's own: `CHAOS_SEED=4711 CHAOS_RUNS=500 npx vitest run src/gate/session/chaos.test.ts`. */
const firstSeed = Number(process.env['CHAOS_SEED'] ?? 1);
const runs = Number(process.env['CHAOS_RUNS'] ?? 12);

const mixes: Readonly<Record<string, Omit<Mix, 'era'>>> = {
  'one rotation after another': {},
  'emergencies, crashes and calls that may be repeated': { urgent: 0.3, crash: 0.5, retry: true },
  'a drain-window': { swap: 'drain-window', urgent: 0.2 },
  'a drain-window with crashes': { swap: 'drain-window', crash: 0.4, retry: true },
  'rest and wake': { idleMs: 3, crash: 0.2 },
  'keys that the issuer refuses': { bad: 0.4, idleMs: 20, crash: 0.2 },
  'ends that do not keep up': { pressure: true, crash: 0.3, urgent: 0.2 },
  'a drain-window with all of it': {
    swap: 'drain-window',
    bad: 0.3,
    idleMs: 3,
    crash: 0.3,
    urgent: 0.2,
    pressure: true,
    retry: true,
  },
};

const seen = new Map<string, number>();

describe.each(['legacy', 'modern'] as const)('a %s session', (era) => {
  test.each(Object.entries(mixes))('keeps its promises through %s', async (_, mix) => {
    await keepsPromises({ ...mix, era });
  });
});

test('a client that says initialized late, or hardly ever, is served all the same', async () => {
  await keepsPromises({ era: 'legacy', half: true, crash: 0.2 });
});

test.skipIf(runs < 12)('the storms have been everywhere', () => {
  const everywhere = ['flipped', 'flipped-back', 'holding', 'resting', 'waking', 'stopping'];
  for (const point of [...everywhere, 'answered']) {
    expect([point, (seen.get(point) ?? 0) > 2]).toEqual([point, true]);
  }
});

async function keepsPromises(mix: Mix): Promise<void> {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) {
    const { wrongs, trace, points, answered } = await run(seed, mix);
    if (wrongs.length > 0) {
      const said = [`seed ${seed} of ${JSON.stringify(mix)}:`, ...wrongs, '', ...trace.slice(-60)];
      throw new Error(said.join('\n'));
    }
    for (const [point, count] of Object.entries({ ...points, answered })) {
      seen.set(point, (seen.get(point) ?? 0) + count);
    }
  }
}
