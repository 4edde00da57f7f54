/** Where the control socket of a state directory lies, and that nobody but its owner can reach it. */
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { RotatedError } from '../errors.ts';

/** `sun_path` holds 104 bytes on macOS and 108 on Linux, the final zero included. */
const pathBytesMax = 103;
/** What a server's own name for the socket adds: see `socket-server.ts`. */
const nameSlackBytes = 16;

/**
 * `<state>/run/control.sock`. Where that is too long for a socket's address: `/tmp/rotated-<uid>/<hash>/control.sock`, the
 * uid being the state directory's owner, so that both ends find it from the state directory alone.
 */
export function controlSocketPath(state: string): string {
  const directory = path.resolve(state);
  const near = path.join(directory, 'run', 'control.sock');
  if (Buffer.byteLength(near) + nameSlackBytes <= pathBytesMax) return near;
  const hash = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  return path.join('/tmp', `rotated-${ownerOf(directory)}`, hash, 'control.sock');
}

/** Where running servers' shims reach the daemon: beside the control socket. */
export function gateSocketPath(state: string): string {
  return path.join(path.dirname(controlSocketPath(state)), 'gate.sock');
}

/** Makes the socket's folder, mode 0700. Throws `refused` where it exists and others could get in. */
export function prepareSocketFolder(socket: string): void {
  const folder = path.dirname(socket);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  assertOwn(folder);
  if (folder.startsWith('/tmp/')) assertOwn(path.dirname(folder));
  chmodSync(folder, 0o700);
}

/**
 * Throws `refused` where the socket's folder belongs to another account than the state directory, or is open to others:
 * whoever answers there need not be the daemon. Returns the uid that the folder proves, null where there is no folder.
 */
export function socketFolderOwner(state: string, socket: string): number | null {
  const folder = path.dirname(socket);
  let stats: ReturnType<typeof lstatSync>;
  try {
    stats = lstatSync(folder);
  } catch {
    return null;
  }
  if (!stats.isDirectory() || (stats.mode & 0o077) !== 0 || stats.uid !== ownerOf(state)) {
    throw new RotatedError('refused', `The control socket's folder ${folder} is not private.`, {
      next: `Run: chmod 700 ${folder}, and check that it belongs to the owner of ${state}.`,
    });
  }
  return stats.uid;
}

function assertOwn(folder: string): void {
  const stats = lstatSync(folder);
  if (stats.isDirectory() && stats.uid === process.getuid?.() && (stats.mode & 0o022) === 0) return;
  throw new RotatedError('refused', `The control socket's folder ${folder} is not ours alone.`, {
    next: `Remove it, or make it yours: owner uid ${process.getuid?.() ?? 'yours'}, mode 0700.`,
  });
}

function ownerOf(directory: string): number {
  try {
    return statSync(directory).uid;
  } catch {
    return process.getuid?.() ?? 0;
  }
}
