/** Which interruptions are run, in how many lanes, and what comes of them: for each class, and for each mutant. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CrashClass } from '../../src/provider/provider.ts';
import { startIssuer } from '../support/issuer/server.ts';
import { startApps } from '../support/world-consumer/server.ts';
import { startGates } from './gate/control.ts';
import { type CaseResult, type Interruption, makeTemplate, runCase, type World } from './cases.ts';
import { startPool } from './pool.ts';
import { type ConsumerKind, type MutantName, mutantNames, type Violation } from './protocol.ts';
import { type Story, storiesOf } from './scenarios.ts';

export interface ClassResult {
  readonly name: CrashClass;
  /** Places where a process was interrupted, over all stories. */
  readonly points: number;
  readonly singles: number;
  readonly pairsRun: number;
  readonly pairsTotal: number;
  readonly stops: number;
  readonly processes: number;
}

export interface MutantResult {
  readonly name: MutantName;
  readonly caught: boolean;
  readonly byInvariant: string | null;
}

type Progress = (line: string) => void;

/** Two cores: one more lane than that keeps both busy while a case waits for a disk or a peer. */
const lanes = 3;

export async function withWorld<T>(
  consumer: ConsumerKind,
  work: (world: World) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'rotated-crash-'));
  try {
    await using issuer = await startIssuer({ directory: join(directory, 'issuer') });
    await using apps = await startApps();
    await using gates = consumer === 'gate' ? await startGates() : null;
    await using pool = startPool(lanes, join(directory, 'compile-cache'));
    using _ = onSignals(() => {
      pool.killAll();
      rmSync(directory, { recursive: true, force: true });
    });
    const kek = randomBytes(32).toString('hex');
    return await work({ directory, kek, issuer, apps, gates, pool, count: { cases: 0 } });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Whoever ends this run leaves no process behind, above all no stopped one. */
function onSignals(clean: () => void): Disposable {
  const end = () => {
    clean();
    process.exit(1);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, end);
  return {
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, end);
    },
  };
}

export async function runClass(
  world: World,
  crashClass: CrashClass,
  options: {
    readonly full: boolean;
    readonly canStop: boolean;
    readonly pairsMost: number;
    random(): number;
  },
  progress: Progress,
): Promise<{ readonly result: ClassResult; readonly violations: readonly Violation[] }> {
  const processesBefore = world.pool.processes;
  const stories = storiesOf(crashClass, options.full, consumerOf(world));
  const violations: Violation[] = [];
  const totals = { points: 0, singles: 0, stops: 0 };
  const pairs: { readonly story: Story; readonly interruption: Interruption }[] = [];
  const note = (result: CaseResult) => {
    violations.push(...result.violations);
  };
  await makeTemplate(world, crashClass, storyNamed(stories, 'plain'));

  for (const story of stories) {
    const clean = await runCase(world, story, { kills: [], stop: null }, null);
    note(clean);
    violations.push(...wrongEnd(story, clean));
    const numbers = clean.points.map((_, index) => index + 1);
    totals.points += numbers.length;
    await inLanes(numbers, async (point) => {
      const single = await runCase(world, story, { kills: [point], stop: null }, null);
      note(single);
      violations.push(...unreached(story, point, clean, single));
      totals.singles++;
      // Its recovery's points are where the second kill goes.
      for (const second of single.points.keys()) {
        pairs.push({ story, interruption: { kills: [point, second + 1], stop: null } });
      }
    });
    if (options.canStop && (story.stops || options.full)) {
      await inLanes(numbers, async (point) => {
        note(await runCase(world, story, { kills: [], stop: point }, null));
        totals.stops++;
      });
    }
    progress(
      `${crashClass}/${story.name}: ${numbers.length} points, ${violations.length} violations so far`,
    );
  }

  const chosen = sample(pairs, options.pairsMost, options.random);
  let pairsRun = 0;
  await inLanes(chosen, async ({ story, interruption }) => {
    note(await runCase(world, story, interruption, null));
    if (++pairsRun % 100 === 0) progress(`${crashClass}: ${pairsRun} of ${chosen.length} pairs`);
  });
  const result = {
    name: crashClass,
    ...totals,
    pairsRun,
    pairsTotal: pairs.length,
    processes: world.pool.processes - processesBefore,
  };
  return { result, violations };
}

