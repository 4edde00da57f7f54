/** A session between simulated ends where nothing happens but what a test says, one thing after another. */
import { setImmediate as turn } from 'node:timers/promises';
import { seededRandom } from '../../../../test/support/world/random.ts';
import { Secret } from '../../../secret/secret.ts';
import { createSession } from '../../session/create.ts';
import { defaultSettings, type ServerSettings } from '../../settings.ts';
import type { InstanceStatus, Notice } from '../../source.ts';
import { FakeClient } from './client.ts';
import { StillClock } from './clock.ts';
import { FakeServer } from './server.ts';
import { type Era, World } from './world.ts';

export function calmSession(settings: Partial<ServerSettings>, era: Era = 'modern') {
  const world = new World({ era }, seededRandom(1));
  const clock = new StillClock();
  const client = new FakeClient(world);
  let listener: (notice: Notice) => void = () => undefined;
  let status: InstanceStatus | null = null;
  const session = createSession({
    entry: {
      name: 'fake',
      launch: { kind: 'process', command: 'fake', args: [], cwd: '/', env: {}, files: [] },
    },
    source: {
      settings: () => ({ ...defaultSettings, warmMs: 0, ...settings }),
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
    clock,
    client,
    /** The daemon says that there may be another generation. */
    async notice(urgent = false): Promise<void> {
      listener({ urgent });
      await settle();
    },
    async end(): Promise<void> {
      session.stop();
      await session.ended;
    },
  };
}
