/** `npm run -s soak`: a thousand swaps of one session under load; handles, memory and processes must not grow with them. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rssMbOf } from '../../bench/processes.ts';
import { median, rounded } from '../../bench/stats.ts';
import { type CheckContext, runCheck } from '../../support/check.ts';
import { openLoop, stopAll } from '../load/drive.ts';
import { createLedger } from '../load/ledger.ts';
import { plainDialect } from '../load/plain.ts';
import { completeServerLog } from '../load/server-log.ts';
import { createSession } from '../load/session.ts';
import { openFeed } from '../support/feed.ts';
import { childrenOf } from '../support/processes.ts';
import { launch, servers } from '../support/targets.ts';
import { grows } from './trend.ts';

interface SoakResult {
  readonly swaps: number;
  readonly calls: number;
  readonly failed: number;
  /** Open files of the shim, one sample after each so many swaps. */
  readonly handles: readonly number[];
  /** Resident memory of the shim: the least of several readings around each sample. */
  readonly rssMb: readonly number[];
  /** The shim's children. */
  readonly processes: readonly number[];
  /** Which of the three grew. */
  readonly grown: readonly string[];
}

const swapsUsual = 1_000;
const swapsShort = 100;
const samplesWanted = 50;
const callsPerSecond = 200;
/** What may differ between the first and the last part by chance: sockets coming and going, a heap not collected yet. */
const tolerance = { handles: 2, rssMb: 8, processes: 0.5 };

await runCheck<SoakResult>({ name: 'soak', run: soak, text });

async function soak(context: CheckContext): Promise<{ ok: boolean } & SoakResult> {
  const { args, progress } = context;
  const at = args.indexOf('--swaps');
  const usual = args.includes('--short') ? swapsShort : swapsUsual;
  const swaps = at === -1 ? usual : Number(args[at + 1]);
  const every = Math.max(1, Math.floor(swaps / samplesWanted));
  const folder = mkdtempSync(path.join(tmpdir(), 'rotated-soak-'));
  const log = path.join(folder, 'calls.log');
  await using feed = await openFeed({ warmMs: 0, idleMs: 3_600_000 });
  const transport = launch({
    relay: 'wrap',
    server: servers.echo,
    feed,
    log,
    // Without a bound the collector lets garbage lie for as long as there is memory, which looks like growth.
    nodeOptions: ['--max-old-space-size=48', '--max-semi-space-size=2'],
  });
  const ledger = createLedger('soak');
  const session = createSession(plainDialect('legacy'), transport, ledger);
  const handles: number[] = [];
  const rssMb: number[] = [];
  const processes: number[] = [];
  try {
    await session.open();
    const { pid } = transport.child;
    if (pid === undefined) throw new Error('It did not start.');
    const load = openLoop(session, callsPerSecond);
    let done = 0;
    while (done < swaps && session.dead() === null) {
      await feed.adopted(feed.change());
      done += 1;
      if (done % every !== 0) continue;
      handles.push(readdirSync(`/proc/${pid}/fd`).length);
      rssMb.push(rounded(rssMbOf(pid).now));
      processes.push(childrenOf(pid).length);
      if (done % (every * 5) === 0) {
        progress(
          `${done} swaps: ${handles.at(-1)} handles, ${rssMb.at(-1)} MB, ${processes.at(-1)} children`,
        );
      }
    }
    await stopAll([load], 10_000);
    const { failed, lost, doubled, mismatched, total, problems } = ledger.totals(
      await completeServerLog(log, ledger.owed()),
    );
    for (const problem of problems) progress(`! ${problem}`);
    const grown = Object.entries({ handles, rssMb, processes })
      .filter(([name, samples]) => grows(samples, tolerance[name as keyof typeof tolerance]))
      .map(([name]) => name);
    const bad = failed + lost + doubled + mismatched;
    const ok = done === swaps && bad === 0 && grown.length === 0 && total > 0;
    return { ok, swaps: done, calls: total, failed: bad, handles, rssMb, processes, grown };
  } finally {
    await session.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

function text({ swaps, calls, failed, handles, rssMb, processes, grown }: SoakResult): string {
  const span = (samples: readonly number[]) =>
    `${samples[0]} … ${median(samples)} … ${samples.at(-1)}`;
  return [
    `${swaps} swaps, ${calls} calls, ${failed} failed`,
    `handles ${span(handles)}; MB ${span(rssMb)}; children ${span(processes)} (first … median … last)`,
    grown.length === 0 ? 'nothing grew' : `grew: ${grown.join(', ')}`,
  ].join('\n');
}
