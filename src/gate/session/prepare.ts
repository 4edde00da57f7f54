/** Makes a new process ready to take over: the client's handshake replayed, what it offers compared, the credential tried. */
import { RotatedError } from '../../errors.ts';
import { canaryProblem } from '../canary.ts';
import type { ServerSettings } from '../settings.ts';
import type { Carried } from './carried.ts';
import {
  canonical,
  type Identity,
  identityProblem,
  listings,
  lostTools,
  memberOf,
  type Offer,
} from './compare.ts';
import type { Call } from './path.ts';
import type { Running } from './running.ts';

/** A server that pages on for ever is not waited for. */
const pagesMost = 100;

/** What a process said of itself, and offers. */
export interface Known {
  readonly identity: Identity;
  readonly offer: Offer;
  /** The tools that it listed first: one that came by a call would be in no other process. */
  readonly firstTools: ReadonlySet<string>;
}

/** Throws `swap-failed` where the new process must not take over. */
export function mayTakeOver(before: Known, after: Known, settings: ServerSettings): void {
  const problem = identityProblem(before.identity, after.identity, settings.version);
  if (problem !== null) throw unfit(problem);
  const lost = lostTools(before.firstTools, after.offer);
  if (lost.length > 0) throw unfit(`it lacks the tools ${lost.slice(0, 5).join(', ')}`);
}

function sayInitialized(running: Running, carried: Carried): void {
  if (carried.initialize === null || !carried.isInitialized || running.isInitialized) return;
  running.isInitialized = true;
  running.send(Buffer.from('{"jsonrpc":"2.0","method":"notifications/initialized"}\n'));
}

/** Tells a process of what the client has set up since it was introduced, or while another one served. */
export function catchUp(running: Running, carried: Carried, signal: AbortSignal): void {
  sayInitialized(running, carried);
  const { setup } = carried;
  const has = running.setup;
  const tell = (method: string, params: string) =>
    // Granted before, by its like: a refusal now changes nothing.
    void running.ask(method, params, signal).catch(() => undefined);
  if (setup.level !== null && setup.level !== has.level) tell('logging/setLevel', setup.level);
  for (const [uri, params] of setup.subscriptions) {
    if (!has.subscriptions.has(uri)) tell('resources/subscribe', params);
  }
  for (const [uri, params] of has.subscriptions) {
    if (!setup.subscriptions.has(uri)) tell('resources/unsubscribe', params);
  }
  noteSetup(running, setup);
}

function noteSetup({ setup: has }: Running, setup: Carried['setup']): void {
  has.level = setup.level;
  has.subscriptions.clear();
  for (const [uri, params] of setup.subscriptions) has.subscriptions.set(uri, params);
}

/** The client's own handshake, said again. Null where the client has not said anything yet. */
export async function introduce(
  running: Running,
  carried: Carried,
  signal: AbortSignal,
): Promise<Identity | null> {
  if (carried.initialize === null) return discover(running, carried, signal);
  const answer = await running.ask('initialize', carried.initialize.params, signal);
  if (!answer.ok) throw unfit(`it refuses the handshake (error ${answer.code})`);
  sayInitialized(running, carried);
  const { level, subscriptions } = carried.setup;
  const replays = [
    ...(level === null ? [] : [['logging/setLevel', level] as const]),
    ...[...subscriptions.values()].map((one) => ['resources/subscribe', one] as const),
  ];
  noteSetup(running, carried.setup);
  const answers = await Promise.all(
    replays.map(
      async ([method, params]) => [method, await running.ask(method, params, signal)] as const,
    ),
  );
  for (const [method, given] of answers) {
    if (!given.ok)
      throw unfit(`it refuses ${method} (error ${given.code}), which the old one granted`);
  }
  return identityOf(answer.result);
}

/** As the process says that serves now; asked again where the era has no handshake to remember. */
export async function identityNow(
  running: Running,
  carried: Carried,
  signal: AbortSignal,
): Promise<Identity | null> {
  return carried.initialize === null
    ? discover(running, carried, signal)
    : identityOf(carried.initialize.result);
}

