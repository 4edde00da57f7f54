/** `npm run real-servers`: published servers whose credential changes under load, against issuers that refuse dead ones. */
import { runCheck } from '../support/check.ts';
import { context7, keyCase, perplexity } from './key-cases.ts';
import { postgresCase } from './postgres-case.ts';
import { type CaseResult, rotationsWanted, runCase } from './run-case.ts';

/** Without the gate, the same must come out badly: `npm run real-servers -- --bare`. */
const bareFlag = '--bare';

const cases = {
  postgres: postgresCase,
  context7: () => keyCase(context7),
  perplexity: () => keyCase(perplexity),
};

// Ended early, it still takes its processes with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

await runCheck<{ cases: readonly CaseResult[] }>({
  name: 'real-servers',
  async run({ args, progress }) {
    const way = args.includes(bareFlag) ? 'bare' : 'wrap';
    const named = args.filter((arg) => arg !== bareFlag);
    const results: CaseResult[] = [];
    for (const [name, start] of Object.entries(cases)) {
      if (named.length > 0 && !named.includes(name)) continue;
      await using subject = await start();
      results.push(await runCase(subject, way, progress));
    }
    const ok = results.length > 0 && results.every(isGood);
    return { ok, cases: results };
  },
  text: ({ cases }) =>
    cases
      .map(
        (one) =>
          `${one.server}: ${one.rotations} rotations, ${one.calls} calls, ${one.failed} failed, ` +
          `${one.oldKeyUsesAfterRevoke} uses of an old credential after its revoke`,
      )
      .join('\n'),
});

function isGood(one: CaseResult): boolean {
  return (
    one.rotations >= rotationsWanted &&
    one.calls > 0 &&
    one.failed === 0 &&
    one.oldKeyUsesAfterRevoke === 0
  );
}
