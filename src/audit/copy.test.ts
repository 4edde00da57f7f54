/** Copies of the trail: what they show of themselves, and of a state that was set back, cut or rewritten with the key at hand. */
import { describe, expect, test } from 'vitest';
import type { AuditHead, AuditLine } from '../journal/journal.ts';
import { createAuditChain } from './chain.ts';
import { checkpointKey } from './checkpoint.ts';
import { compareCopy, verifyCopy } from './copy.ts';
import { exportCheckpoint, exportLine } from './export.ts';
import { parseSink, sinkName, sinkText } from './sink-spec.ts';

const chain = createAuditChain(Buffer.alloc(32, 1));
const key = checkpointKey(Buffer.alloc(32, 2));
const { publicKey } = key;

function written(count: number, change: (index: number) => string | null = () => null) {
  const lines: AuditLine[] = [];
  let head: AuditHead | null = null;
  for (let index = 1; index <= count; index++) {
    const next = chain.next(head, {
      at: index,
      actor: { id: 'a', channel: 'command', proven: true },
      action: 'x',
      secret: 'db',
      rotation: null,
      reason: change(index),
      outcome: 'done',
      detail: {},
    });
    lines.push(next.entry);
    ({ head } = next);
  }
  return lines;
}

const lines = written(30);
const at = (seq: number): AuditLine => lines[seq - 1] as AuditLine;
const checkpoint = (line: AuditLine) => exportCheckpoint(key.sign(line, 1_800_000_000_000));
const texts = (some: readonly AuditLine[]) => some.map((line) => exportLine(line));
/** As a sink leaves it: all lines, checkpoints at 10, 20 and 30. */
const whole = [
  ...texts(lines.slice(0, 10)),
  checkpoint(at(10)),
  ...texts(lines.slice(10, 20)),
  checkpoint(at(20)),
  ...texts(lines.slice(20)),
  checkpoint(at(30)),
];

const reader = (copy: readonly string[]) =>
  async function* read() {
    yield* copy;
  };
const alone = (copy: readonly string[]) => verifyCopy(reader(copy), { chain, publicKey });
const against = (state: readonly AuditLine[], copy: readonly string[], acknowledged = 0) =>
  compareCopy(reader(copy), {
    auditLines: async (from, most) => state.filter(({ seq }) => seq >= from).slice(0, most),
    publicKey,
    acknowledged,
  });

describe('a copy by itself', () => {
  test('is whole as it was written, with batches that came twice and lines torn by a crash', async () => {
    expect(await alone(whole)).toEqual({
      lines: 30,
      checkpoints: 3,
      newest: 30,
      unreadable: 0,
      problem: null,
    });
    const torn = texts([at(15)])[0]?.slice(0, 50) ?? '';
    const twice = [
      ...texts(lines.slice(0, 14)),
      torn,
      ...texts(lines.slice(8)),
      checkpoint(at(30)),
    ];
    expect(await alone(twice)).toMatchObject({ lines: 30, unreadable: 1, problem: null });
    expect(await alone([])).toMatchObject({ lines: 0, problem: null });
  });

  test('shows an edited, missing, moved and doubled line, and one of another deployment', async () => {
    const other = createAuditChain(Buffer.alloc(32, 9));
    const foreign = other.next(null, JSON.parse(at(1).line) as never).entry;
    const edited = whole.with(4, whole[4]?.replace('"secret":"db"', '"secret":"xx"') ?? '');
    for (const [copy, problem] of [
      [edited, /Line 5 .* was edited/],
      [whole.toSpliced(4, 1), /Line 5 is missing/],
      [[...whole.slice(0, 5), whole[6], whole[5], ...whole.slice(7)] as string[], /Line 6 is miss/],
      [[...whole, exportLine({ ...at(7), mac: at(8).mac })], /two different lines 7/],
      [texts([foreign]), /Line 1 .* was edited/],
      [whole.slice(14), /Lines 1 to 13 are missing/],
    ] as const) {
      expect((await alone(copy)).problem, String(problem)).toMatch(problem);
    }
  });

  test('shows a tail that was cut, where a checkpoint names it, and a checkpoint that was forged', async () => {
    const cut = [...texts(lines.slice(0, 12)), checkpoint(at(20))];
    expect((await alone(cut)).problem).toMatch(/lacks line 20, which a signed checkpoint names/);
    const stranger = checkpointKey(Buffer.alloc(32, 8)).sign(at(30), 5);
    const forged = [...whole, exportCheckpoint(stranger)];
    expect((await alone(forged)).problem).toMatch(/not signed by this deployment/);
  });

  test('may hold checkpoints alone', async () => {
    const some = [checkpoint(at(10)), checkpoint(at(30))];
    expect(await alone(some)).toMatchObject({ lines: 0, checkpoints: 2, problem: null });
    const stranger = checkpointKey(Buffer.alloc(32, 8)).sign(at(30), 5);
    expect((await alone([exportCheckpoint(stranger)])).problem).toMatch(/not signed/);
  });
});

