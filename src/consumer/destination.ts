/** How a file of secrets is replaced: whole or not at all, durable, for its owner alone, leaving no copy behind. */
import { constants } from 'node:fs';
import { access, type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Random } from '../clock.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import { consumerFailed, consumerUnsafe } from './failures.ts';
import { checkFolder, type Folder, ownUid, statOrNull, systemCode } from './guards.ts';

interface Owner {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly size: number;
}

interface Destination {
  readonly folder: Folder;
  /** What is there now; null where nothing is. */
  readonly existing: Owner | null;
}

/** Throws `consumer-unsafe`, `not-found` or `denied` where a file of secrets could not, or must not, be written here. */
export async function checkDestination(path: string, place: string): Promise<Destination> {
  const folder = await checkFolder(dirname(path), place);
  try {
    await access(folder.path, constants.W_OK | constants.X_OK);
  } catch {
    throw new RotatedError('denied', `${place} cannot be written: its folder is closed to us.`, {
      next: `Give the account of the daemon write access to ${folder.path}.`,
    });
  }
  const stats = await statOrNull(join(folder.path, basename(path)), place);
  if (stats === null) return { folder, existing: null };
  if (!stats.isFile()) {
    throw consumerUnsafe(
      place,
      stats.isSymbolicLink() ? 'is a link' : 'is not a plain file',
      `Remove ${path}, or name the file itself in the policy.`,
    );
  }
  // Its owner will be able to read the new value. In a folder that everybody shares, anyone could have put it there.
  const owners = folder.shared ? [ownUid(), 0] : [ownUid(), 0, folder.uid];
  if (!owners.includes(stats.uid)) {
    throw consumerUnsafe(
      place,
      `belongs to another account (uid ${stats.uid})`,
      `Remove ${path}, or give it to the account that is to read it, as well as its folder.`,
    );
  }
  return {
    folder,
    existing: { uid: stats.uid, gid: stats.gid, mode: stats.mode & 0o7777, size: stats.size },
  };
}

export interface Replacement {
  readonly path: string;
  readonly place: string;
  readonly text: string;
  readonly mode: number;
  readonly random: Random;
  readonly signal: AbortSignal;
}

/**
 * Writes `text` to a temporary file beside `path`, makes it durable, and renames it. A file that exists keeps its owner;
 * its mode becomes `mode`. Does nothing where the file already says the same. A crash leaves the old file or the new one;
 * a temporary file left by one is removed by the next call, whatever it finds to do.
 */
export async function replaceFile(replacement: Replacement): Promise<void> {
  const { path, place, text, mode, signal } = replacement;
  const { folder, existing } = await reachable(path, place);
  const name = basename(path);
  await clearLeftovers(folder.path, name, place);
  const target = join(folder.path, name);
  if (existing?.mode === mode && (await saysAlready(target, existing.size, text))) return;

  const temporary = join(
    folder.path,
    `.${name}.rotated-${replacement.random.bytes(8).toString('hex')}.tmp`,
  );
  let written = false;
  try {
    await writeNew(temporary, replacement, existing);
    signal.throwIfAborted();
    await rename(temporary, target);
    written = true;
  } catch (error) {
    throw writeFailed(error, place, path, signal);
  } finally {
    if (!written) await unlink(temporary).catch(() => undefined);
  }
  await syncFolder(folder.path);
}

async function reachable(path: string, place: string): Promise<Destination> {
  try {
    return await checkDestination(path, place);
  } catch (error) {
    if (!isRotatedError(error, 'not-found', 'denied')) throw error;
    throw consumerFailed(place, 'cannot be written now', 'none', error.next, error);
  }
}

async function writeNew(
  temporary: string,
  { text, mode }: Replacement,
  existing: Owner | null,
): Promise<void> {
  // 0600 until it has its owner: nobody may open it in between.
  const file = await open(
    temporary,
    constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    await file.writeFile(text);
    if (existing !== null) await giveTo(file, existing);
    // After chown, which clears some bits; and past the umask.
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function giveTo(file: FileHandle, owner: Owner): Promise<void> {
  const now = await file.stat();
  if (now.uid !== owner.uid || now.gid !== owner.gid) await file.chown(owner.uid, owner.gid);
}

/** The temporary files of a render that was killed hold secrets in plain text. */
async function clearLeftovers(folder: string, name: string, place: string): Promise<void> {
  const prefix = `.${name}.rotated-`;
  for (const entry of await readdir(folder)) {
    if (!entry.startsWith(prefix) || !/^[0-9a-f]{16}\.tmp$/.test(entry.slice(prefix.length))) {
      continue;
    }
    const path = join(folder, entry);
    const stats = await statOrNull(path, place);
    // In a shared folder a stranger may use such a name: it is not ours to remove.
    if (stats?.uid === ownUid() || ownUid() === 0) await unlink(path).catch(() => undefined);
  }
}

async function saysAlready(path: string, size: number, text: string): Promise<boolean> {
  const wanted = Buffer.from(text);
  if (size !== wanted.byteLength) return false;
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      return (await file.readFile()).equals(wanted);
    } finally {
      await file.close();
    }
  } catch {
    // Whatever is wrong with reading it, writing will show.
    return false;
  }
}

/** Makes the rename durable. Some file systems refuse to open a folder for it and need no such call. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY).catch(() => null);
  if (folder === null) return;
  try {
    await folder.sync().catch(() => undefined);
  } finally {
    await folder.close();
  }
}

function writeFailed(error: unknown, place: string, path: string, signal: AbortSignal) {
  if (signal.aborted) return asRotatedError(signal.reason, 'none');
  const code = systemCode(error);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return consumerFailed(
        place,
        'cannot be written: the disk is full',
        'none',
        'Free some space.',
      );
    case 'EROFS':
    case 'EACCES':
      return consumerFailed(
        place,
        `cannot be written (${code})`,
        'none',
        `Give the account of the daemon write access to the folder of ${path}.`,
      );
    case 'EPERM':
      return consumerFailed(
        place,
        'cannot keep its owner',
        'none',
        'Run the daemon as the account that owns the file, or remove the file.',
      );
    default:
      return consumerFailed(
        place,
        `could not be replaced${code === null ? '' : ` (${code})`}`,
        'none',
        'Nothing: it is tried again.',
      );
  }
}
