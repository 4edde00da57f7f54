/** Stands where the daemon stands: answers shims on a Unix socket, changes keys when a test says so, and sees what each reports. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gateSocketPath, prepareSocketFolder } from '../../../src/control/socket-path.ts';
import type { ErrorJson } from '../../../src/errors.ts';
import {
  type DaemonMessage,
  feedVersion,
  type Hello,
  lineOf,
  type ShimMessage,
} from '../../../src/gate/feed/protocol.ts';
import { defaultSettings, type ServerSettings } from '../../../src/gate/settings.ts';
import type { InstanceStatus } from '../../../src/gate/source.ts';
import { databaseName } from '../../../src/state-place.ts';
import { createLineSplitter } from '../load/lines.ts';

/** The one secret that test servers use, and how their entries refer to it. */
export const secretName = 'test-key';
export const reference = 'local://test/key';

export interface Instance {
  readonly name: string;
  readonly server: string;
  readonly hello: Hello;
  readonly statuses: readonly InstanceStatus[];
  /** The newest; null before the first. */
  status: InstanceStatus | null;
  /** bye: said so; lost: the line went down without a word. */
  state: 'connected' | 'bye' | 'lost';
}

export interface Change {
  /** Goes into the key's text: test servers act on it. */
  readonly mark?: string;
  readonly urgent?: boolean;
}

export interface TestFeed extends AsyncDisposable {
  /** A state directory in which nothing but the socket is: what finds its daemon by the state finds this. */
  readonly state: string;
  readonly socket: string;
  /** Told to shims that connect from now on, and to those connected. */
  use(settings: Partial<ServerSettings>): void;
  /** What a shim gets instead of values; null: values again. */
  refuse(error: ErrorJson | null): void;
  /** Held back, `resolve` waits: a daemon that hangs. */
  hold(held: boolean): void;
  /** The present key of this generation and every one before. */
  readonly keys: readonly string[];
  generation(): number;
  instances(): readonly Instance[];
  /** A new key; returns its generation at once. */
  change(change?: Change): number;
  /** Resolves as soon as it holds; rejects after `withinMs` with what was seen last. */
  until(
    what: string,
    holds: (instances: readonly Instance[]) => boolean,
    withinMs?: number,
  ): Promise<void>;
  /** Every connected instance has nothing but this generation, or is idle. */
  adopted(generation: number, withinMs?: number): Promise<void>;
  /** The socket goes away and all lines go down, as with a daemon that was killed. */
  kill(): Promise<void>;
  /** Listens again after `kill`. */
  restart(): Promise<void>;
}

const withinMsUsual = 30_000;
const aliveEveryMs = 2_000;

export async function openFeed(given: Partial<ServerSettings> = {}): Promise<TestFeed> {
  const state = mkdtempSync(path.join(tmpdir(), 'rotated-feed-'));
  chmodSync(state, 0o700);
  writeFileSync(path.join(state, databaseName), '');
  const socket = gateSocketPath(state);
  prepareSocketFolder(socket);
  let settings: ServerSettings = { ...defaultSettings, ...given };
  const keys = [keyOf(1)];
  const instances = new Map<string, Instance & { statuses: InstanceStatus[] }>();
  const sockets = new Set<Socket>();
  const waiters = new Set<() => void>();
  const heldBack: (() => void)[] = [];
  let refusal: ErrorJson | null = null;
  let isHeld = false;

  const moved = () => {
    for (const look of waiters) look();
  };
  const tell = (one: Socket, message: DaemonMessage) => {
    if (one.writable) one.write(lineOf(message));
  };
  const serve = (one: Socket) => {
    sockets.add(one);
    let instance: (Instance & { statuses: InstanceStatus[] }) | null = null;
    const receive = (message: ShimMessage) => {
      switch (message.type) {
        case 'hello': {
          const known = instances.get(message.instance);
          instance = {
            name: message.instance,
            server: message.server,
            hello: message,
            statuses: known?.statuses ?? [],
            status: message.status ?? known?.status ?? null,
            state: 'connected',
          };
          instances.set(message.instance, instance);
          tell(one, { type: 'welcome', feed: feedVersion, rotated: 'test', settings });
          return;
        }
        case 'resolve': {
          const { id } = message;
          const answer = () => {
            if (refusal !== null) tell(one, { type: 'error', id, error: refusal });
            else {
              const values = (instance?.hello.references ?? []).map(() => keys.at(-1) as string);
              const generations = { [secretName]: keys.length };
              tell(one, { type: 'values', id, values, generations });
            }
          };
          if (isHeld) heldBack.push(answer);
          else answer();
          return;
        }
        case 'status':
          if (instance === null) return;
          instance.status = message.status;
          instance.statuses.push(message.status);
          return;
        case 'bye':
          if (instance !== null) instance.state = 'bye';
          return;
        case 'alive':
          return;
        default:
          message satisfies never;
      }
    };
    const split = createLineSplitter((line) => {
      receive(JSON.parse(line) as ShimMessage);
      moved();
    });
    one.on('data', split);
    one.on('error', () => {});
    one.on('close', () => {
      sockets.delete(one);
      if (instance?.state === 'connected') instance.state = 'lost';
      moved();
    });
  };
  let server = createServer(serve);
  const listen = () =>
    new Promise<void>((resolve) => {
      rmSync(socket, { force: true });
      server.listen(socket, () => resolve());
    });
  await listen();
  const alive = setInterval(() => {
    for (const one of sockets) tell(one, { type: 'alive' });
  }, aliveEveryMs);

  const kill = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const one of sockets) one.destroy();
    await closed;
  };
  const feed: TestFeed = {
    state,
    socket,
    keys,
    generation: () => keys.length,
    instances: () => [...instances.values()],
    use: (changes) => {
      settings = { ...settings, ...changes };
      for (const one of sockets) tell(one, { type: 'settings', settings });
    },
    refuse: (error) => {
      refusal = error;
    },
    hold: (held) => {
      isHeld = held;
      if (!held) for (const answer of heldBack.splice(0)) answer();
    },
    change: ({ mark = '', urgent = false } = {}) => {
      keys.push(keyOf(keys.length + 1, mark));
      for (const one of sockets) tell(one, { type: 'changed', urgent });
      return keys.length;
    },
    until: (what, holds, withinMs = withinMsUsual) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!holds(feed.instances())) return;
          end();
          resolve();
        };
        const timer = setTimeout(() => {
          end();
          const seen = feed.instances().map(({ name, state, status }) => ({ name, state, status }));
          reject(new Error(`Not within ${withinMs} ms: ${what}; seen: ${JSON.stringify(seen)}`));
        }, withinMs);
        const end = () => {
          clearTimeout(timer);
          waiters.delete(look);
        };
        waiters.add(look);
        look();
      }),
    adopted: (generation, withinMs) =>
      feed.until(
        `generation ${generation} adopted`,
        (all) => {
          const live = all.filter(({ state }) => state === 'connected');
          return (
            live.length > 0 &&
            live.every(({ status }) => {
              if (status === null || status.problem !== null) return false;
              if (status.state === 'idle') return true;
              return (status.generations[secretName] ?? 0) >= generation;
            })
          );
        },
        withinMs,
      ),
    kill,
    restart: async () => {
      server = createServer(serve);
      await listen();
    },
    [Symbol.asyncDispose]: async () => {
      clearInterval(alive);
      await kill();
      rmSync(state, { recursive: true, force: true });
    },
  };
  return feed;
}

/** Long enough to be redacted, and nothing that occurs by chance. */
function keyOf(generation: number, mark = ''): string {
  return `key-g${generation}${mark}-q7Zx2vTn9LbW`;
}