describe('a copy and the state', () => {
  test('agree where the state went on, and where lines came twice', async () => {
    expect(await against(written(40), whole)).toMatchObject({ lines: 30, problem: null });
    const twice = [...texts(lines.slice(0, 20)), ...texts(lines.slice(5))];
    expect(await against(lines, twice, 30)).toMatchObject({ lines: 30, problem: null });
  });

  test('a state that was set back shows, from the first line it lacks', async () => {
    expect((await against(lines.slice(0, 22), whole)).problem).toMatch(
      /names line 23, which the state does not have/,
    );
  });

  test('a state rewritten as a whole with every key at hand shows', async () => {
    const forged = written(30, (seq) => (seq === 17 ? 'never happened' : null));
    expect(await chain.verify(forged, null)).toMatch(/head/);
    expect((await against(forged, whole)).problem).toMatch(/Its line 17 is another/);
    // Checkpoints alone are enough, to the next one.
    const some = [checkpoint(at(10)), checkpoint(at(20))];
    expect((await against(forged, some)).problem).toMatch(/Its line 20 is another/);
    expect((await against(forged.slice(0, 12), some)).problem).toMatch(/names line 20/);
  });

  test('a copy that was cut, emptied, edited or given a forged checkpoint shows', async () => {
    expect((await against(lines, whole.slice(0, 15), 30)).problem).toMatch(
      /ends at line 14, but had line 30/,
    );
    expect((await against(lines, [], 30)).problem).toMatch(/ends at line 0/);
    expect((await against(lines, whole.toSpliced(3, 2))).problem).toMatch(/lacks the lines 4 to 5/);
    const edited = whole.with(4, whole[4]?.replace('"secret":"db"', '"secret":"xx"') ?? '');
    expect((await against(lines, edited)).problem).toMatch(/Its line 5, or that of the state/);
    const stranger = exportCheckpoint(checkpointKey(Buffer.alloc(32, 8)).sign(at(30), 5));
    expect((await against(lines, [...whole, stranger])).problem).toMatch(/not signed/);
  });
});

describe('how a sink is written down', () => {
  test('the same sink has one text, whatever it was called, and the text is read again', () => {
    for (const [said, text, name] of [
      ['file:/var/log/a.jsonl', 'file:/var/log/a.jsonl', 'file:/var/log/a.jsonl'],
      ['file:///var//log/a b.jsonl', 'file:/var/log/a b.jsonl', 'file:/var/log/a b.jsonl'],
      ['file:a.jsonl', 'file:/here/a.jsonl', 'file:/here/a.jsonl'],
      ['exec:  logger   -t rotated ', 'exec:logger -t rotated', 'exec:logger'],
      ['exec:./ship', 'exec:/here/ship', 'exec:/here/ship'],
      ['exec:["ship","--to","a b"]', 'exec:["ship","--to","a b"]', 'exec:ship'],
    ] as const) {
      const given = sinkText(parseSink(said, '/here'));
      expect(given).toBe(text);
      expect(sinkText(parseSink(given, '/elsewhere'))).toBe(text);
      expect(sinkName(given)).toBe(name);
    }
  });

  test('what is none is refused with an example', () => {
    for (const wrong of [
      '',
      '/var/log/a',
      'file:',
      'exec:',
      'exec: ',
      'syslog:local0',
      'exec:ship "a b"',
      'exec:ship | tee x',
      'exec:ship $HOME',
      'exec:[1]',
      'exec:["a"',
      'exec:[]',
    ]) {
      expect(() => parseSink(wrong, '/'), wrong).toThrow(
        expect.objectContaining({ code: 'usage', next: expect.stringContaining('exec:') }),
      );
    }
  });
});
