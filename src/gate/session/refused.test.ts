/** A new key that the issuer refuses, while the daemon repeats that there is one: how often a server is started for it. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { seededRandom } from '../../../test/support/world/random.ts';
import { Secret } from '../../secret/secret.ts';
import { defaultSettings } from '../settings.ts';
import type { InstanceStatus, Notice } from '../source.ts';
import { FakeClient } from '../testing/chaos/client.ts';
import { StillClock } from '../testing/chaos/clock.ts';
import { FakeServer } from '../testing/chaos/server.ts';
import { World } from '../testing/chaos/world.ts';
import { createSession } from './create.ts';

test.each(['swap', 'drain-window'] as const)(
  'a refused key is tried again less and less often, an emergency and another key at once: %s',
  async (swap) => {
    const session = open(swap);
    await session.settle();
    session.world.generation = 2;
    session.world.badGenerations.add(2);
    expect(await session.triesAfter(0)).toBe(1);
    // The cause may be gone by now.
    expect(await session.triesAfter(0)).toBe(1);
    expect(await session.triesAfter(10_000)).toBe(0);
    expect(await session.triesAfter(5_000)).toBe(1);
    expect(await session.triesAfter(29_999)).toBe(0);
    expect(await session.triesAfter(1)).toBe(1);
    expect(await session.triesAfter(59_999)).toBe(0);
    expect(session.status()).toMatchObject({ generations: { t: 1 } });
    expect(session.status()?.problem?.message).toContain('canary');
    expect(await session.triesAfter(0, true)).toBe(1);
    session.world.generation = 3;
    expect(await session.triesAfter(0)).toBe(1);
    expect(session.status()).toMatchObject({ generations: { t: 3 }, problem: null });
    await session.end();
  },
);

function open(swap: 'swap' | 'drain-window') {
  const world = new World({ era: 'modern', swap }, seededRandom(1));
  const clock = new StillClock();
  const client = new FakeClient(world);
  let listener: (notice: Notice) => void = () => undefined;
  let status: InstanceStatus | null = null;
  const canary = { tool: 'canary', arguments: {} };
  const session = createSession({
    entry: {
      name: 'fake',
      launch: { kind: 'process', command: 'fake', args: [], cwd: '/', env: {}, files: [] },
    },
    source: {
      settings: () => ({ ...defaultSettings, swap, canary, idleMs: 600_000, warmMs: 0 }),
      resolve: async () => ({
        values: new Map([['local://t#key', new Secret(`value-${world.generation}`)]]),
        generations: { t: world.generation },
      }),
      listen: (given) => {
        listener = given;
      },
      report: (given) => {
        status = given;
      },
      close: async () => undefined,
    },
    startLink: (resolved, events) => {
      const server = new FakeServer(world, resolved.generations['t'] ?? 0, events);
      world.servers.push(server);
      return server.link;
    },
    client: client.port,
    clock,
    random: seededRandom(2),
    log: { info: () => undefined, warn: () => undefined },
  });
  client.session = session;
  client.begin();

  async function settle(): Promise<void> {
    do {
      // What was just delivered may lead to more only in the next turn.
      await turn();
    } while (world.alive.some((server) => server.step()));
  }

  return {
    world,
    settle,
    status: () => status,
    /** How many servers are started with the newest key when the daemon repeats itself so much later. */
    async triesAfter(ms: number, urgent = false): Promise<number> {
      const started = () => world.servers.filter((one) => one.generation === world.generation);
      const before = started().length;
      clock.pass(ms);
      listener({ urgent });
      await settle();
      return started().length - before;
    },
    async end(): Promise<void> {
      session.stop();
      await session.ended;
    },
  };
}
