/** Faults of a server's manners: what must not get from it to the client. */
import { once } from 'node:events';
import type { FaultCase } from './case.ts';
import { must, mustEqual, rejection, spotless, within } from './expect.ts';
import { openStage } from './stage.ts';

/** Beyond any cap on frames that a gate may sensibly have. */
const hugeBytes = 200 * 1024 * 1024;
const largeBytes = 3 * 1024 * 1024;

export const hygieneCases: readonly FaultCase[] = [
  {
    name: 'junk on stdout',
    async run() {
      await using stage = await openStage({ bad: { 1: { junk: true }, 2: { junk: true } } });
      const { feed, client } = stage;
      stage.load();
      await feed.adopted(feed.change());
      const told = spotless(await stage.calm());
      mustEqual(client.transport.junk.length, 0, 'Lines of junk at the client');
      return `${told}; none of the junk arrived`;
    },
  },
  {
    name: 'a large answer',
    async run() {
      await using stage = await openStage();
      stage.load();
      const text = await within(
        'the answer',
        stage.client.use('large', { bytes: largeBytes }),
        20_000,
      );
      mustEqual(text.length, largeBytes, 'Bytes of the answer');
      return `arrived whole; beside it ${spotless(await stage.calm())}`;
    },
  },
  {
    name: 'a frame that is too large',
    async run() {
      await using stage = await openStage();
      const { client } = stage;
      stage.load();
      const told = await within(
        'an error',
        rejection(client.use('large', { bytes: hugeBytes })),
        40_000,
      );
      mustEqual(await within('the next call', client.generation(), 15_000), 1, 'Generation');
      return `one error for its call: ${told.message}; beside it ${spotless(await stage.calm())}`;
    },
  },
  {
    name: 'the server prints its key',
    async run() {
      await using stage = await openStage();
      const { feed, client } = stage;
      const before = await client.use('leak');
      await feed.adopted(feed.change());
      const after = await client.use('leak');
      const { stderr } = client.transport.child;
      if (!client.transport.stderr().includes('the key is')) {
        if (stderr !== null) await within('its log', once(stderr, 'data'), 5_000);
      }
      const seen = `${before} ${after} ${client.transport.stderr()}`;
      for (const key of feed.keys) {
        const forms = [key, Buffer.from(key).toString('base64'), encodeURIComponent(key)];
        must(!forms.some((form) => seen.includes(form)), `A key arrived: ${seen.slice(0, 300)}`);
      }
      return `removed from answers and log: ${after}`;
    },
  },
];
