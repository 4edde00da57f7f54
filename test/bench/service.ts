/** What the real service costs from outside: its start, its punctuality and memory with 10,000 policies, and `rotate status`. */
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../../src/clock.ts';
import type { AuditChain } from '../../src/journal/journal.ts';
import { openSqliteJournal, type SqliteJournal } from '../../src/journal/sqlite.ts';
import type { BuiltPackage } from '../support/built-package.ts';
import { startDaemon, timeNode } from './processes.ts';
import { type Places, type Scene, writePolicies } from './scene.ts';
import { median, percentile } from './stats.ts';

const few = 10;
const many = 10_000;
const settled = '{ every: 30d, timezone: Europe/Berlin, splay: 10m }';
const farAwayMs = 86_400_000;
/** What has not happened by then never will. */
const patienceMs = 120_000;

export interface ServiceFigures {
  readonly coldStartMs: {
    readonly n10: number;
    readonly n10kUnchanged: number;
    readonly n10kNew: number;
  };
  readonly tickLagP99Ms: number;
  /** The most it ever had in the run that the lag was measured in. */
  readonly rssMb: number;
  /** Right after its first start with policies that it has never seen. */
  readonly rssMbFirstStart: number;
  readonly statusOverNodeMs: number;
  readonly statusOverNodeMs10k: number;
  /** How many rotations the lag was measured on, and how many began each second. */
  readonly tick: { readonly rotations: number; readonly perSecond: number };
}

export interface ServiceOptions {
  readonly repeats: number;
  readonly due: number;
  readonly spreadMs: number;
  progress(line: string): void;
}

export async function measureService(
  scene: Scene,
  built: BuiltPackage,
  options: ServiceOptions,
): Promise<ServiceFigures> {
  const small = await measureSmall(scene, built, options);
  const places = scene.places('many');
  await writePolicies(places.policies, many, { schedule: settled });
  const first = await startDaemon(built.rotated, places.args);
  const rssMbFirstStart = first.rssMb().most;
  // At once, since all of them are due: what is under way goes on at the next start.
  await first[Symbol.asyncDispose]();
  options.progress(`cold start, ${many} new: ${Math.round(first.readyMs)} ms`);
  await finish(built, places, options.progress);
  const unchanged: number[] = [];
  for (let run = 0; run < options.repeats; run++) unchanged.push(await startOnce(built, places));
  options.progress(`cold start, ${many} unchanged: ${Math.round(median(unchanged))} ms`);
  const lag = await measureLag(built, places, options, median(unchanged));
  return {
    coldStartMs: {
      n10: Math.round(small.startMs),
      n10kUnchanged: Math.round(median(unchanged)),
      n10kNew: Math.round(first.readyMs),
    },
    tickLagP99Ms: Math.round(lag.p99Ms),
    rssMb: Math.round(lag.rssMb),
    rssMbFirstStart: Math.round(rssMbFirstStart),
    statusOverNodeMs: Math.round(small.statusMs),
    statusOverNodeMs10k: Math.round(lag.statusMs),
    tick: lag.tick,
  };
}

async function measureSmall(
  scene: Scene,
  built: BuiltPackage,
  { repeats, progress }: ServiceOptions,
): Promise<{ startMs: number; statusMs: number }> {
  const places = scene.places('few');
  await writePolicies(places.policies, few, { schedule: settled, perFile: 1 });
  // The first makes the state and the credentials.
  await startOnce(built, places);
  const starts: number[] = [];
  for (let run = 0; run < repeats * 2; run++) starts.push(await startOnce(built, places));
  await using running = await startDaemon(built.rotated, places.args);
  const statusMs = statusOverNode(built, places, repeats * 2);
  await running.stop();
  progress(
    `cold start, ${few}: ${Math.round(median(starts))} ms; status +${Math.round(statusMs)} ms`,
  );
  return { startMs: median(starts), statusMs };
}

async function startOnce(built: BuiltPackage, places: Places): Promise<number> {
  await using daemon = await startDaemon(built.rotated, places.args);
  const code = await daemon.stop();
  if (code !== 0) throw new Error(`rotated ended with ${code}.`);
  return daemon.readyMs;
}

/** The neighbours of each run of `rotate status` are runs of bare node. */
function statusOverNode(built: BuiltPackage, { state }: Places, repeats: number): number {
  const over: number[] = [];
  for (let run = 0; run < repeats; run++) {
    const bare = timeNode(['-e', '0']);
    over.push(timeNode([built.rotate, 'status', '--state', state]) - bare);
  }
  return median(over);
}

