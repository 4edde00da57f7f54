/** What one durable step of a real rotation costs, beside a bare overwrite and sync of 4 KB in the same breath. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { openDatabase } from '../../src/journal/database.ts';
import type { SqliteJournal } from '../../src/journal/sqlite.ts';
import { databaseName } from '../../src/state-place.ts';
import { ask, everything, openRunning, type Running } from './running.ts';
import { busySchedule, type Scene, writePolicies } from './scene.ts';
import { median, rounded, sum } from './stats.ts';

export interface StepFigures {
  readonly fsyncsPerSecond: number;
  readonly stepsPerSecond: number;
  readonly stepsPerSecondGrouped: number;
  /** Median over neighbouring pairs of step and overwrite + sync. */
  readonly ratio: number;
  /** The same for a commit of two such pages by SQLite itself with nothing of ours around it: no engine on it comes below. */
  readonly ratioOfBareCommit: number;
  /** Of a rotation's row, its JSON. */
  readonly rowBytes: number;
  readonly steps: number;
  /** Where the time of a rotation goes besides its commits. */
  readonly rotationsPerSecond: { readonly alone: number; readonly grouped: number };
}

const pageBytes = 4_096;
/** Overwritten in turn, as the journal overwrites its log. */
const pages = 1_024;
const inParallel = 64;
/** Like a rotation's row: one to a page. */
const bareRowBytes = 2_700;

export async function measureSteps(
  scene: Scene,
  { rotations, grouped }: { readonly rotations: number; readonly grouped: number },
): Promise<StepFigures> {
  const alone = await measureAlone(scene, rotations);
  return { ...alone.figures, ...(await measureGrouped(scene, grouped, alone.figures)) };
}

async function measureAlone(scene: Scene, rotations: number) {
  using bare = openBare(path.join(scene.root, 'bare'));
  using bareCommits = openBareCommits(path.join(scene.root, 'bare.db'));
  const stepMs: number[] = [];
  const bareMs: number[] = [];
  const bareCommitMs: number[] = [];
  const rowBytes: number[] = [];
  const wrapJournal = (journal: SqliteJournal): SqliteJournal => ({
    ...journal,
    commit: async (change) => {
      if (change.rotations === undefined) return journal.commit(change);
      const startedAt = performance.now();
      await journal.commit(change);
      stepMs.push(performance.now() - startedAt);
      bareMs.push(bare.overwrite());
      bareCommitMs.push(bareCommits.commit());
      rowBytes.push(...change.rotations.map(({ row }) => JSON.stringify(row.data).length));
    },
  });
  await using running = await open(scene, 'alone', rotations, wrapJournal);
  await warmUp(running, scene.places('alone').state, rotations);
  for (const list of [stepMs, bareMs, bareCommitMs, rowBytes]) list.length = 0;
  const tookMs = await rotateAll(running, rotations, 1);
  const toBare = (ms: readonly number[]) =>
    rounded(median(ms.map((one, index) => one / (bareMs[index] ?? Number.NaN))), 2);
  return {
    figures: {
      fsyncsPerSecond: Math.round((1_000 * bareMs.length) / sum(bareMs)),
      stepsPerSecond: Math.round((1_000 * stepMs.length) / sum(stepMs)),
      ratio: toBare(stepMs),
      ratioOfBareCommit: toBare(bareCommitMs),
      rowBytes: Math.round(median(rowBytes)),
      steps: stepMs.length,
      rotationsPerSecond: {
        alone: rounded((1_000 * rotations) / (tookMs - sum(bareMs) - sum(bareCommitMs))),
        grouped: Number.NaN,
      },
    },
  };
}

