/** `npm run -s crash`: kill −9 and SIGSTOP at every point of a rotation, and what the invariants say afterwards. */
import type { CrashClass } from '../../src/provider/provider.ts';
import { runCheck } from '../support/check.ts';
import { type ClassResult, type MutantResult, runClass, runMutants, withWorld } from './harness.ts';
import type { ConsumerKind, Violation } from './protocol.ts';
import { crashClasses } from './scenarios.ts';

/** Of each class, unless `--pairs N` says otherwise; `--full` runs all of them. */
const pairsInCi = 25;

/** What a mint leaves behind is the same whoever uses the secret: two classes tell enough, `--full` runs all. */
const classesBehindGate: readonly CrashClass[] = ['chosen', 'listable'];

interface CrashResult {
  readonly backend: string;
  readonly consumer: ConsumerKind;
  readonly classes: readonly ClassResult[];
  readonly violations: readonly Violation[];
  readonly mutants?: readonly MutantResult[];
}

await runCheck<CrashResult>({
  name: 'crash',
  run: async ({ args, seed, progress, skip }) => {
    const asked = parse(args);
    const subject = { backend: asked.backend, consumer: asked.consumer };
    return withWorld(asked.consumer, async (world) => {
      if (asked.mutants) {
        const mutants = await runMutants(world, progress);
        const ok = mutants.every((one) => one.caught);
        return { ok, ...subject, classes: [], violations: [], mutants };
      }
      const canStop = process.platform === 'linux';
      if (!canStop) skip('stops', 'whether a process is stopped is read from /proc');
      const random = seededRandom(seed);
      const classes: ClassResult[] = [];
      const violations: Violation[] = [];
      for (const crashClass of crashClasses.filter((one) => asked.only.includes(one))) {
        const options = { full: asked.full, canStop, pairsMost: asked.pairs, random };
        const done = await runClass(world, crashClass, options, progress);
        classes.push(done.result);
        violations.push(...done.violations);
        for (const { point, invariant, detail } of done.violations) {
          progress(`VIOLATION ${invariant} at ${point}: ${detail}`);
        }
      }
      return { ok: violations.length === 0, ...subject, classes, violations };
    });
  },
  text: ({ classes, violations, mutants = [] }) =>
    [
      ...classes.map(
        (one) =>
          `${one.name}: ${one.singles} single kills, ${one.pairsRun} of ${one.pairsTotal} pairs, ${one.stops} stops, ${one.processes} processes`,
      ),
      ...mutants.map((one) => `${one.name}: ${one.byInvariant ?? 'NOT CAUGHT'}`),
      ...violations.map((one) => `VIOLATION ${one.invariant} at ${one.point}: ${one.detail}`),
    ].join('\n'),
});

interface Asked {
  readonly full: boolean;
  readonly mutants: boolean;
  readonly backend: string;
  readonly consumer: ConsumerKind;
  readonly only: readonly string[];
  readonly pairs: number;
}

function parse(args: readonly string[]): Asked {
  const rest = [...args];
  const flag = (name: string) => {
    const at = rest.indexOf(name);
    if (at >= 0) rest.splice(at, 1);
    return at >= 0;
  };
  const option = (name: string) => {
    const at = rest.indexOf(name);
    return at >= 0 ? (rest.splice(at, 2)[1] ?? '') : null;
  };
  const [full, mutants] = [flag('--full'), flag('--mutants')];
  const backend = option('--backend') ?? 'local';
  const consumer = option('--consumer') ?? 'app';
  const pairs = Number(option('--pairs') ?? (full ? Number.POSITIVE_INFINITY : pairsInCi));
  const usual = consumer === 'gate' && !full && !mutants ? classesBehindGate : crashClasses;
  const only = option('--class')?.split(',') ?? usual;
  if (rest.length > 0) throw new Error(`unknown argument ${rest.join(' ')}`);
  if (backend !== 'local') throw new Error(`no backend ${backend} here: only local`);
  if (consumer !== 'app' && consumer !== 'gate') {
    throw new Error(`no consumer ${consumer} here: app or gate`);
  }
  if (Number.isNaN(pairs)) throw new Error('--pairs needs a number');
  return { full, mutants, backend, consumer, only, pairs };
}

/** mulberry32: small, seeded, good enough to choose a sample. */
function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
