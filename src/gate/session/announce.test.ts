/** What a client is told at a swap: what changed and was advertised, once, and one update for each subscription. */
import { describe, expect, test } from 'vitest';
import { frameOf } from '../message.ts';
import { announcements } from './announce.ts';
import type { Carried } from './carried.ts';
import { type Listing, listings, type Offer } from './compare.ts';
import type { Call } from './path.ts';
import type { Known } from './prepare.ts';

const advertised = Object.fromEntries(listings.map((listing) => [listing, { listChanged: true }]));

function known(
  offer: Partial<Record<Listing, Record<string, string>>>,
  capabilities: object = advertised,
): Known {
  const map = (listing: Listing) => new Map(Object.entries(offer[listing] ?? {}));
  const all: Offer = { tools: map('tools'), prompts: map('prompts'), resources: map('resources') };
  const firstTools = new Set(all.tools.keys());
  return {
    identity: { protocolVersion: '1', capabilities, serverInfo: {} },
    offer: all,
    firstTools,
  };
}

function carried(uris: readonly string[] = [], isLegacy = true): Carried {
  return {
    initialize: isLegacy ? { params: '{}', result: {} } : null,
    isInitialized: true,
    setup: { level: null, subscriptions: new Map(uris.map((uri) => [uri, '{}'])) },
    roots: null,
    firstTools: null,
    meta: isLegacy ? null : '{}',
  };
}

function listen(id: unknown, notifications: object): Call {
  const frame = frameOf({ id, method: 'subscriptions/listen', params: { notifications } });
  return { frame, isListen: true } as unknown as Call;
}

const before = known({ tools: { a: '1' }, prompts: { p: '1' }, resources: { r: '1' } });
const after = known({ tools: { a: '2' }, prompts: { p: '1' }, resources: {} });
const none = new Set<string>();
const told = (frames: readonly Buffer[]) =>
  frames.map((frame) => {
    expect(frame.at(-1)).toBe(0x0a);
    const { method, params } = JSON.parse(frame.toString()) as { method: string; params?: unknown };
    return params === undefined ? [method] : [method, params];
  });

describe('a legacy client', () => {
  test('is told of each list that differs, once, and of no other', () => {
    expect(told(announcements(before, after, carried(), [], none))).toEqual([
      ['notifications/tools/list_changed'],
      ['notifications/resources/list_changed'],
    ]);
    expect(announcements(before, before, carried(), [], none)).toEqual([]);
  });

  test('is not told of a list whose changes the server did not say it would tell', () => {
    const capabilities = { tools: {}, prompts: { listChanged: false } };
    const silent = known({ tools: { a: '2' } }, capabilities);
    expect(announcements(before, silent, carried(), [], none)).toEqual([]);
  });

  test('gets one update for each resource that it has subscribed to', () => {
    expect(told(announcements(before, before, carried(['x://1', 'x://2']), [], none))).toEqual([
      ['notifications/resources/updated', { uri: 'x://1' }],
      ['notifications/resources/updated', { uri: 'x://2' }],
    ]);
  });

  test('is told to look where nobody knows what the lists were', () => {
    expect(told(announcements(null, after, carried(), [], none)).flat()).toEqual(
      listings.map((listing) => `notifications/${listing}/list_changed`),
    );
  });

  test('is told, once, of what the new process itself said has changed', () => {
    const said = new Set([
      'notifications/tools/list_changed',
      'notifications/prompts/list_changed',
    ]);
    expect(told(announcements(before, after, carried(), [], said)).flat()).toEqual(
      listings.map((listing) => `notifications/${listing}/list_changed`),
    );
  });
});

describe('a modern client', () => {
  const id = 'io.modelcontextprotocol/subscriptionId';

  test('is told on each listen what that one listens for, with its id', () => {
    const listens = [
      listen(5, { toolsListChanged: true, promptsListChanged: true }),
      listen('s\u00e9', { resourcesListChanged: true, resourceSubscriptions: ['x://1', 'x://2'] }),
      listen(7, {}),
    ];
    expect(told(announcements(before, after, carried([], false), listens, none))).toEqual([
      ['notifications/tools/list_changed', { _meta: { [id]: 5 } }],
      ['notifications/resources/list_changed', { _meta: { [id]: 's\u00e9' } }],
      ['notifications/resources/updated', { _meta: { [id]: 's\u00e9' }, uri: 'x://1' }],
      ['notifications/resources/updated', { _meta: { [id]: 's\u00e9' }, uri: 'x://2' }],
    ]);
  });

  test('that listens to nothing is told nothing', () => {
    expect(announcements(before, after, carried([], false), [], none)).toEqual([]);
    expect(announcements(null, after, carried([], false), [], none)).toEqual([]);
  });
});
