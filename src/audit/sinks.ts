/** Where audit lines go besides the database: a file that only grows, a command; and how far each has got. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { runChild } from '../child.ts';
import { RotatedError } from '../errors.ts';
import type { AuditLine } from '../journal/journal.ts';
import { type Checkpoint } from './checkpoint.ts';
import { exportCheckpoint, exportLine, parseExport } from './export.ts';

export interface AuditSink extends AsyncDisposable {
  /** For messages and as the name its progress is remembered under. */
  readonly name: string;
  /**
   * Kept for good when the promise resolves; a repeated line does no harm. Throws RotatedErrors: the caller tries again
   * from the same line.
   */
  append(records: readonly (AuditLine | Checkpoint)[], signal: AbortSignal): Promise<void>;
  /** The newest line it holds, 0 for none; null where it cannot tell. */
  lastSeq(): Promise<number | null>;
}

/** Lines handed to a sink at once. */
const batchLines = 500;
/** Enough of a file's end for the newest line: events are far smaller. */
const tailBytes = 256 * 1024;

/**
 * Hands over what the sink lacks, in order, and tells the next line number. `from` counts where the sink cannot tell what
 * it holds. A sink that fails loses nothing: the lines stay in the journal.
 */
export async function deliver(
  journal: { auditLines(from: number, most: number): Promise<readonly AuditLine[]> },
  sink: AuditSink,
  { from, signal }: { readonly from: number; readonly signal: AbortSignal },
): Promise<number> {
  const last = await sink.lastSeq();
  let next = last === null ? from : last + 1;
  for (;;) {
    const lines = await journal.auditLines(next, batchLines);
    const newest = lines.at(-1);
    if (newest === undefined) return next;
    await sink.append(lines, signal);
    next = newest.seq + 1;
  }
}

/** JSON lines, mode 0600, synced; works on a file with the append-only attribute (`chattr +a`). */
export async function fileSink(path: string): Promise<AuditSink> {
  const { O_APPEND, O_CREAT, O_RDWR, O_NOFOLLOW } = constants;
  let file: FileHandle;
  try {
    file = await open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw writeError(path, error);
  }
  const { mode, size } = await file.stat();
  if ((mode & 0o077) !== 0) {
    await file.close();
    throw new RotatedError('policy-unsafe', `Others can read or write the audit file ${path}.`, {
      next: `chmod 600 ${path}`,
    });
  }
  const tail = await readTail(file, size);
  // A crash in the middle of a write left half a line: it is ended, and written again as a whole.
  let torn = tail !== '' && !tail.endsWith('\n');
  let newest = parseExport(tail).lines.at(-1)?.seq ?? 0;
  return {
    name: `file ${path}`,
    lastSeq: async () => newest,
    async append(records) {
      const text = records.map((record) => `${textOf(record)}\n`).join('');
      try {
        await file.appendFile(torn ? `\n${text}` : text);
        await file.datasync();
        torn = false;
      } catch (error) {
        torn = true;
        throw writeError(path, error);
      }
      for (const record of records) if ('line' in record) newest = Math.max(newest, record.seq);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** A command that reads JSON lines on stdin and exits with 0 once it keeps them. */
export function execSink(
  command: readonly [string, ...string[]],
  { cwd, timeoutMs }: { readonly cwd: string; readonly timeoutMs: number },
): AuditSink {
  const [program] = command;
  return {
    name: `command ${program}`,
    lastSeq: async () => null,
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
