/** `npm run -s model`: lives of the whole machine in simulated time, each drawn from the seed. */
import fc from 'fast-check';
import { runCheck } from '../support/check.ts';
import { Broken, type Violation } from './invariants.ts';
import { live, steps, type Tally } from './run.ts';

await runCheck({
  name: 'model',
  run: async ({ args, seed, progress }) => {
    const at = args.indexOf('--runs');
    const runs = at === -1 ? 150 : Number(args[at + 1]);
    const tally: Tally = { commands: 0, clockJumps: 0, violations: [] };
    let done = 0;
    let isBroken = false;
    const property = fc.asyncProperty(
      steps,
      fc.scheduler(),
      fc.integer({ min: 1, max: 1_000_000 }),
      async (script, scheduler, worldSeed) => {
        const broken: readonly Violation[] = await live(script, scheduler, worldSeed, tally);
        done += 1;
        if (done % 25 === 0) progress(`${done} lives, ${tally.commands} commands`);
        if (broken.length > 0) {
          if (!isBroken)
            progress(`broken, looking for a smaller life: ${JSON.stringify(broken[0])}`);
          isBroken = true;
        }
        if (broken.length > 0) throw new Broken(broken);
      },
    );
    const result = await fc.check(property, { numRuns: runs, seed, endOnFailure: false });
    const error = result.errorInstance;
    const violations = !result.failed
      ? []
      : error instanceof Broken
        ? error.violations
        : [
            {
              point: 'run',
              invariant: `it threw: ${error instanceof Error ? error.stack : String(error)}`,
            },
          ];
    if (result.failed) {
      progress(`replay with --seed ${seed}; the smallest life found:`);
      progress(JSON.stringify(result.counterexample?.[0]));
    }
    return {
      ok: violations.length === 0 && result.numRuns > 0,
      runs: result.numRuns,
      commands: tally.commands,
      clockJumps: tally.clockJumps,
      violations,
    };
  },
  text: (result) =>
    `${result.runs} lives, ${result.commands} commands, ${result.clockJumps} clock jumps: ${result.violations.length} violations`,
});
