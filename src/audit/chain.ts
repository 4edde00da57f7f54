/** The keyed chain of audit lines: how each follows from the one before, and what proves where it ends. */
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import type { AuditChain, AuditEvent, AuditHead, AuditLine } from '../journal/journal.ts';
import { canonicalJson } from '../secret/canonical.ts';

/** `edited`: the content changed, or the line before it did. `cut`: lines are missing at the end. */
export type AuditProblemKind = 'edited' | 'removed' | 'reordered' | 'cut' | 'head';

export interface AuditProblem {
  readonly kind: AuditProblemKind;
  /** The first line that is not as it was written, or is not there. */
  readonly seq: number;
  readonly message: string;
}

export interface VerifyingChain extends AuditChain {
  /** null where all lines from the first to `head` are as they were written; else one sentence about the first problem. */
  verify(
    lines: AsyncIterable<AuditLine> | Iterable<AuditLine>,
    head: AuditHead | null,
  ): Promise<string | null>;
  /** The same with the place, and how many lines were read. */
  verifyLines(
    lines: AsyncIterable<AuditLine> | Iterable<AuditLine>,
    head: AuditHead | null | 'unknown',
  ): Promise<{ readonly problem: AuditProblem | null; readonly lines: number }>;
}

/**
 * `key`: 32 bytes derived for the audit alone. Each line's HMAC-SHA-512 over [the mac before, its number, its text] has two
 * halves: the first is its mac and stands with it, the second stands in the head alone, as the proof. So whoever can write
 * the database but lacks the key cannot change a line, and cannot make an earlier line the end: its mac is known, its
 * proof is not.
 */
export function createAuditChain(key: Uint8Array): VerifyingChain {
  // A key object, which Node need not set up again for each line: 1.5 µs instead of 9.
  const lineKey = createSecretKey(key);
  const first = link(lineKey, '', 0, 'first').mac;

  async function verifyLines(
    lines: AsyncIterable<AuditLine> | Iterable<AuditLine>,
    head: AuditHead | null | 'unknown',
  ): Promise<{ problem: AuditProblem | null; lines: number }> {
    let last: Link = { mac: first, proof: '' };
    let count = 0;
    for await (const { seq, line, mac } of lines) {
      const expected = count + 1;
      const next = link(lineKey, last.mac, seq, line);
      const found = problemAt(expected, seq, line, same(next.mac, mac));
      if (found !== null) return { problem: found, lines: count };
      last = next;
      count = expected;
    }
    return { problem: head === 'unknown' ? null : problemAtEnd(count, last, head), lines: count };
  }

  return {
    next(head, event) {
      const seq = (head?.seq ?? 0) + 1;
      const line = lineOf(seq, event);
      const { mac, proof } = link(lineKey, head?.mac ?? first, seq, line);
      return { entry: { seq, line, mac }, head: { seq, mac, proof } };
    },
    verify: async (lines, head) => (await verifyLines(lines, head)).problem?.message ?? null,
    verifyLines,
  };
}

/** Canonical JSON, as `canonicalJson` would give it, with the known keys sorted here: this runs in every step. */
function lineOf(seq: number, event: AuditEvent): string {
  const { action, actor, at, outcome, reason, rotation, secret } = event;
  const before = JSON.stringify({
    action,
    actor: { channel: actor.channel, id: actor.id, proven: actor.proven },
    at,
  });
  const after = JSON.stringify({ outcome, reason, rotation, secret, seq });
  return `${before.slice(0, -1)},"detail":${canonicalJson(event.detail)},${after.slice(1)}`;
}

function problemAt(
  expected: number,
  seq: number,
  line: string,
  linked: boolean,
): AuditProblem | null {
  if (seq > expected) {
    const which =
      seq === expected + 1 ? `Line ${expected} is` : `Lines ${expected} to ${seq - 1} are`;
    return { kind: 'removed', seq: expected, message: `${which} missing from the audit log.` };
  }
  const inside = seqInside(line);
  if (seq < expected || (inside !== null && inside !== seq)) {
    const message = `Line ${expected} of the audit log stands in the wrong place: it is a copy of line ${inside ?? seq}, or was moved.`;
    return { kind: 'reordered', seq: expected, message };
  }
  if (linked) return null;
  const message = `Line ${seq} of the audit log was edited, or the lines before it were exchanged.`;
  return { kind: 'edited', seq, message };
}

function problemAtEnd(count: number, last: Link, head: AuditHead | null): AuditProblem | null {
  if (head === null) {
    if (count === 0) return null;
    return { kind: 'head', seq: count, message: 'The head of the audit log was removed.' };
  }
  if (count < head.seq) {
    const message = `The audit log was cut: it ends at line ${count}, line ${head.seq} was written.`;
    return { kind: 'cut', seq: count + 1, message };
  }
  if (count > head.seq) {
    const message = `The head of the audit log was set back to line ${head.seq}: line ${count} was written.`;
    return { kind: 'head', seq: head.seq, message };
  }
  if (same(last.mac, head.mac) && same(last.proof, head.proof)) return null;
  const message = `The audit log was cut: line ${count} was not its end when this deployment wrote it.`;
  return { kind: 'cut', seq: count + 1, message };
}

function seqInside(line: string): number | null {
  try {
    const { seq } = JSON.parse(line) as { seq?: unknown };
    return typeof seq === 'number' ? seq : null;
  } catch {
    return null;
  }
}

interface Link {
  readonly mac: string;
  readonly proof: string;
}

function link(key: KeyObject, before: string, seq: number, line: string): Link {
  const both = createHmac('sha512', key).update(`${before}\n${seq}\n${line}`).digest();
  return { mac: both.toString('base64url', 0, 32), proof: both.toString('base64url', 32, 64) };
}

function same(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}
