/** What a fault case plays on: one client with a steady load, the gate before it, a server that misbehaves as told. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ServerSettings } from '../../../src/gate/settings.ts';
import { closedLoop, type Drive } from '../load/drive.ts';
import { createLedger, type Ledger, type Totals } from '../load/ledger.ts';
import { textOf } from '../load/message.ts';
import { plainDialect } from '../load/plain.ts';
import { completeServerLog, readServerLog, type ServerLog } from '../load/server-log.ts';
import { createSession, type Session } from '../load/session.ts';
import type { StdioTransport } from '../load/transport.ts';
import type { Behaviour } from '../servers/bad.ts';
import { openFeed, type TestFeed } from '../support/feed.ts';
import { launch, servers } from '../support/targets.ts';
import { within } from './expect.ts';

export interface StageOptions {
  readonly settings?: Partial<ServerSettings>;
  /** By generation of the key. */
  readonly bad?: Readonly<Record<number, Behaviour>>;
  /** Without a handshake: the case makes its own. */
  readonly isRaw?: boolean;
}

export interface Client {
  readonly transport: StdioTransport;
  readonly session: Session;
  readonly ledger: Ledger;
  /** The text of a tool's answer. Rejects with what the client was told. */
  use(tool: string, args?: Readonly<Record<string, unknown>>): Promise<string>;
  /** Which generation serves right now, as the server itself says. */
  generation(): Promise<number>;
}

export interface Stage extends AsyncDisposable {
  readonly feed: TestFeed;
  readonly client: Client;
  /** One more client of the same server. */
  another(): Promise<Client>;
  log(): ServerLog;
  /** Of the servers that were started, those that still run. */
  alive(): readonly number[];
  /** Two callers that never pause, from now until the stage is taken down or `calm` is called. */
  load(): void;
  /** Ends the load; what came of it. */
  calm(): Promise<Totals>;
}

const settleWithinMs = 5_000;

export async function openStage(options: StageOptions = {}): Promise<Stage> {
  const folder = mkdtempSync(path.join(tmpdir(), 'rotated-fault-'));
  const logFile = path.join(folder, 'calls.log');
  const feed = await openFeed({ warmMs: 200, startMs: 5_000, ...options.settings });
  const clients: Client[] = [];
  const drives: Drive[] = [];
  const open = async () => {
    const transport = launch({
      relay: 'wrap',
      server: servers.bad,
      feed,
      log: logFile,
      env: { BAD: JSON.stringify(options.bad ?? {}) },
      name: 'bad',
    });
    const ledger = createLedger(`f${clients.length}`);
    const session = createSession(plainDialect('legacy'), transport, ledger);
    const use: Client['use'] = async (name, args = {}) => {
      const call = session.ask('tools/call', { name, arguments: args });
      const result = await (name === 'hang' ? call : within(`an answer of ${name}`, call, 70_000));
      if (result['isError'] === true) throw new Error(`isError: ${textOf(result)}`);
      return textOf(result);
    };
    const client: Client = {
      transport,
      session,
      ledger,
      use,
      generation: async () => Number(/^generation (\d+)/.exec(await use('get_me'))?.[1]),
    };
    clients.push(client);
    if (options.isRaw !== true) await session.open();
    return client;
  };
  const dispose = async () => {
    for (const { session } of clients) await session.close();
    await feed[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const client = await open();
    const log = () => readServerLog(logFile);
    return {
      feed,
      client,
      another: open,
      log,
      alive: () => log().starts.flatMap(({ pid }) => (isAlive(pid) ? [pid] : [])),
      load: () => {
        drives.push(closedLoop(client.session, 2));
      },
      calm: async () => {
        await Promise.all(drives.splice(0).map((drive) => drive.stop()));
        await client.ledger.settle(settleWithinMs);
        return client.ledger.totals(await completeServerLog(logFile, client.ledger.owed()));
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A zombie is gone as far as anybody is concerned. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch {
    return false;
  }
}
