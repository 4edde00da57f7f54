/** One run of `bench -- swap`: capacity, then swaps at full load and at half of it, with a quiet stretch on either side. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { rounded, sum } from '../../bench/stats.ts';
import { seededRandom } from '../../support/world/random.ts';
import { closedLoop, type Drive, type Mix, mixedLoop, openLoop, stopAll } from '../load/drive.ts';
import { createLedger, type Kind, type Latency, latencyOf, type Ledger } from '../load/ledger.ts';
import { legacyDialect } from '../load/legacy.ts';
import type { Era } from '../load/message.ts';
import { modernDialect } from '../load/modern.ts';
import { completeServerLog, nowMs } from '../load/server-log.ts';
import { createSession } from '../load/session.ts';
import type { Transport } from '../load/transport.ts';
import { flipsOf, oldKeyUses } from './flips.ts';
import { openFeed, type TestFeed } from './feed.ts';

export interface SwapRunOptions {
  readonly server: string;
  readonly era: Era;
  readonly transport: 'stdio' | 'http';
  readonly seed: number;
  readonly sizes: Sizes;
  /** The client's connection, to whatever is to be swapped. */
  connect(feed: TestFeed, log: string): Promise<Transport>;
  /** The server's tools depend on its key. */
  readonly changesTools: boolean;
  progress(line: string): void;
}

export interface Sizes {
  readonly callers: number;
  /** Nothing is measured before: code is compiled as it is used. */
  readonly warmUpMs: number;
  readonly capacityMs: number;
  /** Before and after the swaps, each: what else the machine does meanwhile falls on both sides. */
  readonly quietMs: number;
  /** In each of the two stretches with swaps. */
  readonly swaps: number;
  /** The stretch at half capacity goes on with swaps until so many calls were made in the run. */
  readonly callsLeast: number;
  /** What has no answer so long after the last call was sent is lost. */
  readonly settleWithinMs: number;
}

export interface SwapRun {
  readonly server: string;
  readonly era: Era;
  readonly transport: 'stdio' | 'http';
  readonly swaps: number;
  readonly calls: Readonly<Partial<Record<Kind, number>>>;
  /** Of these, made while there were swaps. */
  readonly swapCalls: number;
  readonly inFlightAtFlip: readonly number[];
  readonly failed: number;
  readonly lost: number;
  readonly doubled: number;
  readonly mismatched: number;
  readonly cancelsLost: number;
  /** Changes that a subscriber was not told. */
  readonly updatesLost: number;
  /** Calls sent after an adoption was reported and served under an older key. */
  readonly oldKeyCalls: number;
  /** Notifications that came; one for each swap that changed the tools is right. */
  readonly listChanged: number;
  readonly listChangedExpected: number;
  readonly capacityPerSecond: number;
  readonly halfPerSecond: number;
  /** Of plain calls at half capacity; null where none was answered. */
  readonly p999Ms: { readonly quiet: number | null; readonly swapping: number | null };
  readonly latency: Readonly<
    Record<'capacity' | 'quiet' | 'swapping' | 'swappingFull', Latency | null>
  >;
  /** From the change to the report that it is adopted, the drain of long calls included. */
  readonly adoptedMs: readonly number[];
  readonly problems: readonly string[];
}

/**
 * Calls per second of each kind besides plain ones, for a server that takes thousands: enough for some of each to be under
 * way at every flip. Fewer, in proportion, where a tenth of the capacity is less.
 */
const mix: Mix = {
  progress: 30,
  long: 5,
  cancel: 20,
  elicitation: 40,
  sampling: 40,
  subscription: 2,
  list: 10,
  read: 30,
  env: 1,
  ping: 5,
};
/** A swap that is not adopted by then has failed: the run ends. */
const adoptedWithinMs = 60_000;
/** More of these swaps than are asked for, where the calls are slow to come together. */
const swapsMost = 400;

