/** One instance behind the gate: a real feed and a real session over a cheap server, a client that counts its calls, and what is still under way. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { gateSocketPath } from '../../../src/control/socket-path.ts';
import { type Entry, entryHash } from '../../../src/gate/entry.ts';
import { createFeedSource } from '../../../src/gate/feed/source.ts';
import { frameOf } from '../../../src/gate/message.ts';
import { createSession } from '../../../src/gate/session/create.ts';
import type { InstanceStatus, ValueSource } from '../../../src/gate/source.ts';
import { gateCommand, gateServer, itemName } from '../protocol.ts';
import { type CheapProcess, createCheapServer, keepTool, useTool } from './cheap-server.ts';

export interface InstanceSettings {
  /** The case's own folder. */
  readonly directory: string;
  /** Reports for which the old process keeps a call after a swap; null: it keeps none. */
  readonly lagReports: number | null;
  readonly refuses: readonly number[];
  /** Reports that are due before it comes back, once its line was lost. */
  readonly awayReports: number;
}

export interface Instance {
  readonly id: string;
  /** Without a line, and it will not seek one for now. */
  readonly isAway: boolean;
  /** What is under way and would come to an end by itself; null where nothing is. */
  busyWith(): string | null;
  /** As it last told the daemon. */
  readonly status: InstanceStatus | null;
  processes(): readonly CheapProcess[];
  /** A report is due: counts against the lag. */
  asked(): void;
  /** Resolves with the answer to one call. */
  use(): Promise<'answered' | 'error'>;
  readonly ledger: Ledger;
  /** The line is lost without a word. */
  dropLine(): void;
  /** Its client closes; it says that it is gone. */
  leave(): Promise<void>;
}

export interface Ledger {
  sent: number;
  answered: number;
  errors: number;
  /** Answers to nothing that was asked, or asked and answered already. */
  strays: number;
}

/** Lines come back as soon as a daemon listens; a hung one is left when the test says so. */
const timing = {
  retryFirstMs: 2,
  retryMostMs: 8,
  welcomeWithinMs: 15_000,
  silenceMostMs: 600_000,
  lineWithinMs: 5_000,
};
const reference = `local://${itemName}`;

export function startInstance(settings: InstanceSettings): Instance {
  const { directory, lagReports, refuses, awayReports } = settings;
  const [command, ...args] = gateCommand;
  const launch = {
    kind: 'process',
    command,
    args,
    cwd: directory,
    env: { KEY: reference },
    files: [],
  } as const;
  const entry: Entry = { name: gateServer, launch };
  const [clock, random] = [systemClock(), systemRandom()];
  const line = { socket: null as Socket | null, isGreeted: false, tries: 0, problem: '' };
  let away: { left: number; readonly back: PromiseWithResolvers<void> } | null = null;
  const log = {
    info: () => {},
    warn: ({ code }: Record<string, unknown>, message: string) => {
      line.problem = `${message} ${typeof code === 'string' ? code : ''}`;
    },
  };
  const feed = createFeedSource({
    connect: async ({ signal }) => {
      if (line.isGreeted && awayReports > 0) {
        away = { left: awayReports, back: Promise.withResolvers() };
        signal.addEventListener('abort', () => away?.back.resolve(), { once: true });
        await away.back.promise;
      }
      const socket = createConnection(gateSocketPath(join(directory, 'state')));
      // Also once nobody waits for it any more.
      socket.on('error', () => undefined);
      line.socket = socket;
      line.isGreeted = false;
      line.tries += 1;
      await once(socket, 'connect', { signal });
      socket.once('data', () => {
        line.isGreeted = true;
      });
      return socket;
    },
    asker: { server: gateServer, hash: entryHash(entry), what: command, references: [reference] },
    clock,
    random,
    log,
    timing,
  });
  const watched = watch(feed);
  const server = createCheapServer(reference, refuses);
  const client = createClient();
  const session = createSession({
    entry,
    source: watched.source,
    startLink: server.startLink,
    client: { send: client.take, hold: () => {}, log: () => {} },
    clock,
    random,
    log,
  });
  client.connect((frame) => session.fromClient([frame]));
  let lagLeft = lagReports ?? 0;

  return {
    id: feed.instance,
    get isAway() {
      return away !== null;
    },
    busyWith: () => {
      if (away !== null) return null;
      if (line.socket?.destroyed !== false || !line.isGreeted) {
        return `it seeks the daemon (${line.tries} tries, ${line.problem})`;
      }
      if (watched.isBusy()) return 'it asks, or owes a report';
      if (!client.isIntroduced()) return 'its client says hello';
      // Beside the one that serves, only what waits for its last answer.
      const idle = server.running().filter((one) => one.kept === 0);
      return idle.length <= 1 ? null : 'an old process ends';
    },
    get status() {
      return watched.status();
    },
    processes: server.running,
    asked: () => {
      if (away !== null) {
        away.left -= 1;
        if (away.left >= 0) return;
        away.back.resolve();
        away = null;
      }
      // A call that the old process keeps is there before the next swap.
      const [old, ...newer] = server.running();
      if (old === undefined || newer.length === 0 || old.kept === 0) {
        lagLeft = lagReports ?? 0;
        if (lagReports !== null && old?.kept === 0) void client.call(keepTool);
      } else if (lagLeft > 0) lagLeft -= 1;
      else old.release();
    },
    use: () => client.call(useTool),
    ledger: client.ledger,
    dropLine: () => line.socket?.destroy(),
    leave: async () => {
      session.stop();
      await session.ended;
    },
  };
}

