/** How audit lines are written outside the database: one JSON object per line, which verifies like the database itself. */
import type { AuditLine } from '../journal/journal.ts';
import { canonicalJson } from '../secret/canonical.ts';
import { type Checkpoint, isCheckpoint } from './checkpoint.ts';

/** `{"mac": …, "event": …}` without a line break; the event holds its own number. */
export function exportLine({ line, mac }: AuditLine): string {
  return `{"mac":${JSON.stringify(mac)},"event":${line}}`;
}

/** `{"checkpoint": …}` without a line break. */
export function exportCheckpoint(checkpoint: Checkpoint): string {
  return `{"checkpoint":${canonicalJson(checkpoint)}}`;
}

/** null where it is neither: torn by a crash while it was written, or damaged. */
export function parseRecord(text: string): AuditLine | Checkpoint | null {
  const parsed = parseObject(text);
  if (parsed === null) return null;
  if (isCheckpoint(parsed['checkpoint'])) return parsed['checkpoint'];
  return lineOf(parsed);
}

export interface ParsedExport {
  readonly lines: readonly AuditLine[];
  readonly checkpoints: readonly Checkpoint[];
  /** Numbers, from 1, of lines that are neither. */
  readonly unreadable: readonly number[];
}

/**
 * Reads an exported file. What a sink wrote twice (its answer was lost) counts once; a torn line shows as unreadable, and
 * as missing to `verify` unless it was written again after it.
 */
export function parseExport(text: string): ParsedExport {
  const lines: AuditLine[] = [];
  const checkpoints: Checkpoint[] = [];
  const unreadable: number[] = [];
  const seen = new Set<string>();
  for (const [index, raw] of text.split('\n').entries()) {
    if (raw.trim() === '') continue;
    const record = parseRecord(raw);
    if (record === null) unreadable.push(index + 1);
    else if (!('line' in record)) checkpoints.push(record);
    else if (!seen.has(`${record.mac}${record.line}`)) {
      seen.add(`${record.mac}${record.line}`);
      lines.push(record);
    }
  }
  return { lines, checkpoints, unreadable };
}

function lineOf(parsed: Record<string, unknown>): AuditLine | null {
  const { mac, event } = parsed as { mac?: unknown; event?: { seq?: unknown } | null };
  const seq = event?.seq;
  if (typeof mac !== 'string' || typeof seq !== 'number') return null;
  return { seq, line: canonicalJson(event), mac };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
