/** `bench -- relay`: what a relay in front of the same server costs, all of them in turn in one run. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { atLeast, atMost, type Budget, budgetText, median, rounded } from '../bench/stats.ts';
import { rssMbOf } from '../bench/processes.ts';
import { buildPackage } from '../support/built-package.ts';
import type { CheckContext } from '../support/check.ts';
import { openHttp } from './load/http.ts';
import type { StdioTransport } from './load/transport.ts';
import { openFeed, type TestFeed } from './support/feed.ts';
import {
  type HttpTarget,
  startDirect,
  startGate,
  startMcpProxy,
  startSupergateway,
} from './support/http-targets.ts';
import {
  callerCounts,
  cpuOf,
  find,
  measure,
  openSubject,
  ratio,
  type Subject,
} from './support/relay-subject.ts';
import { bareNodeMb, startups } from './support/start-up.ts';
import { checkoutRotate, launch, type Relay, servers } from './support/targets.ts';

export interface RelayRow {
  readonly target: string;
  readonly transport: 'stdio' | 'http';
  readonly callers: number;
  /** Medians over the rounds. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
  /** Throughput, each round against the same round of the other. */
  readonly ratioToDirect: number;
  /** Null where there is no pipe. */
  readonly ratioToPipe: number | null;
  /** The processor time of the process that the client talks to: says more than throughput on a machine with other work. */
  readonly cpuUsPerCall: number | null;
}

export interface RelayResult {
  readonly rows: readonly RelayRow[];
  /** From its start to the server's first answer, beyond a bare node process and the server itself. */
  readonly startupOverNodeMs: number;
  /** The same for the empty pipe. */
  readonly pipeStartupOverNodeMs: number;
  /** Resident, after the handshake. */
  readonly rssOverNodeMb: number;
  /** Resident, after all the calls of this run. */
  readonly rssAfterLoadOverNodeMb: number;
  /** Calls that failed, were lost or answered wrongly at any of them. */
  readonly failed: number;
  readonly budgets: readonly Budget[];
}

const sizes = { rounds: 7, roundMs: 1_000, warmUpMs: 2_000, starts: 21 };
const shortSizes = { rounds: 3, roundMs: 500, warmUpMs: 500, starts: 5 };

export async function runRelay(context: CheckContext): Promise<{ ok: boolean } & RelayResult> {
  const { args, progress } = context;
  await using built = buildOrSkip(context);
  const { rotate } = built;
  const { rounds, roundMs, warmUpMs, starts } = args.includes('--short') ? shortSizes : sizes;
  await using feed = await openFeed();
  const stdio = new Map<Relay, { subject: Subject; transport: StdioTransport }>();
  for (const relay of ['direct', 'pipe', 'wrap'] as const) {
    const transport = launch({ relay, server: servers.echo, feed, rotate });
    stdio.set(relay, {
      transport,
      subject: await openSubject(relay, 'stdio', transport, transport.child.pid),
    });
  }
  const wrapped = stdio.get('wrap')?.transport.child.pid ?? 0;
  const nodeMb = bareNodeMb();
  const rssOverNodeMb = rounded(rssMbOf(wrapped).now - nodeMb);
  const targets = await startHttp(context, feed, rotate);
  try {
    const http: Subject[] = [];
    for (const [name, { url, headers, pid }] of targets) {
      const own = headers === undefined ? {} : { headers };
      http.push(await openSubject(name, 'http', openHttp({ url, era: 'legacy', ...own }), pid));
    }
    const all = [...stdio.values()].map(({ subject }) => subject).concat(http);
    for (const subject of all) await measure(subject, 16, warmUpMs);
    for (let round = 0; round < rounds; round += 1) {
      progress(`round ${round + 1} of ${rounds}`);
      // In turn, and in the other order every other time: what else the machine does falls on all alike.
      const order = round % 2 === 0 ? all : all.toReversed();
      for (const callers of callerCounts) {
        for (const subject of order) {
          subject.rounds.get(callers)?.push(await measure(subject, callers, roundMs));
        }
      }
    }
    const rssAfterLoadOverNodeMb = rounded(rssMbOf(wrapped).now - nodeMb);
    for (const { session } of all) await session.close();
    progress('start-up');
    const { startupOverNodeMs, pipeStartupOverNodeMs } = await startups({ feed, rotate }, starts);
    const rows = all.flatMap((subject) =>
      callerCounts.map((callers) => rowOf(subject, callers, all)),
    );
    const failed = all.reduce((sum, { ledger }) => {
      const totals = ledger.totals(null);
      return sum + totals.failed + totals.lost + totals.mismatched + totals.doubled;
    }, 0);
    return {
      ok: failed === 0,
      rows,
      startupOverNodeMs,
      pipeStartupOverNodeMs,
      rssOverNodeMb,
      rssAfterLoadOverNodeMb,
      failed,
      budgets: [
        ...stdioBudgets(all),
        atMost('wrap: start over bare node, ms', 60, startupOverNodeMs),
        atMost('wrap: memory over bare node, MB', 25, rssOverNodeMb),
        ...httpBudgets(all),
      ],
    };
  } finally {
    for (const target of targets.values()) await target.end();
  }
}

