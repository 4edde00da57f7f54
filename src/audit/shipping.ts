/** Hands new audit lines to every sink, in order and at least once, with signed checkpoints; never in a rotation's way. */
import type { Clock, Random } from '../clock.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import type { Actor, AuditSinkRow, Journal } from '../journal/journal.ts';
import type { CheckpointKey } from './checkpoint.ts';
import { sinkName } from './sink-spec.ts';
import type { AuditSink } from './sinks.ts';

export interface ShippingOptions {
  readonly sinks: readonly AuditSink[];
  readonly journal: Pick<Journal, 'auditLines' | 'auditHead' | 'auditSinks' | 'commit'>;
  /** Under which progress is written down: whoever lost it delivers no more. */
  readonly fence: number;
  readonly checkpoints: CheckpointKey;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: ShippingLog;
  /** On whose behalf sinks were added or removed. */
  readonly actor: Actor;
  readonly timing?: Partial<ShippingTiming>;
}

interface ShippingLog {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

export interface ShippingTiming {
  /** A signed checkpoint after so many lines, and after so long where there were any. */
  readonly checkpointLines: number;
  readonly checkpointMs: number;
  /** Lines of one moment go together. */
  readonly gatherMs: number;
  /** Between attempts at a sink that fails: the first, doubled each time up to the last, half of it random. */
  readonly retryFirstMs: number;
  readonly retryLastMs: number;
}

const usual: ShippingTiming = {
  checkpointLines: 100,
  checkpointMs: 15 * 60_000,
  gatherMs: 100,
  retryFirstMs: 1_000,
  retryLastMs: 5 * 60_000,
};

/** Lines handed to a sink at once. */
const batchLines = 500;

export interface SinkState {
  readonly name: string;
  /** Lines of the journal that it does not keep yet. */
  readonly behind: number;
  /** null while it works. */
  readonly failing: { readonly since: number; readonly error: RotatedError } | null;
}

export interface Shipping {
  /** New lines may be there. */
  poke(): void;
  states(): Promise<readonly SinkState[]>;
  /** The last lines and a checkpoint to each sink that takes them in time; then no more. */
  finish(withinMs: number): Promise<void>;
  /** Ends at once: the state directory is another process's now. */
  drop(): Promise<void>;
}

interface Lane {
  readonly sink: AuditSink;
  row: AuditSinkRow;
  failures: number;
  failing: { readonly since: number; readonly error: RotatedError } | null;
  stir: PromiseWithResolvers<void>;
}

/** Notes in the audit trail which sinks were added and removed since the last owner, then delivers until it is ended. */
export async function startShipping(options: ShippingOptions): Promise<Shipping> {
  const { sinks, journal, fence, checkpoints, clock, random, log } = options;
  const timing = { ...usual, ...options.timing };
  const rows = await settleSinks(options);
  /** Ends waits: one last round follows. */
  const closing = new AbortController();
  /** Ends calls in flight. */
  const stop = new AbortController();
  const lanes = sinks.map(
    (sink): Lane => ({
      sink,
      row: rows.get(sink.key) ?? freshRow(sink.key),
      failures: 0,
      failing: null,
      stir: Promise.withResolvers(),
    }),
  );
  const running = lanes.map((lane) => runLane(lane));

  async function runLane(lane: Lane): Promise<void> {
    try {
      for (;;) {
        const isLast = closing.signal.aborted;
        lane.stir = Promise.withResolvers();
        if (!(await attempt(lane, isLast)) || isLast) return;
        await waitFor(lane);
      }
    } finally {
      await lane.sink[Symbol.asyncDispose]();
    }
  }

  /** False where there is nothing more to be done for this owner. */
  async function attempt(lane: Lane, isLast: boolean): Promise<boolean> {
    try {
      await deliver(lane, isLast);
    } catch (thrown) {
      // Another process owns the state: what this one delivered last is delivered again, which does no harm.
      if (stop.signal.aborted || isRotatedError(thrown, 'fence-lost')) return false;
      const error = asRotatedError(thrown, 'unknown');
      lane.failures++;
      lane.failing = { since: lane.failing?.since ?? clock.now(), error };
      log.warn(
        { sink: lane.sink.name, code: error.code, error: error.message, failures: lane.failures },
        'audit lines not delivered',
      );
      return true;
    }
    if (lane.failing !== null) log.info({ sink: lane.sink.name }, 'audit lines delivered again');
    lane.failures = 0;
    lane.failing = null;
    return true;
  }

  async function deliver(lane: Lane, isLast: boolean): Promise<void> {
    await begin(lane);
    for (;;) {
      const lines = await journal.auditLines(lane.row.seq + 1, batchLines);
      const { seq, mac } = lines.at(-1) ?? lane.row;
      const isCheckpoint = isDue(lane.row, seq, isLast && lines.length < batchLines);
      if (lines.length === 0 && !isCheckpoint) return;
      const at = clock.now();
      const records = isCheckpoint ? [...lines, checkpoints.sign({ seq, mac }, at)] : lines;
      await lane.sink.append(records, stop.signal);
      const signed = isCheckpoint ? { checkpointSeq: seq, checkpointAt: at } : {};
      await keep(lane, { ...lane.row, seq, mac, ...signed });
    }
  }

  /** Where it goes on: after what the sink itself says that it holds, else after what it acknowledged. */
  async function begin(lane: Lane): Promise<void> {
    const told = await lane.sink.newest();
    const { seq, mac } = told ?? lane.row;
    if (seq > 0) {
      const [ours] = await journal.auditLines(seq, 1);
      if (ours?.seq !== seq || ours.mac !== mac) throw contradiction(lane.sink.name, seq);
    }
    if (seq === lane.row.seq) return;
    if (seq < lane.row.seq) {
      log.warn(
        { sink: lane.sink.name, had: lane.row.seq, has: seq },
        'audit sink lacks lines that it had: they are written again',
      );
    }
    const checkpointSeq = Math.min(lane.row.checkpointSeq, seq);
    await keep(lane, { ...lane.row, seq, mac, checkpointSeq });
  }

  async function keep(lane: Lane, row: AuditSinkRow): Promise<void> {
    await journal.commit({ fence, auditSinks: [row] });
    lane.row = row;
  }

  function isDue({ checkpointSeq, checkpointAt }: AuditSinkRow, seq: number, isLast: boolean) {
    if (seq <= checkpointSeq) return false;
    const sinceMs = clock.now() - checkpointAt;
    // A clock that was set back must not put it off.
    const isTime = sinceMs >= timing.checkpointMs || sinceMs < 0;
    return isLast || isTime || seq - checkpointSeq >= timing.checkpointLines;
  }

  async function waitFor(lane: Lane): Promise<void> {
    if (lane.failing !== null) {
      const ms = Math.min(timing.retryLastMs, timing.retryFirstMs * 2 ** (lane.failures - 1));
      await pause(ms * (0.5 + random.fraction() / 2));
      return;
    }
    const { seq, checkpointSeq, checkpointAt } = lane.row;
    const checkpointInMs =
      seq > checkpointSeq
        ? Math.max(0, checkpointAt + timing.checkpointMs - clock.now())
        : timing.checkpointMs;
    const woken = new AbortController();
    await Promise.race([lane.stir.promise, pause(checkpointInMs, woken.signal)]);
    woken.abort();
    await pause(timing.gatherMs);
  }

  async function pause(ms: number, also?: AbortSignal): Promise<void> {
    const signal = also === undefined ? closing.signal : AbortSignal.any([closing.signal, also]);
    await clock.sleep(ms, signal).catch(() => undefined);
  }

  return {
    poke: () => {
      for (const lane of lanes) lane.stir.resolve();
    },
    states: async () => {
      const head = (await journal.auditHead())?.seq ?? 0;
      return lanes.map(({ sink, row, failing }) => ({
        name: sink.name,
        behind: Math.max(0, head - row.seq),
        failing,
      }));
    },
    finish: async (withinMs) => {
      closing.abort();
      const enough = new AbortController();
      const deadline = clock.sleep(withinMs, enough.signal).then(
        () => stop.abort(new DOMException('The time for the last lines is over.', 'AbortError')),
        () => undefined,
      );
      await Promise.all(running);
      enough.abort();
      await deadline;
    },
    drop: async () => {
      closing.abort();
      stop.abort(new DOMException('The state directory was lost.', 'AbortError'));
      await Promise.all(running);
    },
  };
}

/** What the journal remembers of the sinks that are configured now; those that are not any more are forgotten, which is noted. */
async function settleSinks(options: ShippingOptions): Promise<ReadonlyMap<string, AuditSinkRow>> {
  const { sinks, journal, fence, clock, actor } = options;
  const before = new Map((await journal.auditSinks()).map((row) => [row.sink, row]));
  const added = sinks.filter(({ key }) => !before.has(key)).map(({ key }) => freshRow(key));
  const kept = new Set(sinks.map(({ key }) => key));
  const removed = [...before.keys()].filter((key) => !kept.has(key));
  if (added.length + removed.length === 0) return before;
  await journal.commit({
    fence,
    auditSinks: added,
    removeAuditSinks: removed,
    audit: [
      {
        at: clock.now(),
        actor,
        action: 'audit.sinks',
        secret: null,
        rotation: null,
        reason: null,
        outcome: 'done',
        detail: { added: added.map(({ sink }) => sinkName(sink)), removed: removed.map(sinkName) },
      },
    ],
  });
  return before;
}

function freshRow(sink: string): AuditSinkRow {
  return { sink, seq: 0, mac: '', checkpointSeq: 0, checkpointAt: 0 };
}

function contradiction(sink: string, seq: number): RotatedError {
  return new RotatedError(
    'audit-broken',
    `${sink} holds a line ${seq} that this state does not have so: the state was set back or rewritten.`,
    {
      next: 'Keep both, and compare them: rotate audit verify. Where a backup was restored on purpose, move the file aside.',
    },
  );
}
