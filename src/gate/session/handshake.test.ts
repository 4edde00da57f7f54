/** A client that says `initialized` only after the gate has stopped waiting for it: each process hears it all the same. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { calmSession } from '../testing/chaos/calm.ts';

test('a new process that was introduced before the client said initialized is told at the flip', async () => {
  const session = calmSession({ startMs: 1_000 }, 'legacy');
  await session.settle();
  session.world.generation = 2;
  await session.notice();
  expect(session.world.servers).toHaveLength(1);
  session.clock.pass(1_000);
  await turn();
  const isGreenIntroduced = () => session.world.servers[1]?.received.size === 2;
  while (!isGreenIntroduced()) {
    session.world.alive.forEach((server) => server.step());
    await turn();
  }
  session.client.initialized();
  await session.settle();
  expect(session.status()).toMatchObject({ generations: { t: 2 }, problem: null });
  expect(session.world.servers.map((server) => server.isInitialized)).toEqual([true, true]);
  await session.end();
});
