/** Tasks that outlive the call that began them: how long their process stays for them. */
import { expect, test } from 'vitest';
import { calmSession } from '../testing/chaos/calm.ts';

test('a task that its server reports as done keeps the old process no longer', async () => {
  const session = calmSession({});
  await session.settle();
  session.client.call('task');
  await session.settle();
  session.world.generation = 2;
  await session.notice();
  const [old] = session.world.servers;
  expect(session.world.alive).toHaveLength(2);
  const isWorking = () => old?.hasTasks === true;
  while (isWorking()) old?.mutter();
  await session.settle();
  expect(session.world.alive.map((server) => server.generation)).toEqual([2]);
  expect(session.status()).toMatchObject({ generations: { t: 2 }, problem: null });
  await session.end();
});
