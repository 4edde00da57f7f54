/** What a client is told when another process takes over: changed lists, and updates that may have been missed between. */
import { frameOf, readMessage } from '../message.ts';
import { type Carried, listenedBy } from './carried.ts';
import { changedListings, type Listing, memberOf } from './compare.ts';
import type { Call } from './path.ts';
import type { Known } from './prepare.ts';

/** `before` null: nobody could be asked what it was, so a client that cares is told to look. */
export function announcements(
  before: Known | null,
  after: Known,
  carried: Carried,
  listens: readonly Call[],
): readonly Buffer[] {
  const changed: readonly Listing[] =
    before === null ? [] : changedListings(before.offer, after.offer);
  const isLegacy = carried.initialize !== null;
  return isLegacy
    ? forSession(changed, after, carried)
    : listens.flatMap((call) => forListen(changed, call));
}

function forSession(changed: readonly Listing[], after: Known, carried: Carried): Buffer[] {
  const advertised = changed.filter(
    (listing) => memberOf(memberOf(after.identity.capabilities, listing), 'listChanged') === true,
  );
  return [
    ...advertised.map((listing) => frameOf({ method: `notifications/${listing}/list_changed` })),
    // One for each: between the two processes one may have gone unsaid.
    ...[...carried.subscriptions.keys()].map((uri) =>
      frameOf({ method: 'notifications/resources/updated', params: { uri } }),
    ),
  ];
}

function forListen(changed: readonly Listing[], call: Call): Buffer[] {
  const message = call.frame === null ? null : readMessage(call.frame);
  if (message?.idRange == null) return [];
  const listened = listenedBy(message);
  const id = JSON.parse(
    message.bytes.toString('utf8', message.idRange.start, message.idRange.end),
  ) as unknown;
  const _meta = { 'io.modelcontextprotocol/subscriptionId': id };
  const isHeard: Record<Listing, boolean> = {
    tools: listened.toolsListChanged,
    prompts: listened.promptsListChanged,
    resources: listened.resourcesListChanged,
  };
  return [
    ...changed
      .filter((listing) => isHeard[listing])
      .map((listing) =>
        frameOf({ method: `notifications/${listing}/list_changed`, params: { _meta } }),
      ),
    ...listened.uris.map((uri) =>
      frameOf({ method: 'notifications/resources/updated', params: { _meta, uri } }),
    ),
  ];
}