async function measureGrouped(
  scene: Scene,
  rotations: number,
  { rotationsPerSecond }: Pick<StepFigures, 'rotationsPerSecond'>,
) {
  let steps = 0;
  const wrapJournal = (journal: SqliteJournal): SqliteJournal => ({
    ...journal,
    commit: async (change) => {
      await journal.commit(change);
      steps += change.rotations?.length ?? 0;
    },
  });
  await using running = await open(scene, 'grouped', rotations, wrapJournal);
  await warmUp(running, scene.places('grouped').state, rotations);
  steps = 0;
  const tookMs = await rotateAll(running, rotations, inParallel);
  return {
    stepsPerSecondGrouped: Math.round((1_000 * steps) / tookMs),
    rotationsPerSecond: {
      ...rotationsPerSecond,
      grouped: rounded((1_000 * rotations) / tookMs),
    },
  };
}

/** Bounded by the machine alone: all secrets share one issuer here. */
const parallel = { total: inParallel, perIssuer: inParallel };

async function open(
  scene: Scene,
  name: string,
  count: number,
  wrapJournal: (journal: SqliteJournal) => SqliteJournal,
): Promise<Running> {
  const places = scene.places(name);
  await writePolicies(places.policies, count, { schedule: busySchedule });
  return openRunning(places, { wrapJournal, parallel });
}

/**
 * Leaves each secret a predecessor, as a rotation usually has one, and the journal's log as long as it gets: until then each
 * commit also makes the file grow, which a daemon that has run for an hour does no more.
 */
async function warmUp(running: Running, state: string, rotations: number): Promise<void> {
  let [before, now] = [-1, 0];
  while (now > before) {
    await rotateAll(running, rotations, inParallel);
    before = now;
    now = (await stat(path.join(state, `${databaseName}-wal`))).size;
  }
}

/** Every secret once, so many at a time; returns how long that took. */
async function rotateAll(
  { deployment: { machine, journal }, signal }: Running,
  count: number,
  atOnce: number,
): Promise<number> {
  const startedAt = performance.now();
  for (let from = 0; from < count; from += atOnce) {
    const length = Math.min(atOnce, count - from);
    const names = Array.from({ length }, (_, index) => `secret-${from + index}`);
    await machine.run({ ...everything, all: false, names }, ask);
    await machine.tick(signal);
  }
  const tookMs = performance.now() - startedAt;
  const left = await journal.unfinished();
  const notRetired = (await journal.history(null, count)).filter((row) => row.phase !== 'retired');
  if (left.length + notRetired.length > 0) {
    throw new Error(`${left.length} rotations did not end, ${notRetired.length} did not retire.`);
  }
  return tookMs;
}

/** The yardstick: what the disk itself takes to keep 4 KB. */
function openBare(file: string) {
  const handle = openSync(file, 'w+', 0o600);
  const page = Buffer.alloc(pageBytes, 1);
  for (let index = 0; index < pages; index++) writeSync(handle, page);
  fsyncSync(handle);
  let next = 0;
  return {
    /** Milliseconds. */
    overwrite: (): number => {
      const startedAt = performance.now();
      writeSync(handle, page, 0, pageBytes, next * pageBytes);
      fsyncSync(handle);
      const tookMs = performance.now() - startedAt;
      next = (next + 1) % pages;
      return tookMs;
    },
    [Symbol.dispose]: () => closeSync(handle),
  };
}

/** The floor: SQLite with the journal's settings, two rows of a page each, no JSON, no chain, no promise. */
function openBareCommits(file: string) {
  const database = openDatabase(file);
  database.exec('CREATE TABLE row (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT');
  const text = 'x'.repeat(bareRowBytes);
  for (let id = 0; id < pages; id++) database.run('INSERT INTO row VALUES (?, ?)', id, text);
  let commits = 0;
  return {
    /** Milliseconds. */
    commit: (): number => {
      const startedAt = performance.now();
      database.run('BEGIN IMMEDIATE');
      // Another text each time: SQLite does not write what is there already.
      const changed = `${++commits}${text}`.slice(0, bareRowBytes);
      for (const id of [0, 1 + (commits % (pages - 1))]) {
        database.run('UPDATE row SET text = ? WHERE id = ?', changed, id);
      }
      database.run('COMMIT');
      return performance.now() - startedAt;
    },
    [Symbol.dispose]: () => database.close(),
  };
}
