/** `npm run -s faults`: everything that can go wrong in a swap, and what the client sees of each. */
import { runCheck } from '../../support/check.ts';
import { blueCases } from './blue.ts';
import { within } from './expect.ts';
import { grantCases } from './grants.ts';
import { greenCases } from './green.ts';
import { httpCases } from './http.ts';
import { hygieneCases } from './hygiene.ts';
import { lifeCases } from './life.ts';

interface Outcome {
  readonly name: string;
  readonly clientOutcome: string;
  readonly pass: boolean;
}

const allCases = [greenCases, blueCases, lifeCases, httpCases, grantCases, hygieneCases].flat();
/** A case that hangs is a failed one. */
const caseWithinMs = 120_000;

/** `--only TEXT`: cases whose name holds it. */
await runCheck<{ cases: readonly Outcome[] }>({
  name: 'faults',
  run: async ({ args, progress }) => {
    const at = args.indexOf('--only');
    const only = at === -1 ? '' : (args[at + 1] ?? '');
    const chosen = allCases.filter(({ name }) => name.includes(only));
    const cases: Outcome[] = [];
    for (const { name, run } of chosen) {
      const outcome = await within('the case to end', run(), caseWithinMs).then(
        (clientOutcome) => ({ name, clientOutcome, pass: true }),
        (error: unknown) => ({
          name,
          clientOutcome: error instanceof Error ? error.message : String(error),
          pass: false,
        }),
      );
      cases.push(outcome);
      progress(`${outcome.pass ? 'pass' : 'FAIL'} ${name}: ${outcome.clientOutcome}`);
    }
    return { ok: cases.length > 0 && cases.every(({ pass }) => pass), cases };
  },
  text: ({ cases }) =>
    cases
      .map(({ name, clientOutcome, pass }) => `${pass ? 'pass' : 'FAIL'} ${name}: ${clientOutcome}`)
      .join('\n'),
});
