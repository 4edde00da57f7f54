/** What a client is told when another process takes over: changed lists, and updates that may have been missed between. */
import { frameOf, readMessage } from '../message.ts';
import { type Carried, listenedBy } from './carried.ts';
import { changedListings, type Listing, listings, memberOf } from './compare.ts';
import type { Call } from './path.ts';
import type { Known } from './prepare.ts';

/**
 * `before` null: nobody could be asked what it was, so a client that cares is told to look. `said`: methods of the
 * notifications with which the new process itself has said that its lists changed while it was made ready.
 */
export function announcements(
  before: Known | null,
  after: Known,
  carried: Carried,
  listens: readonly Call[],
  said: ReadonlySet<string>,
): readonly Buffer[] {
  const differs = before === null ? listings : changedListings(before.offer, after.offer);
  const changed = listings.filter(
    (listing) =>
      (differs.includes(listing) || said.has(methodOf(listing))) &&
      memberOf(memberOf(after.identity.capabilities, listing), 'listChanged') === true,
  );
  return carried.initialize === null
    ? listens.flatMap((call) => forListen(changed, call))
    : forSession(changed, carried);
}

/** One update for each resource that somebody is told of: what an old process changed last may have gone unsaid. */
export function updatesOf(listens: readonly Call[]): readonly Buffer[] {
  return listens.flatMap((call) => forListen([], call));
}

function forSession(changed: readonly Listing[], { setup }: Carried): Buffer[] {
  return [
    ...changed.map((listing) => frameOf({ method: methodOf(listing) })),
    // One for each: between the two processes one may have gone unsaid.
    ...[...setup.subscriptions.keys()].map((uri) =>
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
      .map((listing) => frameOf({ method: methodOf(listing), params: { _meta } })),
    ...listened.uris.map((uri) =>
      frameOf({ method: 'notifications/resources/updated', params: { _meta, uri } }),
    ),
  ];
}

function methodOf(listing: Listing): string {
  return `notifications/${listing}/list_changed`;
}
