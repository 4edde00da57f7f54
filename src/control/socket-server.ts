/** A socket in the private folder of a state directory: whoever owns the state listens, and nobody else takes its place away. */
import { renameSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { prepareSocketFolder } from './socket-path.ts';

export interface PrivateServer {
  readonly path: string;
  /** No further connection; resolves when the open ones have ended. */
  close(): Promise<void>;
}

export interface PrivateServerOptions {
  /** From `controlSocketPath` or `gateSocketPath`. */
  readonly path: string;
  /** A name of this owner alone beside it, such as its fence gives: at most 12 characters. */
  readonly ownName: string;
  readonly connectionsMax: number;
  onConnection(socket: Socket): void;
}

/** Throws what `prepareSocketFolder` throws, and where the folder cannot be written. */
export async function servePrivately(options: PrivateServerOptions): Promise<PrivateServer> {
  prepareSocketFolder(options.path);
  const server = createServer((socket) => options.onConnection(socket));
  server.maxConnections = options.connectionsMax;
  // Bound under a name of its own and renamed: closing unlinks the name that was bound, so a hung owner that wakes up after
  // a takeover cannot take the new owner's socket away.
  const own = path.join(path.dirname(options.path), options.ownName);
  rmSync(own, { force: true });
  await listen(server, own);
  renameSync(own, options.path);
  const inode = statSync(options.path).ino;
  return {
    path: options.path,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      if (inodeOf(options.path) === inode) rmSync(options.path, { force: true });
      await closed;
    },
  };
}

function listen(server: Server, at: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(at, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
}

function inodeOf(file: string): number | null {
  try {
    return statSync(file).ino;
  } catch {
    return null;
  }
}
