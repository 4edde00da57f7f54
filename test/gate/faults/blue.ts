/** Faults of the process that is taken over from, while it still owes answers. */
import { secretName } from '../support/feed.ts';
import type { FaultCase } from './case.ts';
import { must, mustEqual, rejection, spotless, until, within } from './expect.ts';
import { openStage } from './stage.ts';

const drainMs = 800;

export const blueCases: readonly FaultCase[] = [
  {
    name: 'blue hangs: the revoke is postponed',
    async run() {
      await using stage = await openStage({ settings: { drainMs } });
      const { feed, client } = stage;
      stage.load();
      let isOver = false;
      const hung = client.use('hang').finally(() => {
        isOver = true;
      });
      hung.catch(() => {});
      feed.change();
      await until('green to serve', () => usesOf(stage, 2) > 0);
      await feed.until(
        'the overdue drain to be reported',
        ([one]) => one?.status?.problem !== null && one?.status?.problem !== undefined,
      );
      const [instance] = feed.instances();
      mustEqual(instance?.status?.generations[secretName], 1, 'The oldest generation reported');
      must(!isOver, 'The call that hangs was cut.');
      mustEqual(await client.generation(), 2, 'The generation that serves');
      const told = spotless(await stage.calm());
      return `${told}; the hanging call still waits, generation 1 is reported as held (${instance?.status?.problem?.code})`;
    },
  },
  {
    name: 'blue hangs: an emergency cuts it',
    async run() {
      await using stage = await openStage({ settings: { drainMs, emergency: 'cut' } });
      const { feed, client } = stage;
      stage.load();
      const hung = rejection(client.use('hang'));
      await until('the call to arrive', () => stage.log().size > 0);
      const generation = feed.change({ urgent: true });
      const told = await within('the hanging call to be cut', hung, 10_000);
      await feed.adopted(generation);
      const calls = spotless(await stage.calm());
      await until('blue ended', () => stage.alive().length === 1);
      return `${calls}; the hanging call got one error: ${told.message}`;
    },
  },
  {
    name: 'blue dies draining',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      stage.load();
      const slow = Array.from({ length: 5 }, () => rejection(client.use('slow', { ms: 60_000 })));
      const dying = rejection(client.use('die', { ms: 2_500 }));
      const generation = feed.change();
      await until('green to serve', () => usesOf(stage, 2) > 0);
      const told = await within('an error for each call', Promise.all([...slow, dying]), 10_000);
      await feed.adopted(generation);
      const calls = spotless(await stage.calm());
      mustEqual(await client.generation(), 2, 'The generation that serves');
      return `${calls}; ${told.length} calls of the dead process got one error each: ${told[0]?.message}`;
    },
  },
  {
    name: 'the server crashes with no rotation under way',
    async run() {
      await using stage = await openStage();
      const { client } = stage;
      const slow = rejection(client.use('slow', { ms: 60_000 }));
      const told = [
        await within('an error', rejection(client.use('die', { ms: 50 })), 10_000),
        await within('an error', slow, 10_000),
      ];
      const after = await within('the next call', client.generation(), 15_000);
      mustEqual(after, 1, 'The generation that serves');
      return `its calls got one error each: ${told[0]?.message}; the next call was served by a new process`;
    },
  },
  {
    name: 'a server that ignores EOF and TERM',
    async run() {
      await using stage = await openStage({
        bad: { 1: { ignoresEnd: true }, 2: { ignoresEnd: true } },
      });
      const { feed, client } = stage;
      stage.load();
      const generation = feed.change();
      await feed.adopted(generation);
      mustEqual(stage.alive().length, 1, 'Processes after adoption');
      const told = spotless(await stage.calm());
      client.transport.endInput();
      const { code, signal } = await within('the gate to end', client.transport.exited, 20_000);
      await until('all processes to end', () => stage.alive().length === 0);
      return `${told}; killed before it counted as adopted, and at the end (the client saw ${code ?? signal})`;
    },
  },
];

function usesOf(stage: Awaited<ReturnType<typeof openStage>>, generation: number): number {
  let count = 0;
  for (const [, uses] of stage.log().uses()) {
    if (uses.some(({ key }) => key.startsWith(`key-g${generation}-`))) count += 1;
  }
  return count;
}