/** Ends what the first start began, and lets nothing be due for a day: a deployment on an ordinary morning. */
async function finish(
  built: BuiltPackage,
  places: Places,
  progress: (line: string) => void,
): Promise<void> {
  await setDue(places, () => Date.now() + farAwayMs);
  await using daemon = await startDaemon(built.rotated, places.args);
  await waitForEnd(places, progress);
  await daemon.stop();
}

async function measureLag(
  built: BuiltPackage,
  places: Places,
  { due, spreadMs, repeats, progress }: ServiceOptions,
  startMs: number,
): Promise<{ p99Ms: number; rssMb: number; statusMs: number; tick: ServiceFigures['tick'] }> {
  // Nothing is due before the daemon is up: what it found late at its start is another story.
  const firstAt = Date.now() + 3 * startMs + 3_000;
  const dueAt = await setDue(places, (index) =>
    index % (many / due) === 0 ? firstAt + (index / many) * spreadMs : Date.now() + farAwayMs,
  );
  await using daemon = await startDaemon(built.rotated, places.args);
  if (Date.now() > firstAt) throw new Error('The daemon started later than the first due instant.');
  await delay(firstAt + spreadMs - Date.now());
  const lags = await waitForLags(places, dueAt, firstAt, due);
  await waitForEnd(places, progress);
  const rssMb = daemon.rssMb().most;
  const statusMs = statusOverNode(built, places, repeats);
  await daemon.stop();
  const p99Ms = percentile(lags, 0.99);
  const perSecond = (1_000 * due) / spreadMs;
  progress(`tick lag p99 ${Math.round(p99Ms)} ms over ${due} rotations, ${Math.round(rssMb)} MB`);
  return { p99Ms, rssMb, statusMs, tick: { rotations: due, perSecond } };
}

/** Composed at `startedAt`, durable one commit later. The last ones may begin after their instants: that is what is measured. */
async function waitForLags(
  places: Places,
  dueAt: ReadonlyMap<string, number>,
  firstAt: number,
  due: number,
): Promise<readonly number[]> {
  const until = Date.now() + patienceMs;
  for (;;) {
    const lags = await withJournal(places, true, async (journal) =>
      (await journal.history(null, due)).flatMap(({ startedAt, secrets }) => {
        const at = dueAt.get(secrets[0] ?? '');
        return at === undefined || startedAt < firstAt ? [] : [startedAt - at];
      }),
    );
    if (lags.length === due) return lags;
    if (Date.now() > until) throw new Error(`${lags.length} of ${due} due rotations began.`);
    await delay(1_000);
  }
}

async function waitForEnd(places: Places, progress: (line: string) => void): Promise<void> {
  const until = Date.now() + patienceMs;
  for (;;) {
    const left = await withJournal(places, true, (journal) => journal.unfinished());
    if (left.length === 0) return;
    if (Date.now() > until) throw new Error(`${left.length} rotations do not end.`);
    progress(`${left.length} rotations under way`);
    await delay(1_000);
  }
}

async function setDue(
  places: Places,
  dueAtOf: (index: number) => number,
): Promise<ReadonlyMap<string, number>> {
  return withJournal(places, false, async (journal) => {
    const holder = { pid: process.pid, host: hostname(), what: 'bench' };
    const { fence } = await journal.acquire(holder, 30_000);
    const rows = await journal.secrets();
    const changes = rows.map(({ version, ...row }, index) => ({
      expectVersion: version,
      row: { ...row, dueAt: Math.round(dueAtOf(index)) },
    }));
    await journal.commit({ fence, secrets: changes });
    await journal.release(fence);
    return new Map(changes.map(({ row }) => [row.name, row.dueAt]));
  });
}

async function withJournal<T>(
  { state }: Places,
  readOnly: boolean,
  work: (journal: SqliteJournal) => Promise<T>,
): Promise<T> {
  await using journal = await openSqliteJournal({
    directory: state,
    clock: systemClock(),
    chain: noAudit,
    readOnly,
  });
  return await work(journal);
}

/** Nothing is audited here: the daemon's own chain must stay whole. */
const noAudit: AuditChain = {
  next: () => {
    throw new Error('The benchmark writes no audit lines.');
  },
};
