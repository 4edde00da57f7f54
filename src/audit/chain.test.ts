/** The audit chain under every kind of tampering: with lines, with the head, with exported files and checkpoints. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AuditEvent, AuditHead, AuditLine } from '../journal/journal.ts';
import { canonicalJson } from '../secret/canonical.ts';
import { createAuditChain } from './chain.ts';
import { checkpointKey, verifyCheckpoints } from './checkpoint.ts';
import { exportCheckpoint, exportLine, parseExport } from './export.ts';

const chain = createAuditChain(Buffer.alloc(32, 1));
const otherChain = createAuditChain(Buffer.alloc(32, 2));

function event(index: number, reason: string | null = null): AuditEvent {
  return {
    at: 1_800_000_000_000 + index,
    actor: { id: 'tester', channel: 'command', proven: true },
    action: 'rotation.promoted',
    secret: `s${index % 3}`,
    rotation: 'r',
    reason,
    outcome: 'done',
    detail: { index, nested: { b: [1, null], a: 'ü\n' } },
  };
}

function written(count: number, by = chain): { lines: AuditLine[]; heads: AuditHead[] } {
  const lines: AuditLine[] = [];
  const heads: AuditHead[] = [];
  for (let index = 0; index < count; index++) {
    const next = by.next(heads.at(-1) ?? null, event(index));
    lines.push(next.entry);
    heads.push(next.head);
  }
  return { lines, heads };
}

const { lines, heads } = written(12);
const head = heads.at(-1) as AuditHead;
const problemOf = async (changed: AuditLine[], end: AuditHead | null = head) =>
  (await chain.verifyLines(changed, end)).problem;
const at = (index: number): AuditLine => lines[index] as AuditLine;

describe('what was not touched', () => {
  test('a log of any length verifies, and so does an empty one', async () => {
    for (let count = 0; count <= 12; count++) {
      expect(await problemOf(lines.slice(0, count), heads[count - 1] ?? null)).toBeNull();
    }
    expect(await chain.verify(lines, head)).toBeNull();
  });

  test('a line is the canonical JSON of its number and event', () => {
    for (const [index, { seq, line }] of lines.entries()) {
      expect(line).toBe(canonicalJson({ seq, ...event(index) }));
    }
  });
});

describe('what was touched', () => {
  test('an edited line is named', async () => {
    const changed = lines.with(4, { ...at(4), line: at(4).line.replace('promoted', 'retired') });
    expect(await problemOf(changed)).toMatchObject({ kind: 'edited', seq: 5 });
  });

  test('missing lines are named, first and last', async () => {
    const problem = await problemOf([...lines.slice(0, 3), ...lines.slice(6)]);
    expect(problem).toMatchObject({ kind: 'removed', seq: 4 });
    expect(problem?.message).toBe('Lines 4 to 6 are missing from the audit log.');
  });

  test('lines that changed places, with or without their numbers, are named', async () => {
    const swapped = lines.with(3, at(7)).with(7, at(3));
    expect(await problemOf(swapped)).toMatchObject({ seq: 4 });
    const renumbered = lines.with(3, { ...at(7), seq: 4 }).with(7, { ...at(3), seq: 8 });
    expect(await problemOf(renumbered)).toMatchObject({ kind: 'reordered', seq: 4 });
  });

  test('a cut tail is named, although the remaining lines are whole', async () => {
    expect(await problemOf(lines.slice(0, 9))).toMatchObject({ kind: 'cut', seq: 10 });
    expect(await problemOf([])).toMatchObject({ kind: 'cut', seq: 1 });
  });

  test('a cut tail shows although the head was set back to the mac of an earlier line', async () => {
    for (const proof of [head.proof, '', at(8).mac, heads[3]?.proof ?? '']) {
      const back = { seq: 9, mac: at(8).mac, proof };
      expect(await problemOf(lines.slice(0, 9), back)).toMatchObject({ kind: 'cut', seq: 10 });
    }
  });

  test('a head that was removed or set back is named', async () => {
    expect(await problemOf(lines, null)).toMatchObject({ kind: 'head' });
    expect(await problemOf(lines, heads[5])).toMatchObject({ kind: 'head', seq: 6 });
  });

  test('a log written with another key is refused from its first line', async () => {
    const forged = written(12, otherChain);
    expect(await problemOf(forged.lines, forged.heads.at(-1))).toMatchObject({ seq: 1 });
  });

  test('any one change to any log is found, at or before the place it was made', async () => {
    const change = fc.oneof(
      fc.record({
        kind: fc.constant('remove' as const),
        from: fc.nat(),
        most: fc.integer({ min: 1, max: 5 }),
      }),
      fc.record({
        kind: fc.constant('swap' as const),
        from: fc.nat(),
        to: fc.nat(),
        renumber: fc.boolean(),
      }),
      fc.record({
        kind: fc.constant('insert' as const),
        from: fc.nat(),
        to: fc.nat(),
        renumber: fc.boolean(),
      }),
      fc.record({
        kind: fc.constant('flip' as const),
        from: fc.nat(),
        character: fc.nat(),
        part: fc.constantFrom('line', 'mac', 'seq'),
      }),
      fc.record({ kind: fc.constant('cut' as const), from: fc.nat(), rewind: fc.boolean() }),
      fc.record({ kind: fc.constant('forge' as const), from: fc.nat() }),
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 25 }), change, async (count, what) => {
        const good = written(count);
        let end: AuditHead | null = good.heads.at(-1) as AuditHead;
        let changed = [...good.lines];
        const from = what.from % count;
        const line = changed[from] as AuditLine;
        let place = from + 1;
        if (what.kind === 'remove') changed.splice(from, what.most);
        if (what.kind === 'swap') {
          const to = what.to % count;
          fc.pre(to !== from);
          changed[from] = changed[to] as AuditLine;
          changed[to] = line;
          if (what.renumber) changed = changed.map((one, index) => ({ ...one, seq: index + 1 }));
          place = Math.min(from, to) + 1;
        }
        if (what.kind === 'insert') {
          const to = what.to % (count + 1);
          changed.splice(to, 0, line);
          if (what.renumber) changed = changed.map((one, index) => ({ ...one, seq: index + 1 }));
          // A copy next to its line is told from it only by the number that follows.
          place = Math.max(to, from) + 2;
        }
        if (what.kind === 'flip') changed[from] = flip(line, what.part, what.character);
        if (what.kind === 'cut') {
          changed = changed.slice(0, from);
          const last = changed.at(-1);
          if (what.rewind)
            end = last === undefined ? null : { seq: last.seq, mac: last.mac, proof: end.proof };
          // Nothing is left to tell an emptied log from a new one: that is what checkpoints are for.
          fc.pre(end !== null);
        }
        if (what.kind === 'forge') {
          const before = good.heads[from - 1] ?? null;
          changed[from] = otherChain.next(before, event(from, 'forged')).entry;
        }
        const problem = await problemOf(changed, end);
        expect(problem).not.toBeNull();
        expect(problem?.seq).toBeLessThanOrEqual(place);
        expect(await chain.verify(changed, end)).toBe(problem?.message);
      }),
      { numRuns: 1_000 },
    );
  });
});

function flip(line: AuditLine, part: string, character: number): AuditLine {
  if (part === 'seq') return { ...line, seq: line.seq + 1 + (character % 3) };
  const key = part === 'mac' ? 'mac' : 'line';
  const text = line[key];
  const index = character % text.length;
  const other = text[index] === 'x' ? 'y' : 'x';
  return { ...line, [key]: text.slice(0, index) + other + text.slice(index + 1) };
}

describe('exported files', () => {
  test('an exported log verifies like the database, and shows an edit like it', async () => {
    const text = lines.map((line) => `${exportLine(line)}\n`).join('');
    const parsed = parseExport(text);
    expect(parsed).toEqual({ lines, checkpoints: [], unreadable: [] });
    expect(await chain.verify(parsed.lines, head)).toBeNull();
    const edited = parseExport(text.replace('"index":6', '"index":7'));
    expect((await chain.verifyLines(edited.lines, 'unknown')).problem).toMatchObject({
      kind: 'edited',
      seq: 7,
    });
  });

  test('a line written twice counts once, a torn one that was written again does no harm', async () => {
    const texts = lines.map((line) => exportLine(line));
    const torn = texts[5]?.slice(0, 40) ?? '';
    const text = [...texts.slice(0, 5), torn, texts[5], texts[5], ...texts.slice(6)].join('\n');
    const parsed = parseExport(text);
    expect(parsed.unreadable).toEqual([6]);
    expect(await chain.verify(parsed.lines, head)).toBeNull();
  });
});

describe('checkpoints', () => {
  const key = checkpointKey(Buffer.alloc(32, 9));
  const checkpoints = [3, 7, 11].map((index) =>
    key.sign(heads[index] as AuditHead, 1_800_000_000_000),
  );

  test('an untouched log agrees with its checkpoints, read back from a file', async () => {
    const text = checkpoints.map((checkpoint) => exportCheckpoint(checkpoint)).join('\n');
    expect(await verifyCheckpoints(lines, parseExport(text).checkpoints, key.publicKey)).toBeNull();
  });

  test('a log rewritten as a whole by someone with every key of the chain shows', async () => {
    const rewritten: AuditLine[] = [];
    let last: AuditHead | null = null;
    for (let index = 0; index < 12; index++) {
      const next = chain.next(last, event(index, index === 5 ? 'changed' : null));
      rewritten.push(next.entry);
      last = next.head;
    }
    expect(await chain.verify(rewritten, last)).toBeNull();
    expect(await verifyCheckpoints(rewritten, checkpoints, key.publicKey)).toMatchObject({
      kind: 'edited',
      seq: 8,
    });
  });

  test('a log set back to an earlier state of the whole database shows', async () => {
    expect(await chain.verify(lines.slice(0, 6), heads[5] as AuditHead)).toBeNull();
    expect(await verifyCheckpoints(lines.slice(0, 6), checkpoints, key.publicKey)).toMatchObject({
      kind: 'cut',
      seq: 8,
    });
  });

  test('a checkpoint that was edited or signed by another key is refused', async () => {
    const stranger = checkpointKey(Buffer.alloc(32, 8)).sign(head, 5);
    for (const forged of [
      { ...checkpoints[0], mac: at(4).mac },
      { ...checkpoints[1], at: 1 },
      stranger,
    ]) {
      const all = [...checkpoints, forged as (typeof checkpoints)[0]];
      expect(await verifyCheckpoints(lines, all, key.publicKey)).toMatchObject({ kind: 'head' });
    }
  });

  test('the same seed gives the same key: a restart changes no public key', () => {
    expect(checkpointKey(Buffer.alloc(32, 9)).publicKey).toBe(key.publicKey);
    expect(key.publicKey).toMatch(/^-----BEGIN PUBLIC KEY-----/);
  });
});
