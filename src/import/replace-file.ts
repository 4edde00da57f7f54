/** A file replaced as a whole, only if it still is what was read: mode and owner kept, links followed, old or new and nothing between. */
import { constants } from 'node:fs';
import {
  type FileHandle,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '../clock.ts';
import { isRotatedError, RotatedError } from '../errors.ts';

export interface ReadFile {
  /** As it was named. */
  readonly file: string;
  /** Where it really lies. */
  readonly real: string;
  readonly bytes: Buffer;
  /** Of its owner. */
  readonly uid: number;
}

/** Where the caller is, for tests that stop it there. */
export type At = (point: 'written' | 'compared') => Promise<void> | void;

/** Throws `not-found`, `too-large`, `refused`. */
export async function readWhole(file: string, bytesMax: number): Promise<ReadFile> {
  try {
    const real = await realpath(file);
    const stats = await stat(real);
    if (!stats.isFile()) throw refused(`${file} is no file.`, 'Name the config file itself.');
    if (stats.size > bytesMax) {
      throw new RotatedError('too-large', `${file} is larger than ${bytesMax} bytes.`, {
        next: 'Name the config file of an MCP client.',
      });
    }
    return { file, real, bytes: await readFile(real), uid: stats.uid };
  } catch (error) {
    if (isRotatedError(error)) throw error;
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new RotatedError('not-found', `There is no file ${file}.`, { next: 'Check the path.' });
    }
    throw refused(`${file} cannot be read (${code}).`, 'Run this as the account that owns it.');
  }
}

/** Throws `refused`; the file is then as it was. */
export async function replaceFile(
  { file, real, bytes: expected }: ReadFile,
  bytes: Uint8Array,
  random: Random,
  at: At = () => undefined,
): Promise<void> {
  const stats = await stat(real).catch((error: unknown) => {
    throw refused(`${file} is gone (${codeOf(error)}).`, 'Check the path, then run this again.');
  });
  if (stats.nlink > 1) {
    throw refused(
      `${file} has another hard link, which would go on holding its keys.`,
      'Make it a file of its own (cp, then mv), then run this again.',
    );
  }
  const folder = path.dirname(real);
  const own = `.${path.basename(real)}.`;
  const aside = path.join(folder, `${own}${random.bytes(6).toString('hex')}.tmp`);
  await removeStrays(folder, own);
  try {
    await writeAside(
      aside,
      bytes,
      { mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid },
      file,
    );
    await at('written');
    // Between this look and the rename there is no way to hold a writer off: it is as short as it can be.
    if (!(await readFile(real)).equals(expected)) {
      throw refused(
        `${file} was changed meanwhile: nothing was written.`,
        'Run this again; close the client first if it keeps writing the file.',
      );
    }
    await at('compared');
    await rename(aside, real);
  } catch (error) {
    await rm(aside, { force: true });
    if (isRotatedError(error)) throw error;
    throw refused(
      `${file} cannot be replaced (${codeOf(error)}).`,
      `Check who may write ${folder}.`,
    );
  }
  await syncFolder(folder);
}

/** What an import or an undo that was killed left behind; the latter's holds the keys. */
async function removeStrays(folder: string, own: string): Promise<void> {
  const strays = (await readdir(folder)).filter(
    (name) => name.startsWith(own) && /^[0-9a-f]{12}\.tmp$/.test(name.slice(own.length)),
  );
  for (const name of strays) await rm(path.join(folder, name), { force: true });
}

async function writeAside(
  aside: string,
  bytes: Uint8Array,
  rights: { readonly mode: number; readonly uid: number; readonly gid: number },
  file: string,
): Promise<void> {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const handle = await open(aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    await handle.writeFile(bytes);
    await keepOwner(handle, rights, file);
    await handle.chmod(rights.mode);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function keepOwner(
  handle: FileHandle,
  { uid, gid }: { readonly uid: number; readonly gid: number },
  file: string,
): Promise<void> {
  const own = await handle.stat();
  if (own.uid === uid && own.gid === gid) return;
  try {
    await handle.chown(uid, gid);
  } catch {
    throw refused(
      `${file} belongs to another account or group, which could not be kept.`,
      'Run this as the account that owns it.',
    );
  }
}

/** So that the rename itself is on the disk. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function refused(message: string, next: string): RotatedError {
  return new RotatedError('refused', message, { next });
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | null)?.code ?? 'unknown';
}
