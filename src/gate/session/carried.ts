/** What a client has set up with its server, learnt as it passes by, and carried over to the next process. */
import type { Message } from '../message.ts';
import { paramOf, parseRange, stringParam } from '../message.ts';
import { eachMember, stringAt, valueAt } from '../scan.ts';

export interface Carried {
  /** Legacy: the client's own handshake; null before it, and for ever in the modern era. */
  readonly initialize: { readonly params: string; readonly result: unknown } | null;
  readonly isInitialized: boolean;
  /** Params of the last `logging/setLevel` that was granted, as JSON text. */
  readonly level: string | null;
  /** URI → params, as JSON text. */
  readonly subscriptions: ReadonlyMap<string, string>;
  /** The client's last answer to `roots/list`, as JSON text. */
  readonly roots: string | null;
  /** Modern: what each request of the gate must carry, as the client does; null where it has said nothing modern. */
  readonly meta: string | null;
}

export interface Learning extends Carried {
  /** Of a call whose answer sets something up; null where it sets up nothing. */
  learner(message: Message): ((answer: Message) => void) | null;
  notified(message: Message): void;
  answered(method: string, answer: Message): void;
}

const metaPrefix = 'io.modelcontextprotocol/';

export function createCarried(): Learning {
  let initialize: Carried['initialize'] = null;
  let isInitialized = false;
  let level: string | null = null;
  let roots: string | null = null;
  let meta: string | null = null;
  const subscriptions = new Map<string, string>();

  /** A note is taken only where the server granted it. */
  function granted(note: (answer: Message) => void): (answer: Message) => void {
    return (answer) => {
      if (answer.result !== null) note(answer);
    };
  }

  return {
    get initialize() {
      return initialize;
    },
    get isInitialized() {
      return isInitialized;
    },
    get level() {
      return level;
    },
    subscriptions,
    get roots() {
      return roots;
    },
    get meta() {
      return meta;
    },
    learner(message) {
      // Once a handshake is known the era is, too: its messages need no second look.
      if (meta === null && initialize === null) meta = metaOf(message);
      const params = paramsText(message);
      switch (message.method) {
        case 'initialize':
          return granted((answer) => {
            if (answer.result === null) return;
            initialize = { params, result: parseRange(answer.bytes, answer.result) };
          });
        case 'logging/setLevel':
          return granted(() => {
            level = params;
          });
        case 'resources/subscribe':
        case 'resources/unsubscribe': {
          const uri = stringParam(message, 'uri');
          if (uri === null) return null;
          return granted(() => {
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
  const uris = range === null ? [] : parseRange(message.bytes, range);
  return {
    toolsListChanged: isOn('toolsListChanged'),
    promptsListChanged: isOn('promptsListChanged'),
    resourcesListChanged: isOn('resourcesListChanged'),
    uris: Array.isArray(uris) ? uris.filter((uri) => typeof uri === 'string') : [],
  };
}

/** The subscription that a modern notification belongs to, as JSON text of its id. */
export function subscriptionOf(message: Message): string | null {
  const range = paramOf(message, '_meta', `${metaPrefix}subscriptionId`);
  if (range === null) return null;
  const text = stringAt(message.bytes, range);
  return text === null
    ? message.bytes.toString('latin1', range.start, range.end)
    : JSON.stringify(text);
}
