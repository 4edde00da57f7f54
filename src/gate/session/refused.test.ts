/** A new key that the issuer refuses, while the daemon repeats that there is one: how often a server is started for it. */
import { expect, test } from 'vitest';
import { calmSession } from '../testing/chaos/calm.ts';

test.each(['swap', 'drain-window'] as const)(
  'a refused key is tried again less and less often, an emergency and another key at once: %s',
  async (swap) => {
    const canary = { tool: 'canary', arguments: {} };
    const session = calmSession({ swap, canary, idleMs: 600_000 });
    await session.settle();
    session.world.generation = 2;
    session.world.badGenerations.add(2);
    expect(await triesAfter(session, 0)).toBe(1);
    // The cause may be gone by now.
    expect(await triesAfter(session, 0)).toBe(1);
    expect(await triesAfter(session, 10_000)).toBe(0);
    expect(await triesAfter(session, 5_000)).toBe(1);
    expect(await triesAfter(session, 29_999)).toBe(0);
    expect(await triesAfter(session, 1)).toBe(1);
    expect(await triesAfter(session, 59_999)).toBe(0);
    expect(session.status()).toMatchObject({ generations: { t: 1 } });
    expect(session.status()?.problem?.message).toContain('canary');
    expect(await triesAfter(session, 0, true)).toBe(1);
    session.world.generation = 3;
    expect(await triesAfter(session, 0)).toBe(1);
    expect(session.status()).toMatchObject({ generations: { t: 3 }, problem: null });
    await session.end();
  },
);

/** How many servers are started with the newest key when the daemon repeats itself so much later. */
async function triesAfter(
  { world, clock, notice }: ReturnType<typeof calmSession>,
  ms: number,
  urgent = false,
): Promise<number> {
  const started = () => world.servers.filter((one) => one.generation === world.generation);
  const before = started().length;
  clock.pass(ms);
  await notice(urgent);
  return started().length - before;
}
