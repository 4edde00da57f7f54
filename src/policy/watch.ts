/** Notices that a policy file was edited, added or removed, also by editors that replace files and on disks without events. */
import { type FSWatcher, readdirSync, statSync, watch } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../clock.ts';

export interface WatchOptions {
  readonly clock: Pick<Clock, 'sleep'>;
  /** Ends the watch. */
  readonly signal: AbortSignal;
  /** Told only after so long without a further event: an editor writes in several steps. */
  readonly quietMs?: number;
  /** How often to look by oneself, since network disks and replaced folders send no events. */
  readonly pollMs?: number;
}

/**
 * Calls `onChange` after edits below `target` (a folder, or one file), one call at a time; an edit during a call leads to
 * another one. Resolves when the signal ends it. What `onChange` throws ends it too.
 */
export async function watchPolicies(
  target: string,
  onChange: () => void | Promise<void>,
  options: WatchOptions,
): Promise<void> {
  const { clock, signal, quietMs = 200, pollMs = 10_000 } = options;
  const bell = createBell();
  const watcher = createWatcher(target, () => bell.ring());
  const onAbort = () => bell.ring();
  signal.addEventListener('abort', onAbort);
  let seen = snapshot(target);
  try {
    while (!signal.aborted) {
      const rang = await until(bell, clock, pollMs);
      if (signal.aborted) return;
      watcher.renew();
      if (rang) await settle(bell, clock, quietMs, signal);
      const now = snapshot(target);
      if (signal.aborted || now === seen) continue;
      seen = now;
      await onChange();
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    watcher.close();
  }
}

/** Waits until nothing has rung for `quietMs`, but not for ever: a file that is written all the time is read as it is. */
async function settle(
  bell: Bell,
  clock: Pick<Clock, 'sleep'>,
  quietMs: number,
  signal: AbortSignal,
): Promise<void> {
  const roundsMost = 50;
  for (let round = 0; round < roundsMost && !signal.aborted; round++) {
    if (!(await until(bell, clock, quietMs))) return;
  }
}

interface Bell {
  ring(): void;
  /** True where it rang since it was last taken. */
  take(): boolean;
  /** Called at the next ring. */
  wake: (() => void) | null;
}

function createBell(): Bell {
  let rang = false;
  return {
    wake: null,
    ring() {
      rang = true;
      this.wake?.();
    },
    take() {
      const was = rang;
      rang = false;
      return was;
    },
  };
}

/** True where the bell rang before the time was over. The signal rings it as well. */
async function until(bell: Bell, clock: Pick<Clock, 'sleep'>, ms: number): Promise<boolean> {
  if (bell.take()) return true;
  const over = new AbortController();
  await new Promise<void>((resolve) => {
    bell.wake = resolve;
    // The sleep rejects when the ring ends it.
    clock.sleep(ms, over.signal).then(resolve, resolve);
  });
  bell.wake = null;
  over.abort();
  return bell.take();
}

/** Events of the folder: a file that is renamed over another one would be lost to a watch of the file itself. */
function createWatcher(target: string, ring: () => void): { renew(): void; close(): void } {
  let watcher: FSWatcher | null = null;
  let inode: number | bigint | null = null;
  const stop = () => {
    watcher?.close();
    watcher = null;
  };
  const renew = () => {
    try {
      const folder = statSync(target).isDirectory() ? target : path.dirname(target);
      const now = statSync(folder).ino;
      if (watcher !== null && now === inode) return;
      stop();
      watcher = watch(folder, { persistent: false }, ring);
      // Too many watches, or the folder went away: polling goes on.
      watcher.on('error', stop);
      inode = now;
    } catch {
      stop();
    }
  };
  renew();
  return { renew, close: stop };
}

/** Changes whenever a policy file does: names, sizes, instants, inodes, owners, rights. */
function snapshot(target: string): string {
  const rowOf = (file: string): string => {
    try {
      const { ino, size, mtimeNs, ctimeNs, mode, uid } = statSync(file, { bigint: true });
      return [file, ino, size, mtimeNs, ctimeNs, mode, uid].join(' ');
    } catch {
      return `${file} -`;
    }
  };
  try {
    const { mode, uid } = statSync(target);
    const names = statSync(target).isDirectory() ? readdirSync(target) : null;
    const files = names?.filter((name) => /\.ya?ml$/.test(name)).sort() ?? [];
    return [
      `${mode} ${uid}`,
      ...(names === null ? [target] : files.map((name) => path.join(target, name))).map(rowOf),
    ].join('\n');
  } catch {
    return '-';
  }
}
