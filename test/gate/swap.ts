/** `bench -- swap`: servers are swapped again and again under mixed load; not one call may be lost, and two controls must lose some. */
import { seededRandom } from '../support/world/random.ts';
import type { CheckContext } from '../support/check.ts';
import { type Budget, budgetText, rounded } from '../bench/stats.ts';
import { openHttp } from './load/http.ts';
import { logVariable } from './load/server-log.ts';
import { type ServerJson, startGate } from './support/http-targets.ts';
import { reference, type TestFeed } from './support/feed.ts';
import type { Transport } from './load/transport.ts';
import { startProgram } from '../support/program.ts';
import { runSwaps, type Sizes, type SwapRun, type SwapRunOptions } from './support/swap-run.ts';
import { launch, servers } from './support/targets.ts';

export interface SwapResult {
  readonly runs: readonly (SwapRun & { readonly ok: boolean })[];
  /** `failed`: calls refused or never answered. Each must be above zero. */
  readonly controls: readonly { readonly name: string; readonly failed: number }[];
  readonly budgets: readonly Budget[];
}

const fullSizes: Sizes = {
  callers: 16,
  warmUpMs: 3_000,
  capacityMs: 5_000,
  quietMs: 10_000,
  swaps: 10,
  callsLeast: 100_000,
  settleWithinMs: 15_000,
};
const shortSizes: Sizes = {
  callers: 16,
  warmUpMs: 1_000,
  capacityMs: 1_500,
  quietMs: 2_000,
  swaps: 3,
  callsLeast: 5_000,
  settleWithinMs: 15_000,
};
/** Enough for a control to fail plainly. */
const controlSizes: Sizes = {
  callers: 16,
  warmUpMs: 500,
  capacityMs: 1_000,
  quietMs: 500,
  swaps: 3,
  callsLeast: 0,
  settleWithinMs: 3_000,
};
/** DESIGN: what a swap may add to p99.9 at half capacity. */
const addedMsMost = 20;

type Subject = Pick<SwapRunOptions, 'server' | 'era' | 'transport' | 'changesTools' | 'connect'>;

const modernHttp = new URL('servers/modern-http.ts', import.meta.url);

const subjects: readonly Subject[] = [
  {
    server: 'server-everything',
    era: 'legacy',
    transport: 'stdio',
    changesTools: true,
    connect: async (feed, log) =>
      launch({ relay: 'wrap', server: servers.everything, feed, log, name: 'everything' }),
  },
  {
    server: 'modern-test-server',
    era: 'modern',
    transport: 'stdio',
    changesTools: true,
    connect: async (feed, log) =>
      launch({ relay: 'wrap', server: servers.modern, feed, log, name: 'modern' }),
  },
  {
    server: 'modern-test-server',
    era: 'modern',
    transport: 'http',
    changesTools: true,
    connect: (feed, log) => throughGate(feed, { ...servers.modern, env: { [logVariable]: log } }),
  },
  {
    // No process is swapped here: each request carries the key of its instant in a header.
    server: 'modern-test-server over HTTP',
    era: 'modern',
    transport: 'http',
    changesTools: false,
    connect: async (feed, log) => {
      const remote = await startProgram(modernHttp, [], { [logVariable]: log });
      const url = `http://127.0.0.1:${remote.port}/mcp`;
      const headers = { Authorization: `Bearer {{${reference}}}` };
      const transport = await throughGate(feed, { url, headers });
      return {
        ...transport,
        close: async () => {
          await transport.close();
          await remote.end();
        },
      };
    },
  },
];

