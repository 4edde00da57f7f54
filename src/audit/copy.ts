/** Holds a copy of the audit trail that was kept outside against the key, and against the database: what differs shows. */
import { createHash } from 'node:crypto';
import type { AuditLine } from '../journal/journal.ts';
import type { VerifyingChain } from './chain.ts';
import { type Checkpoint, isGenuineCheckpoint, verifyCheckpoints } from './checkpoint.ts';
import { parseRecord } from './export.ts';

/** The lines of a copy as text, oldest first; called once for each pass over it. */
export type ReadCopy = () => AsyncIterable<string>;

export interface CopyAnswer {
  readonly lines: number;
  readonly checkpoints: number;
  /** The newest line it holds; 0 for none. */
  readonly newest: number;
  /** Torn by a crash while they were written, or damaged; those that were written again do no harm. */
  readonly unreadable: number;
  /** One sentence about the first thing that is wrong; null where nothing is. */
  readonly problem: string | null;
}

/**
 * By itself: every line from the first on as this deployment wrote it, every checkpoint genuine and for a line that is there.
 * A copy may hold checkpoints alone.
 */
export async function verifyCopy(
  read: ReadCopy,
  { chain, publicKey }: { readonly chain: VerifyingChain; readonly publicKey: string },
): Promise<CopyAnswer> {
  let unreadable = 0;
  let newest = 0;
  let problem: string | null = null;
  const checkpoints: Checkpoint[] = [];
  /** By number: a line that was delivered twice counts once. */
  const seen = new Map<number, string>();

  async function* once(): AsyncGenerator<AuditLine> {
    for await (const record of recordsOf(read)) {
      if (record === null) unreadable++;
      else if ('line' in record) {
        const digest = digestOf(record);
        const before = seen.get(record.seq);
        if (before === digest) continue;
        if (before !== undefined) {
          problem = `It holds two different lines ${record.seq}: it was changed, or is of two states.`;
          return;
        }
        seen.set(record.seq, digest);
        newest = Math.max(newest, record.seq);
        yield record;
      } else checkpoints.push(record);
    }
  }

  const answer = await chain.verifyLines(once(), 'unknown');
  problem = answer.problem?.message ?? problem;
  if (problem === null) {
    const found = await verifyCheckpoints(linesOf(read), checkpoints, publicKey);
    const isWithoutLines = seen.size === 0 && found?.kind !== 'head';
    problem = found === null || isWithoutLines ? null : found.message;
  }
  return { lines: seen.size, checkpoints: checkpoints.length, newest, unreadable, problem };
}

export interface ComparedWith {
  /** The database's lines, in order from a number on. */
  auditLines(from: number, most: number): Promise<readonly AuditLine[]>;
  readonly publicKey: string;
  /** The newest line that the sink acknowledged before the copy was read; 0 where unknown. */
  readonly acknowledged: number;
}

/** Whether the database still holds what the copy holds, and the copy what it acknowledged. */
export async function compareCopy(read: ReadCopy, options: ComparedWith): Promise<CopyAnswer> {
  const { publicKey, acknowledged } = options;
  const lineAt = paged(options);
  let unreadable = 0;
  let checkpoints = 0;
  let next = 1;
  let problem: string | null = null;
  for await (const record of recordsOf(read)) {
    if (record === null) {
      unreadable++;
      continue;
    }
    const ours = await lineAt(record.seq);
    if ('line' in record) {
      problem = differenceOf(record, ours, next);
      if (record.seq === next) next++;
    } else {
      checkpoints++;
      problem = isGenuineCheckpoint(record, publicKey)
        ? differenceAt(record, ours)
        : `Its checkpoint for line ${record.seq} was not signed by this deployment.`;
    }
    if (problem !== null) break;
  }
  const lines = next - 1;
  if (problem === null && lines < acknowledged) {
    problem = `It ends at line ${lines}, but had line ${acknowledged}: it was cut or exchanged.`;
  }
  return { lines, checkpoints, newest: lines, unreadable, problem };
}

function differenceOf(copy: AuditLine, ours: AuditLine | null, next: number): string | null {
  if (copy.seq > next) {
    const missing = copy.seq - 1;
    return next === missing
      ? `It lacks line ${next}.`
      : `It lacks the lines ${next} to ${missing}.`;
  }
  if (ours !== null && ours.mac === copy.mac && ours.line !== copy.line) {
    return `Its line ${copy.seq}, or that of the state, was edited.`;
  }
  return differenceAt(copy, ours);
}

function differenceAt(copy: { seq: number; mac: string }, ours: AuditLine | null): string | null {
  if (ours === null) {
    return `It names line ${copy.seq}, which the state does not have: the state was set back or cut.`;
  }
  if (ours.mac === copy.mac) return null;
  return `Its line ${copy.seq} is another than that of the state: one of the two was rewritten.`;
}

/** Lines asked for one after the other, read several at a time. */
function paged({ auditLines }: ComparedWith): (seq: number) => Promise<AuditLine | null> {
  const pageSize = 1_000;
  let page: readonly AuditLine[] = [];
  let first = 0;
  return async (seq) => {
    if (seq < first || seq >= first + pageSize || page[seq - first]?.seq !== seq) {
      first = seq;
      page = await auditLines(seq, pageSize);
    }
    const found = page[seq - first];
    return found?.seq === seq ? found : null;
  };
}

async function* recordsOf(read: ReadCopy): AsyncGenerator<AuditLine | Checkpoint | null> {
  for await (const text of read()) if (text.trim() !== '') yield parseRecord(text);
}

async function* linesOf(read: ReadCopy): AsyncGenerator<AuditLine> {
  for await (const record of recordsOf(read)) {
    if (record !== null && 'line' in record) yield record;
  }
}

function digestOf({ mac, line }: AuditLine): string {
  return createHash('sha256').update(`${mac}\n${line}`).digest('base64url').slice(0, 22);
}
