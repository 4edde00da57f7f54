/** Delivery to sinks on a real journal: in order, at least once, whatever the sinks, the process and the state do meanwhile. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock, systemRandom } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { AuditLine } from '../journal/journal.ts';
import { memoryState, openSqliteJournal, type SqliteJournal } from '../journal/sqlite.ts';
import { createAuditChain } from './chain.ts';
import { type Checkpoint, checkpointKey, isGenuineCheckpoint } from './checkpoint.ts';
import { type Shipping, type ShippingTiming, startShipping } from './shipping.ts';
import type { AuditSink, SinkPosition } from './sinks.ts';

const chain = createAuditChain(Buffer.alloc(32, 1));
const key = checkpointKey(Buffer.alloc(32, 2));
const actor = { id: 'tester', channel: 'daemon', proven: true } as const;
const clock = systemClock();

let journal: SqliteJournal;
let fence = 0;
const running: Shipping[] = [];

beforeEach(async () => {
  journal = await openSqliteJournal({ directory: memoryState(), clock, chain });
  ({ fence } = await journal.acquire({ pid: 1, host: 'here', what: 'test' }, 600_000));
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.drop()));
  await journal[Symbol.asyncDispose]();
});

interface Fake extends AuditSink {
  readonly records: (AuditLine | Checkpoint)[];
  lines(): number[];
  checkpoints(): Checkpoint[];
  /** Thrown by every append while it is set. */
  fail: Error | null;
  attempts: number;
  /** Called before each append. */
  before: ((signal: AbortSignal) => Promise<void>) | null;
}

/** A command that keeps what it gets, or a file that also tells what it holds. */
function fake(name: string, tells = false): Fake {
  const records: (AuditLine | Checkpoint)[] = [];
  const kept = () => records.filter((record): record is AuditLine => 'line' in record);
  const sink: Fake = {
    key: `file:/${name}`,
    name: `file:/${name}`,
    records,
    lines: () => kept().map(({ seq }) => seq),
    checkpoints: () => records.filter((record): record is Checkpoint => !('line' in record)),
    fail: null,
    attempts: 0,
    before: null,
    append: async (more, signal) => {
      sink.attempts++;
      await sink.before?.(signal);
      if (sink.fail !== null) throw sink.fail;
      records.push(...more);
    },
    newest: async (): Promise<SinkPosition | null> =>
      tells ? (kept().at(-1) ?? { seq: 0, mac: '' }) : null,
    [Symbol.asyncDispose]: async () => {},
  };
  return sink;
}

const down = new RotatedError('unavailable', 'The far side is down.', { next: 'Look there.' });
const quick: Partial<ShippingTiming> = { gatherMs: 0, retryFirstMs: 5, retryLastMs: 20 };

async function ship(
  sinks: readonly AuditSink[],
  more: {
    readonly timing?: Partial<ShippingTiming>;
    readonly clock?: Clock;
    readonly fence?: number;
    readonly journal?: Pick<SqliteJournal, 'auditLines' | 'auditHead' | 'auditSinks' | 'commit'>;
    readonly log?: (message: string, fields: Record<string, unknown>) => void;
  } = {},
): Promise<Shipping> {
  const log = (fields: Record<string, unknown>, message: string) => more.log?.(message, fields);
  const shipping = await startShipping({
    sinks,
    journal: more.journal ?? journal,
    fence: more.fence ?? fence,
    checkpoints: key,
    clock: more.clock ?? clock,
    random: systemRandom(),
    log: { info: log, warn: log },
    actor,
    timing: { ...quick, ...more.timing },
  });
  running.push(shipping);
  return shipping;
}

/** One commit with so many lines; `shipping` hears of it as it would from the journal. */
async function write(count: number, shipping?: Shipping): Promise<number> {
  await journal.commit({
    fence,
    audit: Array.from({ length: count }, (_, index) => ({
      at: clock.now(),
      actor,
      action: 'rotation.promoted',
      secret: 'db',
      rotation: null,
      reason: null,
      outcome: 'done',
      detail: { index },
    })),
  });
  shipping?.poke();
  return (await journal.auditHead())?.seq ?? 0;
}

const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