/** Knows whether the session still has something to do with what it was told: it asks, then reports. */
function watch(feed: ValueSource) {
  let last: InstanceStatus | null = null;
  /** Told, and not asked since. */
  let isTold = true;
  let asking = 0;
  /** Asked, and not reported since. */
  let owesReport = true;
  const source: ValueSource = {
    settings: feed.settings,
    close: feed.close,
    listen: (listener) =>
      feed.listen((notice) => {
        isTold = true;
        listener(notice);
      }),
    resolve: async (signal) => {
      isTold = false;
      asking += 1;
      owesReport = true;
      try {
        return await feed.resolve(signal);
      } finally {
        asking -= 1;
      }
    },
    report: (status) => {
      owesReport = asking > 0;
      last = status;
      feed.report(status);
    },
  };
  return { source, status: () => last, isBusy: () => isTold || asking > 0 || owesReport };
}

/** A client that says hello, then calls when told, and counts every answer. */
function createClient() {
  const ledger: Ledger = { sent: 0, answered: 0, errors: 0, strays: 0 };
  const open = new Map<number, (how: 'answered' | 'error') => void>();
  let send: (frame: Buffer) => void = () => {};
  let introduced = false;
  let lastId = 0;

  function request(method: string, params: object): Promise<'answered' | 'error'> {
    lastId += 1;
    ledger.sent += 1;
    const answered = Promise.withResolvers<'answered' | 'error'>();
    open.set(lastId, answered.resolve);
    send(frameOf({ id: lastId, method, params }));
    return answered.promise;
  }
  return {
    ledger,
    isIntroduced: () => introduced,
    call: (name: string) => request('tools/call', { name, arguments: {} }),
    connect: (to: (frame: Buffer) => void) => {
      send = to;
      const hello = {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'crash', version: '1.0.0' },
      };
      void request('initialize', hello).then(() => {
        send(frameOf({ method: 'notifications/initialized' }));
        introduced = true;
      });
    },
    take: (frames: Buffer) => {
      for (const line of frames.toString('utf8').split('\n')) {
        if (line === '') continue;
        const { id, error } = JSON.parse(line) as { id?: number; error?: object };
        if (id === undefined) continue;
        const settle = open.get(id);
        open.delete(id);
        if (settle === undefined) ledger.strays += 1;
        else if (error === undefined) ledger.answered += 1;
        else ledger.errors += 1;
        settle?.(error === undefined ? 'answered' : 'error');
      }
      return true;
    },
  };
}