async function discover(
  running: Running,
  carried: Carried,
  signal: AbortSignal,
): Promise<Identity | null> {
  if (carried.meta === null) return null;
  const answer = await running.ask('server/discover', paramsOf(carried), signal);
  if (!answer.ok) throw unfit(`it refuses server/discover (error ${answer.code})`);
  const { result } = answer;
  return {
    protocolVersion: memberOf(result, 'supportedVersions') ?? null,
    capabilities: memberOf(result, 'capabilities'),
    serverInfo:
      memberOf(result, 'serverInfo') ??
      memberOf(memberOf(result, '_meta'), 'io.modelcontextprotocol/serverInfo'),
  };
}

function identityOf(result: unknown): Identity {
  return {
    protocolVersion: memberOf(result, 'protocolVersion'),
    capabilities: memberOf(result, 'capabilities'),
    serverInfo: memberOf(result, 'serverInfo'),
  };
}

/** Tools always, since calls depend on them; prompts and resources where the client would be told of a change. */
export async function offerOf(
  running: Running,
  identity: Identity,
  carried: Carried,
  signal: AbortSignal,
): Promise<Offer> {
  const asked = listings.filter((listing) => {
    const capability = memberOf(identity.capabilities, listing);
    if (capability === undefined) return false;
    return listing === 'tools' || memberOf(capability, 'listChanged') === true;
  });
  const found = await Promise.all(
    asked.map(
      async (listing) => [listing, await pages(running, listing, carried, signal)] as const,
    ),
  );
  const none = new Map<string, string>();
  return { tools: none, prompts: none, resources: none, ...Object.fromEntries(found) };
}

async function pages(
  running: Running,
  listing: (typeof listings)[number],
  carried: Carried,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const key = listing === 'resources' ? 'uri' : 'name';
  const found = new Map<string, string>();
  let cursor: unknown;
  for (let page = 0; page < pagesMost; page++) {
    const more = cursor === undefined ? {} : { cursor };
    const answer = await running.ask(`${listing}/list`, paramsOf(carried, more), signal);
    if (!answer.ok) throw unfit(`it refuses ${listing}/list (error ${answer.code})`);
    const list = memberOf(answer.result, listing);
    for (const one of Array.isArray(list) ? list : []) {
      found.set(String(memberOf(one, key)), canonical(one));
    }
    cursor = memberOf(answer.result, 'nextCursor');
    if (typeof cursor !== 'string') return found;
  }
  throw unfit(`its ${listing} have no last page`);
}

/** The canary: one read-only call that really uses the credential. */
export async function tryCredential(
  running: Running,
  canary: NonNullable<ServerSettings['canary']>,
  carried: Carried,
  signal: AbortSignal,
): Promise<void> {
  const params = paramsOf(carried, { name: canary.tool, arguments: canary.arguments });
  const answer = await running.ask('tools/call', params, signal);
  if (!answer.ok) throw unfit(`the canary ${canary.tool} answers error ${answer.code}`);
  const problem = canaryProblem(answer.result, canary.expect);
  if (problem !== null) throw unfit(`the canary ${canary.tool} ${problem}`);
}

/** The client's open listens, under their own ids; resolves when each is acknowledged. */
export async function listenAgain(
  running: Running,
  listens: readonly Call[],
  signal: AbortSignal,
): Promise<void> {
  const acknowledged = listens.map((call) => {
    const granted = Promise.withResolvers<boolean>();
    running.acknowledgements.set(call.id, (frame) => {
      running.heard.set(call.id, frame);
      granted.resolve(frame !== null);
    });
    running.calls.set(call.id, call);
    if (call.frame !== null) running.send(call.frame);
    return granted.promise;
  });
  running.flush();
  const all = await orAbort(Promise.all(acknowledged), signal);
  if (!all.every(Boolean))
    throw unfit('it refuses subscriptions/listen, which the old one granted');
}

export function unfit(what: string): RotatedError {
  return new RotatedError('swap-failed', `The new process does not take over: ${what}.`, {
    next: 'Start the server by hand with the new credential and look; the old one goes on serving.',
  });
}

/** Rejects with the signal's reason as soon as it is aborted. */
export async function orAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const stop = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    // Before the work, and beside it: its own rejection, of the same abort, has to find somebody who waits for it.
    return await Promise.race([aborted.promise, work]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Params of a request of the gate: in the modern era with what each request must carry. */
function paramsOf({ meta }: Carried, members: object = {}): string {
  const text = JSON.stringify(members);
  if (meta === null) return text;
  return text === '{}' ? `{"_meta":${meta}}` : `{"_meta":${meta},${text.slice(1)}`;
}
