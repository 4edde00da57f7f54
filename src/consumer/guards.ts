/** Which files and folders on this machine are believed: opened without following links, owned by whom we trust, not writable by strangers. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { runChild } from '../child.ts';
import { asRotatedError, RotatedError } from '../errors.ts';
import { consumerUnsafe } from './failures.ts';

/** Writable by the group or by everybody. */
const strangersWrite = 0o022;
const everybodyWrites = 0o002;
const stickyBit = 0o1000;

export function ownUid(): number {
  // Absent on Windows, where the guards by owner say nothing.
  return process.geteuid?.() ?? 0;
}

/**
 * The file's text, if it is a plain file of one of `owners` that nobody else can write, in a folder that strangers cannot
 * change. Throws `not-found` (no such file) or `consumer-unsafe`; `what` begins the message.
 */
export async function readTrusted(
  path: string,
  what: string,
  trust: {
    /** null: any owner, where the folder is not everybody's. */
    readonly owners: readonly number[] | null;
    readonly writers: 'owner' | 'group';
    readonly bytesMax: number;
  },
): Promise<{ text: string; writtenAt: number }> {
  const folder = await checkFolder(dirname(path), what);
  const file = await openPlain(join(folder.path, basename(path)), what);
  try {
    const stats = await file.stat();
    const owners = trust.owners ?? (folder.shared ? [ownUid(), 0] : null);
    if (!stats.isFile()) throw consumerUnsafe(what, 'is not a plain file', mend(path));
    if (owners !== null && !owners.includes(stats.uid)) {
      throw consumerUnsafe(what, `belongs to another account (uid ${stats.uid})`, mend(path));
    }
    if ((stats.mode & (trust.writers === 'owner' ? strangersWrite : everybodyWrites)) !== 0) {
      throw consumerUnsafe(what, 'can be written by others', `Run chmod go-w ${path}.`);
    }
    if (stats.size > trust.bytesMax) {
      throw consumerUnsafe(what, `is longer than ${trust.bytesMax} bytes`, mend(path));
    }
    return { text: await file.readFile('utf8'), writtenAt: stats.mtimeMs };
  } finally {
    await file.close();
  }
}

export interface Folder {
  /** Without links: what was checked is what is then used. */
  readonly path: string;
  /** Everybody may create files there, kept from touching each other's by the sticky bit, as in /tmp. */
  readonly shared: boolean;
  readonly uid: number;
}

/**
 * Refuses a folder in which everybody could replace what we read or write, or that is reached through a link or another
 * folder that a stranger could turn elsewhere. `/var/run`, root's own link, is fine.
 */
export async function checkFolder(path: string, what: string): Promise<Folder> {
  const trusted = [ownUid(), 0];
  for (const each of upwards(path)) {
    const stats = await statOrNull(each, what);
    if (stats === null) throw notFound(what, `its folder ${path} does not exist`, path);
    if (stats.isSymbolicLink() && !trusted.includes(stats.uid)) {
      throw consumerUnsafe(what, `is reached through a stranger's link (${each})`, mend(each));
    }
  }
  const real = await realpath(path);
  let leaf: Folder | null = null;
  for (const each of upwards(real)) {
    const stats = await statOrNull(each, what);
    if (stats?.isDirectory() !== true) {
      throw consumerUnsafe(what, `is not in a folder (${each})`, mend(each));
    }
    const shared = (stats.mode & everybodyWrites) !== 0;
    if (shared && !((stats.mode & stickyBit) !== 0 && trusted.includes(stats.uid))) {
      throw consumerUnsafe(
        what,
        `is in a folder that everybody can write (${each})`,
        `Run chmod o-w ${each}.`,
      );
    }
    leaf ??= { path: real, shared, uid: stats.uid };
  }
  if (leaf === null) throw notFound(what, `its folder ${path} does not exist`, path);
  return leaf;
}

/** The folder itself, then its parents up to the root. */
function upwards(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...upwards(parent)];
}

/** The path's own record, a link's included; null where nothing is there. */
export async function statOrNull(path: string, what: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw unreadable(error, what, path);
  }
}

async function openPlain(path: string, what: string): Promise<FileHandle> {
  try {
    // NONBLOCK: a pipe put in its place must not hang the daemon.
    return await open(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | (constants.O_NONBLOCK ?? 0),
    );
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') throw notFound(what, 'does not exist', path);
    if (code === 'ELOOP' || code === 'EMLINK') {
      throw consumerUnsafe(what, 'is a link', 'Name the file itself in the policy.');
    }
    throw unreadable(error, what, path);
  }
}

/** The uid behind an account name or number of a policy; our own where null. */
export async function uidOf(
  owner: string | null,
  directory: string,
  signal: AbortSignal,
): Promise<number> {
  if (owner === null) return ownUid();
  if (/^\d{1,10}$/.test(owner)) return Number(owner);
  const refused = (cause?: RotatedError) =>
    new RotatedError('policy-invalid', `The account ${owner} does not exist on this machine.`, {
      next: 'Write an account name or a numeric uid after `owner:`.',
      ...(cause === undefined ? {} : { cause }),
    });
  if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/.test(owner)) throw refused();
  // `id` asks whatever directory service the machine uses, which reading /etc/passwd would miss.
  const { exitCode, stdout } = await runChild({
    command: ['id', '-u', owner],
    cwd: directory,
    timeoutMs: 5_000,
    signal,
    outputBytesMax: 100,
  });
  if (exitCode !== 0 || !/^\d{1,10}\s*$/.test(stdout)) throw refused();
  return Number(stdout);
}

export function systemCode(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : null;
}

function notFound(what: string, problem: string, path: string): RotatedError {
  return new RotatedError('not-found', `${what}: ${problem}.`, {
    next: `Create ${path}, or correct the path in the policy.`,
  });
}

function unreadable(error: unknown, what: string, path: string): RotatedError {
  const code = systemCode(error);
  if (code !== 'EACCES' && code !== 'EPERM') return asRotatedError(error, 'none');
  return new RotatedError('denied', `${what} cannot be read.`, {
    next: `Give the account of the daemon access to ${path}.`,
  });
}

function mend(path: string): string {
  return `Look at ${path}: it is not what the policy means.`;
}
