/** Sessions on disk, so that a gate that starts again goes on with its clients: what they said to begin with, and no value. */
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

/** What has to be said to a new process of the server before the client goes on with it. */
export interface SavedSession {
  /** JSON-RPC messages as the client sent them. */
  readonly initialize: string;
  readonly protocolVersion: string;
  readonly initialized: string | null;
  readonly level: string | null;
  /** By URI. */
  readonly subscriptions: Readonly<Record<string, string>>;
}

export interface SavedSessions {
  get(id: string): SavedSession | null;
  put(id: string, session: SavedSession): void;
  /** It was used now. */
  touch(id: string): void;
  remove(id: string): void;
  /** Removes those that were last used before. */
  expire(before: Date): void;
}

/** One small file for each; its name is a digest, since the id alone lets anyone speak for the client. */
export function savedSessions(folder: string, server: string): SavedSessions {
  const own = path.join(folder, digest(server));
  mkdirSync(own, { recursive: true, mode: 0o700 });
  const fileOf = (id: string) => path.join(own, `${digest(id)}.json`);
  return {
    get(id) {
      try {
        const saved = JSON.parse(readFileSync(fileOf(id), 'utf8')) as SavedSession;
        return typeof saved.initialize === 'string' ? saved : null;
      } catch {
        return null;
      }
    },
    put(id, session) {
      const file = fileOf(id);
      writeFileSync(`${file}.new`, JSON.stringify(session), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    },
    touch(id) {
      try {
        const file = fileOf(id);
        writeFileSync(file, readFileSync(file), { mode: 0o600 });
      } catch {
        // It has ended meanwhile.
      }
    },
    remove(id) {
      rmSync(fileOf(id), { force: true });
    },
    expire(before) {
      for (const name of readdirSync(own)) {
        const file = path.join(own, name);
        const stats = statSync(file, { throwIfNoEntry: false });
        if (stats !== undefined && stats.mtimeMs < before.getTime()) rmSync(file, { force: true });
      }
    },
  };
}

/** For a gate that keeps nothing. */
export function noSavedSessions(): SavedSessions {
  const sessions = new Map<string, SavedSession>();
  return {
    get: (id) => sessions.get(id) ?? null,
    put: (id, session) => void sessions.set(id, session),
    touch: () => undefined,
    remove: (id) => void sessions.delete(id),
    expire: () => undefined,
  };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
