/** The state directory itself: its modes, its file system, and the empty database file, whatever the umask. */
import { constants, readFileSync, statfsSync } from 'node:fs';
import { access, mkdir, open, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { RotatedError } from '../errors.ts';
import { databaseName } from '../state-place.ts';
import { corrupt } from './database.ts';

/** The type of the file system that holds a directory, as `statfs` and the mount table name it. */
export type FileSystemOf = (directory: string) => {
  readonly magic: number;
  readonly name: string | null;
};

export interface PreparedDirectory {
  readonly path: string;
  /** Nothing can be written there: only an immutable open works. */
  readonly immutable: boolean;
}

/** From linux/magic.h and statfs(2). SQLite's locks and shared memory do not hold on any of them. */
const networkMagic: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xfe534d42, 'SMB2'],
  [0xff534d42, 'CIFS'],
  [0x01021997, '9p'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x01161970, 'GFS2'],
  [0x7461636f, 'OCFS2'],
  [0x47504653, 'GPFS'],
  [0x65735546, 'FUSE'],
]);
/** FUSE file systems on a disk of this machine. */
const localFuse = new Set(['fuseblk', 'fuse.ntfs-3g', 'fuse.gocryptfs', 'fuse.bindfs', 'virtiofs']);

/**
 * Makes the directory (0700) and an empty database file (0600) where they are missing. Throws `state-network`,
 * `state-missing`, `state-read-only`, `state-full`, `state-corrupt`, `policy-unsafe`.
 */
export async function prepareDirectory(
  directory: string,
  { readOnly, fileSystemOf }: { readonly readOnly: boolean; readonly fileSystemOf: FileSystemOf },
): Promise<PreparedDirectory> {
  const folder = resolve(directory);
  const path = join(folder, databaseName);
  if (!readOnly) await makeDirectory(folder);
  const folderStats = await statOrNull(folder);
  if (folderStats === null) throw missing(folder);
  refuseNetwork(folder, fileSystemOf);
  if ((folderStats.mode & 0o022) !== 0) {
    throw new RotatedError('policy-unsafe', `Others can write the state directory ${folder}.`, {
      next: `chmod 700 ${folder}`,
    });
  }
  if (!readOnly) await createEmpty(path);
  const stats = await statOrNull(path);
  if (stats === null) throw missing(folder);
  if (stats.size > 0) await checkHeader(path);
  const immutable = readOnly && !(await canWrite(folder));
  if (immutable) await requireNoLog(path);
  if (!readOnly && !(await canWrite(path))) throw readOnlyState(path, 'EACCES');
  return { path, immutable };
}

export function systemFileSystemOf(directory: string): {
  readonly magic: number;
  readonly name: string | null;
} {
  return { magic: statfsSync(directory).type >>> 0, name: mountType(directory) };
}

/** Read without its log, a database would show an older state as if it were the newest. */
export async function hasLog(path: string): Promise<boolean> {
  const log = await statOrNull(`${path}-wal`);
  return log !== null && log.size > 0;
}

async function requireNoLog(path: string): Promise<void> {
  if (!(await hasLog(path))) return;
  throw new RotatedError(
    'state-read-only',
    `${path} was not closed, and its log cannot be read here.`,
    {
      next: 'Copy the state directory to a place that can be written, and read it there.',
    },
  );
}

function refuseNetwork(folder: string, fileSystemOf: FileSystemOf): void {
  const { magic, name } = fileSystemOf(folder);
  const network = networkMagic.get(magic);
  if (network === undefined || (network === 'FUSE' && name !== null && localFuse.has(name))) return;
  throw new RotatedError(
    'state-network',
    `The state directory ${folder} is on a network file system (${name ?? network}): locks and syncs do not hold there.`,
    { next: 'Name a state directory on a local disk, or use PostgreSQL for several machines.' },
  );
}

/** The longest mount point above the directory, from /proc/self/mountinfo (proc(5)); null off Linux. */
function mountType(directory: string): string | null {
  try {
    let best = { point: '', type: null as string | null };
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const [before, after] = line.split(' - ');
      const point = before?.split(' ')[4]?.replaceAll('\\040', ' ');
      const type = after?.split(' ')[0];
      if (point === undefined || type === undefined) continue;
      const above = point === '/' || directory === point || directory.startsWith(`${point}/`);
      if (above && point.length >= best.point.length) best = { point, type };
    }
    return best.type;
  } catch {
    return null;
  }
}

async function makeDirectory(folder: string): Promise<void> {
  if ((await statOrNull(folder)) !== null) return;
  try {
    // Node's recursive mkdir never returns below /proc: where the folder above exists, it is not needed.
    const recursive = (await statOrNull(dirname(folder))) === null;
    await mkdir(folder, { recursive, mode: 0o700 });
  } catch (error) {
    throw writeError(error, folder);
  }
}

/** Empty, mode 0600 whatever the umask, never in place of another. Throws `refused` where there is one. */
export async function makePrivateFile(path: string): Promise<void> {
  if (await createEmpty(path)) return;
  throw new RotatedError('refused', `There is a file at ${path} already.`, {
    next: 'Name a file that does not exist yet.',
  });
}

/** False where there is one already. */
async function createEmpty(path: string): Promise<boolean> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    const file = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      // The umask may have taken bits away; SQLite gives its other two files the mode of this one.
      await file.chmod(0o600);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw writeError(error, path);
  }
}

async function checkHeader(path: string): Promise<void> {
  const file = await open(path, constants.O_RDONLY).catch((error: unknown) => {
    throw writeError(error, path);
  });
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(16), 0, 16, 0);
    if (bytesRead < 16 || buffer.toString('latin1') !== 'SQLite format 3\0') {
      throw corrupt(path, 'its first bytes are not those of a database');
    }
  } finally {
    await file.close();
  }
}

function writeError(error: unknown, path: string): RotatedError {
  const code = codeOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new RotatedError('state-full', `The disk that holds ${path} is full (${code}).`, {
      next: 'Free space on that disk.',
    });
  }
  return readOnlyState(path, code);
}

function readOnlyState(path: string, code: string): RotatedError {
  return new RotatedError('state-read-only', `${path} cannot be written (${code}).`, {
    next: 'Make the state directory writable for this user, or name another one.',
  });
}

function missing(folder: string): RotatedError {
  return new RotatedError('state-missing', `There is no state in ${folder}.`, {
    next: 'Start `rotated` once with this directory, or name the right one with --state.',
  });
}

async function canWrite(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

async function statOrNull(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
    throw readOnlyState(path, codeOf(error));
  }
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | null)?.code ?? 'unknown';
}
