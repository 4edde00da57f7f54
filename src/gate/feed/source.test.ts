/** The shim's end of the feed where it ends early: nobody waits for a daemon that says nothing. */
import { duplexPair } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../clock.ts';
import { defaultSettings } from '../settings.ts';
import { lineOf } from './protocol.ts';
import { createFeedSource, type FeedSource } from './source.ts';

const asker = { server: 's', hash: 'h', what: 's', references: ['local://a'] };

function open(connect: Parameters<typeof createFeedSource>[0]['connect']): FeedSource {
  const log = { info: () => undefined, warn: () => undefined };
  return createFeedSource({ connect, asker, clock: systemClock(), random: systemRandom(), log });
}

test('a source that is closed before the welcome says bye and ends', async () => {
  const [near, far] = duplexPair();
  const arrived = Promise.withResolvers<void>();
  far.once('readable', () => arrived.resolve());
  const source = open(async () => near);
  await arrived.promise;
  const heard = text(far);
  await source.close();
  expect(await heard).toContain('"type":"bye"');
});

test('a source that is closed while the welcome arrives says bye and ends', async () => {
  const [near, far] = duplexPair();
  const source = open(async () => near);
  let heard = '';
  const ended = new Promise<void>((resolve) => far.once('end', resolve));
  far.on('data', (chunk: Buffer) => {
    heard += chunk.toString();
    if (!heard.includes('"hello"') || heard.includes('"bye"')) return;
    far.write(lineOf({ type: 'welcome', feed: 1, rotated: '0', settings: defaultSettings }));
    void source.close();
  });
  await ended;
  await source.close();
  expect(heard).toContain('"type":"bye"');
});

test('a source that is closed between two tries does not wait for the next', async () => {
  const failed = Promise.withResolvers<void>();
  const source = open(async () => {
    failed.resolve();
    throw new Error('nobody there');
  });
  await failed.promise;
  await source.close();
});
