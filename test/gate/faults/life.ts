/** Faults of what stands around a swap: the daemon, the client, another rotation, the beginning and the end. */
import { setTimeout as delay } from 'node:timers/promises';
import { protocolVersions } from '../load/message.ts';
import { secretName } from '../support/feed.ts';
import type { FaultCase } from './case.ts';
import { must, mustEqual, rejection, spotless, until, within } from './expect.ts';
import { openStage } from './stage.ts';

/** Clients that keep several of one server open. */
const idleInstances = 10;

export const lifeCases: readonly FaultCase[] = [
  {
    name: 'daemon killed in mid-swap',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      stage.load();
      feed.change();
      await until('green to start', () => stage.log().starts.length > 1);
      await feed.kill();
      await until('green to serve', () => stage.log().starts.length > 1);
      await delay(1_500);
      mustEqual(await client.generation(), 2, 'The generation that serves without a daemon');
      await feed.restart();
      const generation = feed.change();
      await feed.adopted(generation);
      mustEqual(await client.generation(), 3, 'The generation that serves after its return');
      return `${spotless(await stage.calm())}; the swap ended without the daemon, the next one came with it`;
    },
  },
  {
    name: 'daemon killed before it answers what the new key is',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      stage.load();
      feed.hold(true);
      feed.change();
      await delay(300);
      await feed.kill();
      await delay(500);
      mustEqual(await client.generation(), 1, 'The generation that serves without a daemon');
      feed.hold(false);
      await feed.restart();
      await feed.adopted(2);
      mustEqual(await client.generation(), 2, 'The generation that serves after its return');
      return `${spotless(await stage.calm())}; the shim asked for the current generation by itself`;
    },
  },
  {
    name: 'two rotations back to back',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      stage.load();
      feed.change();
      await delay(30);
      feed.change();
      await delay(30);
      const generation = feed.change();
      await feed.adopted(generation);
      mustEqual(await client.generation(), 4, 'The generation that serves');
      const told = spotless(await stage.calm());
      await until('the others to end', () => stage.alive().length === 1);
      return `${told}; the latest of three serves, one process is left`;
    },
  },
  {
    name: 'rotation between initialize and initialized',
    async run() {
      await using stage = await openStage({ isRaw: true });
      const { feed, client } = stage;
      await client.session.ask('initialize', {
        protocolVersion: protocolVersions.legacy,
        capabilities: {},
        clientInfo: { name: 'fault', version: '1' },
      });
      const generation = feed.change();
      await delay(1_000);
      client.session.notify('notifications/initialized');
      stage.load();
      await feed.adopted(generation);
      mustEqual(await client.generation(), 2, 'The generation that serves');
      return spotless(await stage.calm());
    },
  },
  {
    name: 'client closes in mid-swap',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      const slow = client.use('slow', { ms: 700 });
      feed.change();
      await until('green to start', () => stage.log().starts.length > 1);
      client.transport.endInput();
      const { code, signal } = await within('the gate to end', client.transport.exited, 20_000);
      await until('all processes to end', () => stage.alive().length === 0);
      const [instance] = feed.instances();
      mustEqual(instance?.state, 'bye', 'The instance said');
      const answer = await slow.then(
        () => 'answered',
        () => 'not answered, as a server ends that is closed',
      );
      return `ended with ${code ?? signal}, nothing left behind; a call under way was ${answer}`;
    },
  },
  {
    name: 'the gate is killed',
    async run() {
      await using stage = await openStage();
      const { client } = stage;
      await client.generation();
      client.transport.child.kill('SIGKILL');
      await until('its server to end', () => stage.alive().length === 0);
      return 'its server ended with it';
    },
  },
  {
    name: 'ten idle instances',
    async run() {
      await using stage = await openStage({ settings: { idleMs: 300 } });
      const { feed } = stage;
      const clients = [stage.client];
      while (clients.length < idleInstances) clients.push(await stage.another());
      await delay(600);
      const before = stage.log().starts.length;
      const generation = feed.change();
      await feed.adopted(generation);
      mustEqual(stage.log().starts.length, before, 'Processes started for idle instances');
      const idle = feed.instances().filter(({ status }) => status?.state === 'idle').length;
      mustEqual(idle, idleInstances, 'Idle instances');
      await until('the old processes to end', () => stage.alive().length === 0);
      const served = await Promise.all(clients.map((client) => client.generation()));
      must(
        served.every((one) => one === 2),
        `Served by generations ${served.join(', ')}.`,
      );
      return `all counted as idle at once; the next call of each was served by generation 2`;
    },
  },
  {
    name: 'a reference that is not granted',
    async run() {
      await using stage = await openStage({ isRaw: true });
      // The first stage's own shim is of no interest here.
      await stage.client.session.close();
      stage.feed.refuse({
        code: 'not-granted',
        message: 'bad may not have local://test/key.',
        effect: 'none',
        next: 'rotate allow bad local://test/key',
      });
      const client = await stage.another();
      const starts = stage.log().starts.length;
      const told = await within(
        'a refusal',
        rejection(
          client.session.ask('initialize', {
            protocolVersion: protocolVersions.legacy,
            capabilities: {},
            clientInfo: { name: 'fault', version: '1' },
          }),
        ),
        15_000,
      );
      const seen = `${told.message} ${client.transport.stderr()}`;
      must(seen.includes('rotate allow bad'), `The next step is not told: ${seen}`);
      mustEqual(stage.log().starts.length, starts, 'Servers started without a grant');
      return `refused: ${told.message}`;
    },
  },
  {
    name: 'a grant withdrawn while the server runs',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      stage.load();
      feed.refuse({ code: 'not-granted', message: 'no more', effect: 'none' });
      feed.change();
      await feed.until(
        'the refusal to be reported',
        ([one]) => one?.status?.problem?.code === 'not-granted',
      );
      mustEqual(await client.generation(), 1, 'The generation that serves');
      mustEqual(feed.instances()[0]?.status?.generations[secretName], 1, 'The generation reported');
      return `${spotless(await stage.calm())}; the old process serves on, the refusal is reported`;
    },
  },
];