/** Each mutant on the story that should betray it, until it breaks a promise. */
export async function runMutants(world: World, progress: Progress): Promise<MutantResult[]> {
  const results: MutantResult[] = [];
  const templates = new Set<CrashClass>();
  for (const name of mutantNames) {
    const { crashClass, story: wanted, by } = hunts[name];
    const stories = storiesOf(crashClass, true, consumerOf(world));
    const story = storyNamed(stories, wanted);
    if (!templates.has(crashClass)) {
      await makeTemplate(world, crashClass, storyNamed(stories, 'plain'));
      templates.add(crashClass);
    }
    const clean = await runCase(world, story, { kills: [], stop: null }, null);
    if (clean.violations.length > 0) throw new Error(`${wanted} fails without a mutant`);
    let caught: Violation | undefined;
    for (const interruption of interruptionsOf(by, clean.points.length)) {
      const { violations } = await runCase(world, story, interruption, name);
      // That it ends in another way than written shows that something is wrong, not what it did.
      caught = violations.find((one) => one.invariant !== 'outcome');
      if (caught !== undefined) break;
    }
    const byInvariant = caught === undefined ? null : caught.invariant;
    results.push({ name, caught: caught !== undefined, byInvariant });
    const how = caught === undefined ? 'NOT CAUGHT' : `${caught.point}: ${caught.detail}`;
    progress(`${name}: ${byInvariant ?? ''} ${how}`);
  }
  return results;
}

interface Hunt {
  readonly crashClass: CrashClass;
  readonly story: string;
  readonly by: 'nothing' | 'kill' | 'stop';
}

const hunts: Readonly<Record<MutantName, Hunt>> = {
  'no-reconcile': { crashClass: 'listable', story: 'plain', by: 'kill' },
  'no-intent': { crashClass: 'listable', story: 'plain', by: 'kill' },
  'plaintext-journal': { crashClass: 'token', story: 'plain', by: 'nothing' },
  'guard-removed': { crashClass: 'listable', story: 'plain', by: 'stop' },
  'verify-skipped': { crashClass: 'token', story: 'unusable', by: 'nothing' },
  'revoke-before-adoption': { crashClass: 'chosen', story: 'plain', by: 'nothing' },
};

function interruptionsOf(by: Hunt['by'], points: number): readonly Interruption[] {
  const numbers = Array.from({ length: points }, (_, index) => index + 1);
  switch (by) {
    case 'nothing':
      return [{ kills: [], stop: null }];
    case 'kill':
      return numbers.map((point) => ({ kills: [point], stop: null }));
    case 'stop':
      return numbers.map((point) => ({ kills: [], stop: point }));
    default:
      return by satisfies never;
  }
}

function consumerOf({ gates }: World): ConsumerKind {
  return gates === null ? 'app' : 'gate';
}

function storyNamed(stories: readonly Story[], name: string): Story {
  const story = stories.find((one) => one.name === name);
  if (story === undefined) throw new Error(`no story is named ${name}`);
  return story;
}

/** A story that nobody interrupts ends as it was written: else its interruptions would show little. */
function wrongEnd(story: Story, clean: CaseResult): readonly Violation[] {
  const [end] = story.ends;
  if (clean.points.includes(`after:commit:${end}`)) return [];
  const point = `${story.crashClass}/${story.name}`;
  return [{ point, invariant: 'outcome', detail: `it did not come to ${end} by itself` }];
}

/** A point that is not passed again the same way was not tested. */
function unreached(
  story: Story,
  point: number,
  clean: CaseResult,
  single: CaseResult,
): readonly Violation[] {
  if (single.reached) return [];
  const place = `${story.crashClass}/${story.name} point ${point}`;
  const detail = `${clean.points[point - 1]} was not passed again: the story is not repeatable`;
  return [{ point: place, invariant: 'outcome', detail }];
}

async function inLanes<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const waiting = [...all];
  const lane = async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** `most` of them, each equally likely, in their order. */
function sample<T>(all: readonly T[], most: number, random: () => number): readonly T[] {
  const keyed = all.map((one, index) => ({ one, index, key: random() }));
  const kept = keyed.sort((a, b) => a.key - b.key).slice(0, most);
  return kept.sort((a, b) => a.index - b.index).map(({ one }) => one);
}
