/** Faults of the process that should take over: whatever it does, the client must not notice, or notice once. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerSettings } from '../../../src/gate/settings.ts';
import type { Behaviour } from '../servers/bad.ts';
import { secretName } from '../support/feed.ts';
import type { FaultCase } from './case.ts';
import { must, mustEqual, oneErrorEach, spotless, until } from './expect.ts';
import { openStage } from './stage.ts';

const canary = { tool: 'get_me', arguments: {} };

export const greenCases: readonly FaultCase[] = [
  refused('green does not start', { start: 'exit' }),
  refused('green hangs in its handshake', { start: 'hang' }, { startMs: 1_500 }),
  refused('green answers another protocol version', { protocolVersion: '2024-11-05' }),
  refused('green is another version of the server', { version: '2.0.0' }),
  refused('green loses a tool', { lacks: ['slow'] }),
  refused('canary answered by 401', { canary: '401' }, { canary }),
  refused('canary answered by isError', { canary: 'isError' }, { canary }),
  {
    name: 'green dies after the flip',
    async run() {
      await using stage = await openStage({
        bad: { 2: { dieAfterFirstCallMs: 300 } },
        settings: { warmMs: 5_000 },
      });
      const { feed, client } = stage;
      stage.load();
      feed.change();
      await until('green started', () => stage.log().starts.some(({ key }) => isOf(key, 2)));
      await until('green was used', () => usedBy(stage, 2) > 0);
      await until(
        'green ended',
        () =>
          !stage.log().starts.some(({ pid, key }) => isOf(key, 2) && stage.alive().includes(pid)),
      );
      await delay(300);
      const generation = await client.generation();
      must(generation === 1 || generation === 2, `Generation ${generation} serves.`);
      const told = oneErrorEach(await stage.calm(), 2);
      await feed.until(
        'the failure to be reported',
        ([one]) => one?.status?.problem !== null || (one.status.generations[secretName] ?? 0) < 2,
      );
      return `${told}; generation ${generation} serves again`;
    },
  },
];

/** Green must not take over: the old one serves on as if nothing had been, the problem is reported, a good one takes over later. */
function refused(
  name: string,
  behaviour: Behaviour,
  settings: Partial<ServerSettings> = {},
): FaultCase {
  return {
    name,
    async run() {
      await using stage = await openStage({ bad: { 2: behaviour }, settings });
      const { feed, client } = stage;
      stage.load();
      feed.change();
      await feed.until(
        'the failed swap to be reported',
        ([one]) => one?.status?.problem !== null && one?.status?.problem !== undefined,
        20_000,
      );
      const [instance] = feed.instances();
      mustEqual(instance?.status?.generations[secretName], 1, 'The generation reported');
      mustEqual(await client.generation(), 1, 'The generation that serves');
      mustEqual(usedBy(stage, 2), 0, 'Calls of the client at green');
      const code = instance?.status?.problem?.code;
      const next = feed.change();
      await feed.adopted(next);
      mustEqual(await client.generation(), 3, 'The generation that serves after a good one');
      const told = spotless(await stage.calm());
      await until('the old ones ended', () => stage.alive().length === 1);
      return `${told}; the old process served on (${code}), the next generation took over`;
    },
  };
}

function usedBy(stage: Awaited<ReturnType<typeof openStage>>, generation: number): number {
  let count = 0;
  for (const [, uses] of stage.log().uses()) {
    if (uses.some(({ key }) => isOf(key, generation))) count += 1;
  }
  return count;
}

function isOf(key: string, generation: number): boolean {
  return key.startsWith(`key-g${generation}-`);
}