export async function runSwaps(options: SwapRunOptions): Promise<SwapRun> {
  const { era, sizes, seed, progress } = options;
  const random = seededRandom(seed);
  const folder = mkdtempSync(path.join(tmpdir(), 'rotated-swap-'));
  const log = path.join(folder, 'calls.log');
  await using feed = await openFeed({ warmMs: 200, idleMs: 3_600_000 });
  const ledger = createLedger(`s${seed}`);
  const secrets = () => feed.keys;
  const dialect =
    era === 'legacy' ? legacyDialect({ random, secrets }) : modernDialect({ random, secrets });
  const transport = await options.connect(feed, log);
  const session = createSession(dialect, transport, ledger);
  const adoptions: { readonly generation: number; readonly atMs: number }[] = [];
  const adoptedMs: number[] = [];
  const problems: string[] = [];
  let marks = 0;
  try {
    await session.open();
    await delay(500);
    const before = session.counts.get(listChangedMethod) ?? 0;

    const swap = async (mark: string) => {
      const startedAt = nowMs();
      const generation = feed.change({ mark });
      await feed.adopted(generation, adoptedWithinMs);
      adoptions.push({ generation, atMs: nowMs() });
      adoptedMs.push(Math.round(nowMs() - startedAt));
      await delay(100 + random.fraction() * 300);
    };
    /** Two swaps of a run change the tools. */
    const swapMany = async (enough: (swaps: number) => boolean) => {
      for (let n = 0; !enough(n) && n < swapsMost && session.dead() === null; n += 1) {
        if (options.changesTools && n === 2 && marks < 2) marks += 1;
        try {
          await swap(marks === 0 ? '' : `-tools${marks}`);
        } catch (error) {
          problems.push(error instanceof Error ? error.message : String(error));
          return;
        }
      }
    };
    let mixShare = 0.2;
    const stretch = async (drives: readonly Drive[], work: () => Promise<void>) => {
      const fromMs = nowMs();
      const others = mixedLoop(session, scaled(mix, mixShare), random);
      await work();
      await stopAll([...drives, others], sizes.settleWithinMs);
      await ledger.settle(sizes.settleWithinMs);
      return ledger.latencies(fromMs, nowMs());
    };
    const full = () => [closedLoop(session, sizes.callers)];

    await stretch(full(), () => delay(sizes.warmUpMs));
    const capacityFrom = nowMs();
    const capacity = await stretch(full(), () => delay(sizes.capacityMs));
    const capacityPerSecond = perSecond(ledger, capacityFrom, capacityFrom + sizes.capacityMs);
    const halfPerSecond = capacityPerSecond / 2;
    mixShare = Math.min(1, (0.1 * capacityPerSecond) / sum(Object.values(mix)));
    progress(`  capacity ${rounded(capacityPerSecond)} calls/s`);

    const half = () => [openLoop(session, halfPerSecond)];
    const quietBefore = await stretch(half(), () => delay(sizes.quietMs));

    // Calls of the quiet stretches do not count: what is promised is promised for swaps.
    const fromCalls = ledger.calls.length;
    const swappingFull = await stretch(full(), () => swapMany((n) => n >= sizes.swaps));
    progress(`  ${adoptions.length} swaps at full load, ${ledger.calls.length - fromCalls} calls`);
    const swapping = await stretch(half(), () =>
      swapMany((n) => n >= sizes.swaps && ledger.calls.length - fromCalls >= sizes.callsLeast),
    );
    const swapCalls = ledger.calls.length - fromCalls;
    progress(`  ${adoptions.length} swaps, ${swapCalls} calls`);
    const quiet = [...quietBefore, ...(await stretch(half(), () => delay(sizes.quietMs)))];
    const latency = {
      capacity: spanOf(capacity),
      quiet: spanOf(quiet),
      swapping: spanOf(swapping),
      swappingFull: spanOf(swappingFull),
    };
    progress(`  p99.9 ${latency.quiet?.p999} ms quiet, ${latency.swapping?.p999} ms swapping`);

    const serverLog = await completeServerLog(log, ledger.owed());
    // What a change brings after the last call is still under way.
    await delay(500);
    const totals = ledger.totals(serverLog);
    const leftovers = session.leftovers();
    if (session.dead() !== null) problems.push(`the connection ended: ${session.dead()}`);
    return {
      server: options.server,
      era,
      transport: options.transport,
      swaps: adoptions.length,
      calls: totals.calls,
      swapCalls,
      inFlightAtFlip: flipsOf(ledger.calls, serverLog).map(({ inFlight }) => inFlight),
      failed: totals.failed,
      lost: totals.lost,
      doubled: totals.doubled,
      mismatched: totals.mismatched,
      cancelsLost: totals.cancelsLost,
      updatesLost: leftovers.length,
      oldKeyCalls: oldKeyUses(ledger.calls, serverLog, adoptions, feed.keys),
      listChanged: (session.counts.get(listChangedMethod) ?? 0) - before,
      listChangedExpected: marks,
      capacityPerSecond: rounded(capacityPerSecond),
      halfPerSecond: rounded(halfPerSecond),
      p999Ms: { quiet: latency.quiet?.p999 ?? null, swapping: latency.swapping?.p999 ?? null },
      latency,
      adoptedMs,
      problems: [...problems, ...totals.problems, ...leftovers.slice(0, 3)],
    };
  } finally {
    await session.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const listChangedMethod = 'notifications/tools/list_changed';

function scaled(all: Mix, share: number): Mix {
  const fewer = Object.entries(all).map(([kind, rate]) => [kind, rate * share] as const);
  // Long calls only wait, and they are what is in flight at every flip: as many on any server.
  return { ...Object.fromEntries(fewer), long: all.long ?? 0 };
}

function spanOf(values: readonly number[]): Latency | null {
  return values.length === 0 ? null : latencyOf(values);
}

function perSecond(ledger: Ledger, fromMs: number, toMs: number): number {
  const done = ledger.calls.filter(
    ({ kind, answeredAtMs }) =>
      kind === 'plain' && answeredAtMs !== null && answeredAtMs >= fromMs && answeredAtMs < toMs,
  );
  return (done.length * 1_000) / (toMs - fromMs);
}