/** As users have it: a checkout's sources are stripped of their types at each start. */
function buildOrSkip({ skip }: CheckContext): AsyncDisposable & { readonly rotate: string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'rotated-built-'));
  const dispose = async () => rmSync(folder, { recursive: true, force: true });
  try {
    return { rotate: buildPackage(folder).rotate, [Symbol.asyncDispose]: dispose };
  } catch {
    skip('the built package', 'the sources do not compile: start and memory are of the checkout');
    return { rotate: checkoutRotate, [Symbol.asyncDispose]: dispose };
  }
}

async function startHttp(
  { skip }: CheckContext,
  feed: TestFeed,
  rotate: string,
): Promise<ReadonlyMap<string, HttpTarget>> {
  const started = new Map<string, HttpTarget>();
  const starts: Readonly<Record<string, () => Promise<HttpTarget>>> = {
    direct: startDirect,
    gate: () => startGate(feed, servers.echo, { rotate }),
    'mcp-proxy': startMcpProxy,
    supergateway: startSupergateway,
  };
  for (const [name, start] of Object.entries(starts)) {
    try {
      started.set(name, await start());
    } catch (error) {
      skip(`${name} over HTTP`, error instanceof Error ? error.message : String(error));
    }
  }
  return started;
}

function rowOf(subject: Subject, callers: number, all: readonly Subject[]): RelayRow {
  const { target, transport } = subject;
  const rounds = subject.rounds.get(callers) ?? [];
  const direct = find(all, 'direct', transport);
  const pipe = find(all, 'pipe', transport);
  return {
    target,
    transport,
    callers,
    p50Ms: rounded(median(rounds.map(({ p50 }) => p50)), 3),
    p99Ms: rounded(median(rounds.map(({ p99 }) => p99)), 3),
    perSecond: Math.round(median(rounds.map(({ perSecond }) => perSecond))),
    ratioToDirect: ratio(subject, direct ?? subject, callers, 'perSecond'),
    ratioToPipe: pipe === undefined ? null : ratio(subject, pipe, callers, 'perSecond'),
    cpuUsPerCall: cpuOf(rounds),
  };
}

function stdioBudgets(all: readonly Subject[]): readonly Budget[] {
  const [wrap, pipe] = [find(all, 'wrap', 'stdio'), find(all, 'pipe', 'stdio')];
  if (wrap === undefined || pipe === undefined) return [];
  return [
    atLeast('wrap: throughput at 16 callers, × pipe', 0.9, ratio(wrap, pipe, 16, 'perSecond')),
    atMost('wrap: p99 at 1 caller, × pipe', 1.2, ratio(wrap, pipe, 1, 'p99')),
  ];
}

function httpBudgets(all: readonly Subject[]): readonly Budget[] {
  const [gate, direct] = [find(all, 'gate', 'http'), find(all, 'direct', 'http')];
  if (gate === undefined || direct === undefined) return [];
  const added = (gate.rounds.get(1) ?? []).map(
    ({ p50 }, round) => p50 - (direct.rounds.get(1)?.[round]?.p50 ?? Number.NaN),
  );
  const others = ['mcp-proxy', 'supergateway'].flatMap((name) => {
    const other = find(all, name, 'http');
    if (other === undefined) return [];
    return [
      atLeast(`gate: throughput at 16 callers, × ${name}`, 5, ratio(gate, other, 16, 'perSecond')),
    ];
  });
  return [
    atMost('gate: p50 at 1 caller, ms over direct', 0.5, rounded(median(added), 3)),
    ...others,
  ];
}

export function relayText(result: { ok: boolean } & RelayResult): string {
  const rows = result.rows.map(
    ({
      target,
      transport,
      callers,
      p50Ms,
      p99Ms,
      perSecond,
      ratioToDirect,
      ratioToPipe,
      cpuUsPerCall,
    }) =>
      `${target.padEnd(13)} ${transport.padEnd(5)} ${String(callers).padStart(2)} callers: ` +
      `p50 ${p50Ms} ms, p99 ${p99Ms} ms, ${perSecond}/s, × direct ${ratioToDirect}` +
      (ratioToPipe === null ? '' : `, × pipe ${ratioToPipe}`) +
      (cpuUsPerCall === null ? '' : `, ${cpuUsPerCall} µs of processor a call`),
  );
  return [
    ...rows,
    `start over bare node: wrap ${result.startupOverNodeMs} ms, pipe ${result.pipeStartupOverNodeMs} ms`,
    `memory over bare node: ${result.rssOverNodeMb} MB, after the load ${result.rssAfterLoadOverNodeMb} MB`,
    `calls that failed: ${result.failed}`,
    ...result.budgets.map(budgetText),
  ].join('\n');
}
