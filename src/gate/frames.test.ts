/** Frames: the same wherever a stream is cut, never more of one than the cap, and batches that keep every byte in order. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createBatch, createFrames } from './frames.ts';

setFlagsFromString('--expose-gc');

/** Cuts bytes at the given places. */
function cutAt(bytes: Buffer, places: readonly number[]): readonly Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  const edges = [0, ...at, bytes.length];
  return edges.slice(1).map((edge, index) => bytes.subarray(edges[index], edge));
}

function read(chunks: readonly Buffer[], bytesMax?: number) {
  const tooLong: { head: string; tail: string }[] = [];
  const frames = createFrames(
    (head, tail) => tooLong.push({ head: head.toString(), tail: tail.toString() }),
    bytesMax,
  );
  const found = chunks.flatMap((chunk) => [...frames.push(chunk)]);
  return { frames: [...found, ...frames.end()].map(String), tooLong };
}

const line = fc.oneof(
  fc.constantFrom('', ' ', '\r', '\t \r', '{}', '{"a":"\\n"}', 'x\r'),
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.replaceAll('\n', '')),
);
const lines = fc.array(line, { maxLength: 12 });
const places = fc.array(fc.nat(2_000), { maxLength: 12 });

function isBlank(text: string): boolean {
  return /^[\r\t ]*$/.test(text);
}

describe('frames', () => {
  test('are the lines of the stream, wherever its chunks are cut', () => {
    fc.assert(
      fc.property(lines, places, fc.boolean(), (texts, at, isEnded) => {
        const whole = texts.join('\n') + (isEnded ? '\n' : '');
        const { frames, tooLong } = read(cutAt(Buffer.from(whole), at));
        const expected = whole
          .split('\n')
          .filter((text) => !isBlank(text))
          .map((text) => `${text}\n`);
        expect(frames).toEqual(expected);
        expect(tooLong).toEqual([]);
      }),
    );
  });

  test('beyond the cap are dropped whole, with both their ends, and those around them pass', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 8 }),
        places,
        (lengths, at) => {
          const texts = lengths.map((length, index) =>
            `${index}:`.padEnd(length, 'x').slice(0, length),
          );
          const whole = texts.map((text) => `${text}\n`).join('');
          const { frames, tooLong } = read(cutAt(Buffer.from(whole), at), 100);
          expect(frames).toEqual(
            texts.filter((text) => text.length < 100).map((text) => `${text}\n`),
          );
          const long = texts.filter((text) => text.length >= 100);
          expect(tooLong.map(({ tail }) => tail)).toEqual(long.map((text) => `${text}\n`));
          for (const [index, { head }] of tooLong.entries()) {
            expect(`${long[index]}\n`.startsWith(head)).toBe(true);
            expect(head.length).toBeGreaterThan(100);
          }
        },
      ),
    );
  });

  test('of exactly the cap pass, newline included', () => {
    expect(read([Buffer.from(`${'x'.repeat(9)}\n`)], 10).frames).toEqual(['xxxxxxxxx\n']);
    expect(read([Buffer.from(`${'x'.repeat(10)}\n`)], 10).frames).toEqual([]);
    // The newline that the end of the stream stands for counts as well.
    expect(read([Buffer.from('x'.repeat(9))], 10).frames).toEqual(['xxxxxxxxx\n']);
    expect(read([Buffer.from('x'.repeat(10))], 10).tooLong).toHaveLength(1);
  });

  test('beyond the cap are said once, with no more than 4 KiB of each end, and never kept', () => {
    const said: [number, number][] = [];
    const frames = createFrames((head, tail) => said.push([head.length, tail.length]), 10_000);
    const chunk = Buffer.alloc(5_000, 'y');
    for (let count = 0; count < 1_000; count++) expect(frames.push(chunk)).toEqual([]);
    expect(said).toEqual([]);
    expect(frames.push(Buffer.from('end\nnext\n')).map(String)).toEqual(['next\n']);
    expect(said).toEqual([[4_096, 4_096]]);
    expect(frames.end()).toEqual([]);
  });

  test('that pass by whole are not copied', () => {
    const chunk = Buffer.from('{"a":1}\n{"b":2}\n');
    for (const frame of createFrames(() => undefined).push(chunk)) {
      expect(frame.buffer).toBe(chunk.buffer);
    }
  });

  test('hold no more than the cap of a line without end', () => {
    const collect = runInNewContext('gc') as () => void;
    collect();
    const before = process.memoryUsage().arrayBuffers;
    const frames = createFrames(() => undefined, 1 << 20);
    for (let count = 0; count < 1_000; count++) frames.push(Buffer.alloc(64 * 1_024, 'z'));
    collect();
    // 62 MiB have passed by.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
    expect(frames.push(Buffer.from('\nok\n')).map(String)).toEqual(['ok\n']);
  });
});

describe('a batch', () => {
  test('writes every byte in the order in which frames were added, whatever memory they lie in', () => {
    const step = fc.oneof(
      fc.record({ from: fc.nat(60), length: fc.nat(20), isOther: fc.boolean() }),
      fc.constant('fresh' as const),
      fc.constant('flush' as const),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        // Two pieces of memory of their own, with the same offsets.
        const [chunk, other] = [0, 100].map((first) =>
          Buffer.from(Uint8Array.from({ length: 80 }, (_, at) => first + at).buffer),
        ) as [Buffer, Buffer];
        const written: Buffer[] = [];
        const wanted: Buffer[] = [];
        const batch = createBatch((bytes) => written.push(bytes));
        for (const one of steps) {
          if (one === 'flush') batch.flush();
          else {
            const frame =
              one === 'fresh'
                ? Buffer.from([200, 201])
                : (one.isOther ? other : chunk).subarray(one.from, one.from + one.length);
            wanted.push(frame);
            batch.add(frame);
          }
        }
        batch.flush();
        expect(Buffer.concat(written)).toEqual(Buffer.concat(wanted));
      }),
    );
  });

  test('of frames side by side is one write of the same memory', () => {
    const chunk = Buffer.from('{"a":1}\n{"b":2}\n{"c":3}\n');
    const written: Buffer[] = [];
    const batch = createBatch((bytes) => written.push(bytes));
    for (const frame of createFrames(() => undefined).push(chunk)) batch.add(frame);
    batch.flush();
    expect(written).toEqual([chunk]);
    expect(written[0]?.buffer).toBe(chunk.buffer);
    expect(written[0]?.byteOffset).toBe(chunk.byteOffset);
  });

  test('of frames whose places would fit, but in another memory, keeps both', () => {
    const [a, b] = ['aaaa\nbbbb\n', 'cccc\ndddd\n'].map((text) =>
      Buffer.from(Uint8Array.from(Buffer.from(text)).buffer),
    ) as [Buffer, Buffer];
    const written: Buffer[] = [];
    const batch = createBatch((bytes) => written.push(bytes));
    batch.add(a.subarray(0, 5));
    batch.add(b.subarray(5));
    batch.flush();
    expect(written.map(String)).toEqual(['aaaa\ndddd\n']);
  });

  test('without frames writes nothing, and nothing twice', () => {
    const written: Buffer[] = [];
    const batch = createBatch((bytes) => written.push(bytes));
    batch.flush();
    batch.add(Buffer.from('x\n'));
    batch.flush();
    batch.flush();
    expect(written.map(String)).toEqual(['x\n']);
  });
});