export async function runSwap({
  args,
  seed,
  progress,
}: CheckContext): Promise<{ ok: boolean } & SwapResult> {
  const isShort = args.includes('--short');
  const sizes = isShort ? shortSizes : fullSizes;
  const only = args.find((arg) => arg.startsWith('--only='))?.slice('--only='.length);
  const random = seededRandom(seed);
  const nextSeed = () => Math.floor(random.fraction() * 1e6);
  const runs: (SwapRun & { ok: boolean })[] = [];
  for (const subject of subjects) {
    if (only !== undefined && !`${subject.server} ${subject.transport}`.includes(only)) continue;
    progress(`${subject.server}, ${subject.era}, ${subject.transport}`);
    const run = await runSwaps({ ...subject, sizes, seed: nextSeed(), progress });
    runs.push({ ...run, ok: isSpotless(run, sizes) });
    for (const problem of run.problems) progress(`  ! ${problem}`);
  }
  const controls: { name: string; failed: number }[] = [];
  for (const [name, relay] of [
    ['kill-then-start', 'restart'],
    ['kill-then-start with buffering', 'restart-buffered'],
  ] as const) {
    progress(`control: ${name}`);
    const { failed, lost } = await runSwaps({
      server: 'server-everything',
      era: 'legacy',
      transport: 'stdio',
      changesTools: false,
      connect: async (feed, log) => launch({ relay, server: servers.everything, feed, log }),
      sizes: controlSizes,
      seed: nextSeed(),
      progress,
    });
    controls.push({ name, failed: failed + lost });
  }
  const budgets = runs.map(({ server, transport, p999Ms: { quiet, swapping } }) => {
    const value = quiet === null || swapping === null ? null : rounded(swapping - quiet);
    return {
      name: `${server} by ${transport}: a swap adds to p99.9, ms`,
      limit: `<= ${addedMsMost}`,
      value: value ?? Number.MAX_SAFE_INTEGER,
      met: value !== null && value <= addedMsMost,
    };
  });
  // A busy machine may miss a budget; a lost call is a fault on any.
  const ok =
    runs.length > 0 && runs.every((run) => run.ok) && controls.every((one) => one.failed > 0);
  return { ok, runs, controls, budgets };
}

async function throughGate(feed: TestFeed, server: ServerJson): Promise<Transport> {
  const gate = await startGate(feed, server);
  const transport = openHttp({ ...gate, era: 'modern' });
  return {
    ...transport,
    close: async () => {
      await transport.close();
      await gate.end();
    },
  };
}

function isSpotless(run: SwapRun, sizes: Sizes): boolean {
  const nothing = [
    run.failed,
    run.lost,
    run.doubled,
    run.mismatched,
    run.cancelsLost,
    run.updatesLost,
    run.oldKeyCalls,
  ];
  return (
    nothing.every((count) => count === 0) &&
    run.problems.length === 0 &&
    run.listChanged === run.listChangedExpected &&
    run.swaps >= 2 * sizes.swaps &&
    run.swapCalls >= sizes.callsLeast &&
    run.inFlightAtFlip.length >= run.swaps &&
    run.inFlightAtFlip.every((count) => count > 0)
  );
}

export function swapText({ ok, runs, controls, budgets }: { ok: boolean } & SwapResult): string {
  const lines = runs.flatMap((run) => [
    `${run.ok ? 'ok' : 'NOT OK'} ${run.server}, ${run.era}, ${run.transport}: ${run.swaps} swaps under ${run.swapCalls} calls`,
    `  failed ${run.failed}, lost ${run.lost}, doubled ${run.doubled}, mismatched ${run.mismatched}`,
    `  in flight at a flip: ${Math.min(...run.inFlightAtFlip)} to ${Math.max(...run.inFlightAtFlip)}`,
    `  list_changed ${run.listChanged} of ${run.listChangedExpected}`,
    `  at half of ${run.capacityPerSecond}/s: p99.9 ${run.p999Ms.quiet} ms quiet, ${run.p999Ms.swapping} ms swapping`,
    `  at full load, swapping: p50 ${run.latency.swappingFull?.p50} ms, p99.9 ${run.latency.swappingFull?.p999} ms`,
  ]);
  const kept = controls.map(({ name, failed }) => `control ${name}: ${failed} calls failed`);
  return [...lines, ...kept, ...budgets.map(budgetText), ok ? 'ok' : 'NOT OK'].join('\n');
}
