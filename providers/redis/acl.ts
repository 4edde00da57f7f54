/** The admin commands of Redis that rotation needs, and what their answers mean. */
import type { Clock } from '../../src/clock.ts';
import { RotatedError } from '../../src/errors.ts';
import type { Connection } from './connection.ts';
import type { RedisOptions } from './options.ts';

export interface AclUser {
  readonly enabled: boolean;
  /** Accepts any password: rotation would be for show. */
  readonly anyPassword: boolean;
  /** SHA-256 of each password, 64 hex digits; Redis keeps nothing else. */
  readonly hashes: readonly string[];
  /** The commands it may run, as Redis prints them. */
  readonly commands: string;
}

/** How long the revoke waits for a session of the user to be between two requests before it ends it anyway. */
const patienceMs = 3_000;
const roundMs = 100;

/** null where there is no such user. */
export async function readUser(connection: Connection, user: string): Promise<AclUser | null> {
  const reply = await connection.send(['ACL', 'GETUSER', user], 'none');
  if (reply === null) return null;
  const parts = asPairs(reply);
  const flags = asTexts(parts.get('flags'));
  return {
    enabled: flags.includes('on'),
    anyPassword: flags.includes('nopass'),
    hashes: asTexts(parts.get('passwords')).filter((hash) => /^[0-9a-f]{64}$/.test(hash)),
    commands: asText(parts.get('commands')),
  };
}

export async function addHash(connection: Connection, user: string, hash: string): Promise<void> {
  // Never `>password`: what stands in a command is seen by whoever watches (a proxy, and MONITOR before Redis 7).
  await connection.send(['ACL', 'SETUSER', user, `#${hash}`], 'unknown');
}

export async function removeHash(
  connection: Connection,
  user: string,
  hash: string,
): Promise<void> {
  await connection.send(['ACL', 'SETUSER', user, `!${hash}`], 'unknown');
}

/** The ids of the sessions that were open when the hash was removed: later ones cannot have used it. */
export async function removeHashOf(
  connection: Connection,
  user: string,
  hash: string,
): Promise<ReadonlySet<string>> {
  // Sent in one write: Redis runs what one client has sent before it turns to the next.
  const [, open] = await Promise.all([
    removeHash(connection, user, hash),
    openSessions(connection, user),
  ]);
  return open;
}

export async function openSessions(
  connection: Connection,
  user: string,
): Promise<ReadonlySet<string>> {
  return new Set((await clientsOf(connection, user)).map(({ id }) => id));
}

/** Makes ACL changes outlive the server. False where `auto` found no way that the server allows. */
export async function persist(
  connection: Connection,
  aclSave: RedisOptions['aclSave'],
): Promise<boolean> {
  switch (aclSave) {
    case 'none':
      return true;
    case 'aclfile':
      await saved(connection, ['ACL', 'SAVE']);
      return true;
    case 'config':
      await saved(connection, ['CONFIG', 'REWRITE']);
      return true;
    case 'auto':
      return (
        (await isSaved(connection, ['ACL', 'SAVE'])) || isSaved(connection, ['CONFIG', 'REWRITE'])
      );
    default:
      return aclSave satisfies never;
  }
}

async function saved(connection: Connection, command: readonly string[]): Promise<void> {
  try {
    await connection.send(command, 'unknown');
  } catch (error) {
    if (!(error instanceof RotatedError)) throw error;
    throw new RotatedError(
      error.code,
      `The change is in effect, but ${command.join(' ')} failed: ${error.message}`,
      {
        effect: 'applied',
        next: 'Configure an aclfile, or set aclSave to what the server has; the call is tried again.',
      },
    );
  }
}

/** The server said no: it has no such file, or the admin no such right. A broken connection is thrown. */
async function isSaved(connection: Connection, command: readonly string[]): Promise<boolean> {
  try {
    await connection.send(command, 'unknown');
    return true;
  } catch (error) {
    if (error instanceof RotatedError && error.effect === 'none') return false;
    throw error;
  }
}

/**
 * Ends these sessions of `user`. Redis does not say with which password a session logged in, so they are all that were
 * open when one was removed. Each is ended between two requests where it pauses within the patience.
 */
export async function endSessions(
  connection: Connection,
  user: string,
  doomed: ReadonlySet<string>,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += roundMs) {
    const open = (await clientsOf(connection, user)).filter(({ id }) => doomed.has(id));
    if (open.length === 0) return;
    const isLastCall = waitedMs >= patienceMs;
    for (const client of open) {
      if (client.quiet || isLastCall)
        await connection.send(['CLIENT', 'KILL', 'ID', client.id], 'unknown');
    }
    await clock.sleep(roundMs, signal);
  }
}

interface Client {
  readonly id: string;
  /** No request in its buffers, no transaction or blocking command, nothing for a second. */
  readonly quiet: boolean;
}

async function clientsOf(connection: Connection, user: string): Promise<readonly Client[]> {
  const reply = await connection.send(['CLIENT', 'LIST'], 'none');
  return String(reply)
    .split('\n')
    .map((line) => new Map(line.split(' ').map((part) => splitOnce(part))))
    .filter((client) => client.get('user') === user)
    .flatMap((client) => {
      const id = client.get('id');
      if (id === undefined || !/^\d{1,20}$/.test(id)) return [];
      const quiet =
        client.get('qbuf') === '0' &&
        client.get('multi') === '-1' &&
        client.get('flags')?.includes('b') !== true &&
        Number(client.get('idle')) >= 1;
      return [{ id, quiet }];
    });
}

function splitOnce(part: string): [string, string] {
  const at = part.indexOf('=');
  return at < 0 ? [part, ''] : [part.slice(0, at), part.slice(at + 1)];
}

function asPairs(reply: unknown): ReadonlyMap<string, unknown> {
  if (!Array.isArray(reply)) throw unreadable();
  const pairs = new Map<string, unknown>();
  for (let index = 0; index + 1 < reply.length; index += 2) {
    pairs.set(String(reply[index]), reply[index + 1]);
  }
  return pairs;
}

function asTexts(reply: unknown): readonly string[] {
  if (!Array.isArray(reply)) throw unreadable();
  return reply.filter((item) => typeof item === 'string');
}

function asText(reply: unknown): string {
  if (typeof reply !== 'string') throw unreadable();
  return reply;
}

function unreadable(): RotatedError {
  return new RotatedError(
    'invalid-answer',
    'Redis answered in a form that ACL commands do not have.',
    {
      next: 'Check that host and port are those of a Redis server of version 6.2 or later.',
    },
  );
}
