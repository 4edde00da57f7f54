/** What a client has set up with its server, learnt as it passes by, and carried over to the next process. */
import type { Message } from '../message.ts';
import { paramOf, parseRange, stringParam } from '../message.ts';
import { canonicalId, eachMember, elementsOf, type Range, stringAt, valueAt } from '../scan.ts';
import type { Call, Setup } from './path.ts';

export interface Carried {
  /** Legacy: the client's own handshake; null before it, and for ever in the modern era. */
  readonly initialize: { readonly params: string; readonly result: unknown } | null;
  readonly isInitialized: boolean;
  /** What was granted last. */
  readonly setup: Readonly<Setup>;
  /** The client's last answer to `roots/list`, as JSON text. */
  readonly roots: string | null;
  /** The tools that the server listed when the client first asked, whole; null where it has not, or got them in pages. */
  readonly firstTools: ReadonlySet<string> | null;
  /** Modern: what each request of the gate must carry, as the client does; null where it has said nothing modern. */
  readonly meta: string | null;
}

export interface Learning extends Carried {
  /** Of a call whose answer sets something up; null where it sets up nothing. */
  learner(message: Message): Call['learn'];
  notified(message: Message): void;
  answered(method: string, answer: Message): void;
}

const metaPrefix = 'io.modelcontextprotocol/';

export function createCarried(): Learning {
  let initialize: Carried['initialize'] = null;
  let isInitialized = false;
  let roots: string | null = null;
  let meta: string | null = null;
  let firstTools: ReadonlySet<string> | null = null;
  let hasListed = false;
  const setup: Setup = { level: null, subscriptions: new Map() };

  let asked = 0;
  /** By what is set up, while any call of the kind is on its way: how many are, and which one was granted last. */
  const underWay = new Map<string, { open: number; granted: number }>();

  /**
   * A note is taken only where the server granted it: of the process that did, and of the session, unless what the client
   * asked for later has been granted already, by another process.
   */
  function granted(kind: string, note: (setup: Setup) => void): Call['learn'] {
    asked += 1;
    const mine = asked;
    const all = underWay.get(kind) ?? { open: 0, granted: 0 };
    underWay.set(kind, all);
    all.open += 1;
    return (answer, ofProcess) => {
      all.open -= 1;
      if (all.open === 0) underWay.delete(kind);
      if (answer.result === null) return;
      note(ofProcess);
      if (mine < all.granted) return;
      all.granted = mine;
      note(setup);
    };
  }

  return {
    get initialize() {
      return initialize;
    },
    get isInitialized() {
      return isInitialized;
    },
    setup,
    get roots() {
      return roots;
    },
    get meta() {
      return meta;
    },
    get firstTools() {
      return firstTools;
    },
    learner(message) {
      // Once a handshake is known the era is, too: its messages need no second look.
      if (meta === null && initialize === null) meta = metaOf(message);
      switch (message.method) {
        case 'initialize': {
          const params = paramsText(message);
          return (answer) => {
            const result = parsedOrNull(answer.bytes, answer.result);
            if (result !== null) initialize = { params, result };
          };
        }
        case 'tools/list':
          if (hasListed) return null;
          hasListed = true;
          return ({ bytes, result }) => {
            firstTools = result === null ? null : toolsIn(bytes, result);
          };
        case 'logging/setLevel': {
          const params = paramsText(message);
          return granted('level', (of) => {
            of.level = params;
          });
        }
        case 'resources/subscribe':
        case 'resources/unsubscribe': {
          const uri = stringParam(message, 'uri');
          if (uri === null) return null;
          const params = paramsText(message);
          return granted(uri, ({ subscriptions }) => {
            if (message.method === 'resources/subscribe') subscriptions.set(uri, params);
            else subscriptions.delete(uri);
          });
        }
        default:
          return null;
      }
    },
    notified(message) {
      if (message.method === 'notifications/initialized') isInitialized = true;
      if (message.method === 'notifications/roots/list_changed') roots = null;
    },
    answered(method, { bytes, result }) {
      if (method !== 'roots/list' || result === null) return;
      roots = bytes.toString('utf8', result.start, result.end);
    },
  };
}

/** Only whoever parses it finds that a part of a message is no JSON: the other end's matter, no reason to end here. */
function parsedOrNull(bytes: Buffer, range: Range | null): unknown {
  try {
    return range === null ? null : parseRange(bytes, range);
  } catch {
    return null;
  }
}

function toolsIn(bytes: Buffer, result: Range): ReadonlySet<string> | null {
  const list = valueAt(bytes, result, 'tools');
  if (list === null || valueAt(bytes, result, 'nextCursor') !== null) return null;
  const names = elementsOf(bytes, list)?.map((tool) =>
    stringAt(bytes, valueAt(bytes, tool, 'name')),
  );
  return names === undefined ? null : new Set(names.filter((name) => name !== null));
}

function paramsText({ bytes, params }: Message): string {
  return params === null ? '{}' : bytes.toString('utf8', params.start, params.end);
}

/** The protocol's own members of `_meta`, which say version, capabilities and client; nothing of the one request. */
function metaOf(message: Message): string | null {
  const range = paramOf(message, '_meta');
  if (range === null || valueAt(message.bytes, range, `${metaPrefix}protocolVersion`) === null) {
    return null;
  }
  const members: string[] = [];
  eachMember(message.bytes, range, (key, value) => {
    if (!key.startsWith(metaPrefix)) return;
    members.push(
      `${JSON.stringify(key)}:${message.bytes.toString('utf8', value.start, value.end)}`,
    );
  });
  return `{${members.join(',')}}`;
}

/** Which notifications a modern client listens for. */
export interface Listened {
  readonly toolsListChanged: boolean;
  readonly promptsListChanged: boolean;
  readonly resourcesListChanged: boolean;
  readonly uris: readonly string[];
}

export function listenedBy(message: Message): Listened {
  const filter = paramOf(message, 'notifications');
  const isOn = (name: string) => {
    const range = valueAt(message.bytes, filter, name);
    return range !== null && message.bytes.toString('latin1', range.start, range.end) === 'true';
  };
  const range = valueAt(message.bytes, filter, 'resourceSubscriptions');
  const uris = parsedOrNull(message.bytes, range);
  return {
    toolsListChanged: isOn('toolsListChanged'),
    promptsListChanged: isOn('promptsListChanged'),
    resourcesListChanged: isOn('resourcesListChanged'),
    uris: Array.isArray(uris) ? uris.filter((uri) => typeof uri === 'string') : [],
  };
}

/** The listen that a modern notification belongs to: its `canonicalId`. */
export function subscriptionOf(message: Message): string | null {
  const range = paramOf(message, '_meta', `${metaPrefix}subscriptionId`);
  return range === null ? null : canonicalId(message.bytes, range);
}