describe('delivery', () => {
  test('every line goes to every sink once and in order, those from before the start as well', async () => {
    await write(1_203);
    const [a, b] = [fake('a'), fake('b', true)];
    const shipping = await ship([a, b]);
    let last = 0;
    for (let round = 0; round < 20; round++) last = await write(3, shipping);
    await expect.poll(() => [a.lines().length, b.lines().length]).toEqual([last, last]);
    expect(a.lines()).toEqual(upTo(last));
    expect(b.lines()).toEqual(upTo(last));
    expect(await shipping.states()).toEqual([
      { name: 'file:/a', behind: 0, failing: null },
      { name: 'file:/b', behind: 0, failing: null },
    ]);
  });

  test('a sink that is down holds up neither the commits nor the other sinks, and gets all later', async () => {
    const [bad, good] = [fake('bad'), fake('good')];
    bad.fail = down;
    const said: [string, Record<string, unknown>][] = [];
    const shipping = await ship([bad, good], { log: (...line) => said.push(line) });
    const last = await write(10, shipping);
    await expect.poll(() => good.lines()).toEqual(upTo(last));
    await expect.poll(() => bad.attempts).toBeGreaterThan(3);
    expect(await shipping.states()).toMatchObject([
      { behind: last, failing: { error: { code: 'unavailable' } } },
      { behind: 0, failing: null },
    ]);
    expect(said[0]).toMatchObject([
      'audit lines not delivered',
      { sink: 'file:/bad', code: 'unavailable', failures: 1 },
    ]);
    bad.fail = null;
    await expect.poll(() => bad.lines()).toEqual(upTo(last));
    expect(said.at(-1)?.[0]).toBe('audit lines delivered again');
    expect((await shipping.states())[0]?.failing).toBeNull();
  });

  test('attempts at a sink that is down come at growing distances, up to a bound', async () => {
    const waits: number[] = [];
    const bad = fake('bad');
    bad.fail = down;
    const hurried: Clock = {
      ...clock,
      sleep: async (ms, signal) => {
        waits.push(ms);
        if (waits.length > 20) await clock.sleep(60_000, signal);
      },
    };
    const timing = { retryFirstMs: 1_000, retryLastMs: 300_000 };
    await ship([bad], { clock: hurried, timing });
    await expect.poll(() => waits.length).toBeGreaterThan(20);
    for (const [index, wait] of waits.entries()) {
      const most = Math.min(300_000, 1_000 * 2 ** index);
      expect(wait).toBeGreaterThanOrEqual(most / 2);
      expect(wait).toBeLessThanOrEqual(most);
    }
  });

  test('a restart goes on after what was acknowledged, or after what the sink itself says', async () => {
    const [silent, telling] = [fake('silent'), fake('telling', true)];
    const first = await ship([silent, telling]);
    await write(5, first);
    await first.finish(1_000);
    const last = await write(5);
    const second = await ship([silent, telling]);
    await second.finish(1_000);
    expect(silent.lines()).toEqual(upTo(last));
    expect(telling.lines()).toEqual(upTo(last));
  });

  test('lines whose acknowledgement was lost are sent again, and none is left out', async () => {
    const sink = fake('a');
    let refused = 0;
    const forgetful = {
      ...journal,
      commit: async (change: Parameters<SqliteJournal['commit']>[0]) => {
        const isProgress = change.audit === undefined;
        if (isProgress && refused++ === 0) throw new RotatedError('state-full', 'Full.');
        await journal.commit(change);
      },
    };
    const shipping = await ship([sink], { journal: forgetful });
    const last = await write(4, shipping);
    await expect.poll(async () => (await shipping.states())[0]?.behind).toBe(0);
    expect(refused).toBeGreaterThan(1);
    expect(new Set(sink.lines())).toEqual(new Set(upTo(last)));
    expect(sink.lines().length).toBeGreaterThan(new Set(sink.lines()).size);
  });

  test('a sink that lost lines gets them again, which is logged', async () => {
    const sink = fake('a', true);
    const said: string[] = [];
    const shipping = await ship([sink], { log: (message) => said.push(message) });
    await write(6, shipping);
    await expect.poll(() => sink.lines().length).toBe(7);
    sink.records.splice(3);
    const last = await write(1, shipping);
    await expect.poll(() => sink.lines()).toEqual(upTo(last));
    expect(said).toContain('audit sink lacks lines that it had: they are written again');
  });

  test('a process whose lease is lost delivers no more', async () => {
    const sink = fake('a');
    const shipping = await ship([sink]);
    await write(1, shipping);
    await expect.poll(() => sink.lines()).toEqual([1, 2]);
    await journal.release(fence);
    const next = await journal.acquire({ pid: 1, host: 'here', what: 'next' }, 600_000);
    const stale = fence;
    fence = next.fence;
    await write(1, shipping);
    await shipping.finish(1_000);
    const attempts = sink.attempts;
    await write(1, shipping);
    await expect(ship([fake('b')], { fence: stale })).rejects.toMatchObject({ code: 'fence-lost' });
    expect(sink.attempts).toBe(attempts);
  });

  test('a stop waits for a sink that hangs no longer than it was told', async () => {
    const sink = fake('a');
    sink.before = (signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    const shipping = await ship([sink]);
    await expect.poll(() => sink.attempts).toBe(1);
    await shipping.finish(50);
    expect(sink.lines()).toEqual([]);
    expect((await shipping.states())[0]?.behind).toBe(1);
  });
});

describe('checkpoints', () => {
  test('stand after so many lines, and at an orderly stop for the very last line', async () => {
    const sink = fake('a');
    const shipping = await ship([sink], { timing: { checkpointLines: 10, checkpointMs: 1e9 } });
    // The first comes with the first lines: there was none before.
    await expect.poll(() => sink.checkpoints().map(({ seq }) => seq)).toEqual([1]);
    let last = await write(8, shipping);
    await expect.poll(() => sink.lines().length).toBe(last);
    expect(sink.checkpoints().length).toBe(1);
    last = await write(4, shipping);
    await expect.poll(() => sink.checkpoints().map(({ seq }) => seq)).toEqual([1, last]);
    last = await write(1, shipping);
    await shipping.finish(1_000);
    expect(sink.checkpoints().at(-1)?.seq).toBe(last);
    const again = await ship([sink], { timing: { checkpointMs: 1e9 } });
    await again.finish(1_000);
    expect(sink.checkpoints().length).toBe(3);
    const macs = new Map((await journal.auditLines(1, 100)).map(({ seq, mac }) => [seq, mac]));
    for (const checkpoint of sink.checkpoints()) {
      expect(isGenuineCheckpoint(checkpoint, key.publicKey)).toBe(true);
      expect(checkpoint.mac).toBe(macs.get(checkpoint.seq));
    }
  });

  test('stand after so long without one, if there were lines', async () => {
    const sink = fake('a');
    const shipping = await ship([sink], { timing: { checkpointLines: 1_000, checkpointMs: 100 } });
    const last = await write(2, shipping);
    await expect.poll(() => sink.checkpoints().at(-1)?.seq).toBe(last);
    const count = sink.checkpoints().length;
    await shipping.finish(1_000);
    expect(sink.checkpoints().length).toBe(count);
  });
});

describe('what does not fit', () => {
  test('a sink that holds what the state does not is left as it is until somebody has looked', async () => {
    const sink = fake('a', true);
    const before = await ship([sink]);
    await write(5, before);
    await before.finish(1_000);
    // An older copy of the state, restored: shorter, and then with other lines.
    await journal[Symbol.asyncDispose]();
    journal = await openSqliteJournal({ directory: memoryState(), clock, chain });
    ({ fence } = await journal.acquire({ pid: 1, host: 'here', what: 'test' }, 600_000));
    const held = sink.records.length;
    const after = await ship([sink]);
    const broken = [{ failing: { error: { code: 'audit-broken' } } }];
    await expect.poll(() => after.states()).toMatchObject(broken);
    await write(20, after);
    await expect.poll(() => after.states()).toMatchObject(broken);
    expect(sink.records.length).toBe(held);
    sink.records.splice(0);
    await expect.poll(() => sink.lines()).toEqual(upTo(21));
  });

  test('sinks that came and went are noted in the trail itself', async () => {
    await (await ship([fake('a'), fake('b')])).finish(1_000);
    await (await ship([fake('b'), fake('c')])).finish(1_000);
    await (await ship([fake('b'), fake('c')])).finish(1_000);
    const details = (await journal.auditLines(1, 10)).map(
      ({ line }) => (JSON.parse(line) as { detail: unknown }).detail,
    );
    expect(details).toEqual([
      { added: ['file:/a', 'file:/b'], removed: [] },
      { added: ['file:/c'], removed: ['file:/a'] },
    ]);
    expect((await journal.auditSinks()).map(({ sink }) => sink)).toEqual(['file:/b', 'file:/c']);
  });
});
