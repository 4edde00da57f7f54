/** The gate as a whole: the servers of a file, each with its line to its secrets, behind one port. */
import type { Secret } from '../../secret/secret.ts';
import { type Entry, entryHash, referencesOf, warningsOf } from '../entry.ts';
import { describeLaunch, serverNameOf } from '../feed/identity.ts';
import { type Connect, createFeedSource } from '../feed/source.ts';
import { processLink } from '../process-link.ts';
import type { ServerEntry } from '../servers-file.ts';
import { defaultSettings } from '../settings.ts';
import type { ValueSource } from '../source.ts';
import type { Around, Backend } from './backend.ts';
import { createHttpClient, type HttpClient } from './client.ts';
import { type Front, openFront } from './front.ts';
import { createPassThrough } from './passthrough.ts';
import { noSavedSessions, savedSessions } from './saved-sessions.ts';
import { shareSource } from './shared-source.ts';
import { createStdioBackend } from './stdio-backend.ts';

export interface GateOptions extends Around {
  readonly servers: readonly ServerEntry[];
  /** The line to the daemon for a server with these references. */
  connect(references: readonly string[]): Connect;
  readonly host: string;
  readonly port: number;
  readonly token: Secret | null;
  readonly hosts: readonly string[];
  /** Where sessions outlive the gate; null: nowhere. */
  readonly sessions: string | null;
}

/** Throws `refused` where the address is not safe or not free. */
export async function openGate(options: GateOptions): Promise<Front> {
  const { servers, log } = options;
  const client = createHttpClient();
  const backends = new Map<string, Backend>();
  for (const server of servers) {
    const { entry } = server;
    for (const warning of warningsOf(entry))
      log.warn({ server: entry.name, warning }, 'about a server');
    backends.set(entry.name, backendOf(server, options, client));
  }
  try {
    const front = await openFront({ ...options, backends });
    return {
      address: front.address,
      async close() {
        await front.close();
        client.close();
      },
    };
  } catch (error) {
    await Promise.all([...backends.values()].map((backend) => backend.close()));
    throw error;
  }
}

function backendOf(
  { entry, settings }: ServerEntry,
  options: GateOptions,
  client: HttpClient,
): Backend {
  const shared = shareSource(sourceOf(entry, options), settings);
  if (entry.launch.kind === 'remote') {
    const through = createPassThrough(entry, shared.share(), client, options);
    return {
      handle: through.handle,
      async close() {
        await through.close();
        await shared.close();
      },
    };
  }
  const saved =
    options.sessions === null ? noSavedSessions() : savedSessions(options.sessions, entry.name);
  const { clock, random, log } = options;
  const startLink = processLink(entry.launch);
  return createStdioBackend({ clock, random, log, entry, shared, startLink }, saved);
}

function sourceOf(entry: Entry, { connect, clock, random, log }: GateOptions): ValueSource {
  const references = referencesOf(entry);
  if (references.length === 0) return nothingToResolve();
  return createFeedSource({
    connect: connect(references),
    asker: {
      server: serverNameOf(entry.name),
      hash: entryHash(entry),
      what: describeLaunch(entry.launch),
      references,
    },
    clock,
    random,
    log,
  });
}

/** A server without references needs nobody who holds its secrets. */
function nothingToResolve(): ValueSource {
  return {
    settings: () => defaultSettings,
    resolve: async () => ({ values: new Map(), generations: {} }),
    listen: () => undefined,
    report: () => undefined,
    close: async () => undefined,
  };
}
