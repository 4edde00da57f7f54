/** Where audit lines go besides the database: a file that only grows, a command; and how far each has got. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { runChild } from '../child.ts';
import { RotatedError } from '../errors.ts';
import type { AuditLine } from '../journal/journal.ts';
import type { Checkpoint } from './checkpoint.ts';
import { sinkName } from './sink-spec.ts';
import { exportCheckpoint, exportLine, parseExport } from './export.ts';

/** A line that a sink keeps, and all before it; `seq` 0 and `mac` '' where it keeps none. */
export type SinkPosition = Pick<AuditLine, 'seq' | 'mac'>;

export interface AuditSink extends AsyncDisposable {
  /** As it was configured: its progress is remembered under it. */
  readonly key: string;
  /** For messages and metrics: no arguments of commands. */
  readonly name: string;
  /**
   * Kept for good when the promise resolves; a repeated line does no harm. Throws RotatedErrors: the caller tries again
   * from the same line.
   */
  append(records: readonly (AuditLine | Checkpoint)[], signal: AbortSignal): Promise<void>;
  /** The newest line it holds; null where it cannot tell. Throws like `append`. */
  newest(): Promise<SinkPosition | null>;
}

/** Enough of a file's end for the newest line: events are far smaller. */
const tailBytes = 256 * 1024;

const noLine: SinkPosition = { seq: 0, mac: '' };

interface OpenFile {
  readonly file: FileHandle;
  newest: SinkPosition;
  /** Half a line stands at its end: a crash, or a failed write. */
  torn: boolean;
  /** As it was after our last write: any other size is somebody else's doing. */
  size: number;
}

/**
 * JSON lines, mode 0600, synced; works on a file with the append-only attribute (`chattr +a`). It is opened when it is first
 * needed, and again when the path leads to another file: one that was moved aside begins anew with the first line.
 */
export function fileSink(path: string): AuditSink {
  let opened: OpenFile | null = null;

  async function current(): Promise<OpenFile> {
    if (opened !== null && (await isAsWeLeftIt(path, opened))) return opened;
    await close();
    opened = await openFile(path);
    return opened;
  }

  async function close(): Promise<void> {
    const before = opened;
    opened = null;
    await before?.file.close();
  }

  return {
    key: `file:${path}`,
    name: sinkName(`file:${path}`),
    newest: async () => (await current()).newest,
    async append(records) {
      const target = await current();
      const text = records.map((record) => `${textOf(record)}\n`).join('');
      try {
        await target.file.appendFile(target.torn ? `\n${text}` : text);
        await target.file.datasync();
        target.size = (await target.file.stat()).size;
      } catch (error) {
        // What it holds now is read again before the next write.
        await close();
        throw writeError(path, error);
      }
      target.torn = false;
      for (const record of records) if ('line' in record) target.newest = record;
    },
    [Symbol.asyncDispose]: close,
  };
}

async function isAsWeLeftIt(path: string, { file, size }: OpenFile): Promise<boolean> {
  try {
    const [there, ours] = await Promise.all([lstat(path), file.stat()]);
    return there.ino === ours.ino && there.dev === ours.dev && ours.size === size;
  } catch {
    return false;
  }
}

async function openFile(path: string): Promise<OpenFile> {
  const { O_APPEND, O_CREAT, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  let file: FileHandle;
  try {
    file = await open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (error) {
    throw writeError(path, error);
  }
  try {
    const stats = await file.stat();
    refuseUnsafe(path, stats);
    const tail = await readTail(file, stats.size);
    // By number: lines written again may stand behind newer ones.
    const newest = parseExport(tail).lines.reduce<SinkPosition>(
      (last, line) => (line.seq > last.seq ? line : last),
      noLine,
    );
    if (newest === noLine && tail !== '' && !/(^|\n)\{"(mac|checkpoint)":/.test(tail)) {
      throw new RotatedError('refused', `${path} holds something else than audit lines.`, {
        next: 'Name a file of its own for the audit lines.',
      });
    }
    return {
      file,
      newest,
      // It is ended, and written again as a whole.
      torn: tail !== '' && !tail.endsWith('\n'),
      size: stats.size,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function refuseUnsafe(path: string, stats: Stats): void {
  if (!stats.isFile()) {
    throw new RotatedError('refused', `${path} is not a plain file.`, {
      next: 'Name a file of its own for the audit lines.',
    });
  }
  const uid = process.geteuid?.();
  if (uid !== undefined && stats.uid !== uid && stats.uid !== 0) {
    throw new RotatedError('policy-unsafe', `The audit file ${path} belongs to another account.`, {
      next: `chown ${uid} ${path}`,
    });
  }
  if ((stats.mode & 0o077) !== 0) {
    throw new RotatedError('policy-unsafe', `Others can read or write the audit file ${path}.`, {
      next: `chmod 600 ${path}`,
    });
  }
}

/** A command that reads JSON lines on stdin and exits with 0 once it keeps them. It cannot tell what it holds. */
export function execSink(
  command: readonly [string, ...string[]],
  {
    key,
    cwd,
    timeoutMs,
  }: { readonly key: string; readonly cwd: string; readonly timeoutMs: number },
): AuditSink {
  const [program] = command;
  return {
    key,
    name: sinkName(key),
    newest: async () => null,
    async append(records, signal) {
      const input = records.map((record) => `${textOf(record)}\n`).join('');
      const { exitCode, endedBy } = await runChild({ command, cwd, timeoutMs, signal, input });
      if (exitCode === 0) return;
      const how =
        exitCode === null ? `was ended by ${endedBy ?? 'a signal'}` : `exited with ${exitCode}`;
      throw new RotatedError('unavailable', `The audit command ${program} ${how}.`, {
        effect: 'unknown',
        next: `Run ${program} by hand; it gets the same lines again.`,
      });
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

function textOf(record: AuditLine | Checkpoint): string {
  return 'line' in record ? exportLine(record) : exportCheckpoint(record);
}

async function readTail(file: FileHandle, size: number): Promise<string> {
  const from = Math.max(0, size - tailBytes);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
  return buffer.subarray(0, bytesRead).toString();
}

function writeError(path: string, error: unknown): RotatedError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new RotatedError(
    full ? 'state-full' : 'unavailable',
    `The audit file ${path} cannot be written (${code}).`,
    { effect: 'unknown', next: 'Make it writable for this user: the lines wait in the journal.' },
  );
}
