/** `npm run -s bad-input`: broken policies, keys, disks and databases; each a clear error, the state whole, the good ones usable. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildPackage } from '../support/built-package.ts';
import { type CheckContext, runCheck } from '../support/check.ts';
import { inOwnMounts, noMounts } from '../support/mounts.ts';
import type { CaseResult } from './case.ts';
import { type Deployment, makeGood } from './deployment.ts';
import { policyCase, policyFiles } from './policy-cases.ts';
import { stateCase, stateCases } from './state-cases.ts';

/** Processes at once. */
const inParallel = 4;

const withMounts = inOwnMounts();

await runCheck<{ readonly cases: readonly CaseResult[] }>({
  name: 'bad-input',
  run: async (context) => {
    const scratch = await mkdtemp(path.join(tmpdir(), 'rotated-bad-input-'));
    try {
      const good = await makeGood(
        path.join(scratch, 'good'),
        buildPackage(path.join(scratch, 'package')),
      );
      const cases = await runAll(good, scratch, context);
      const ok = cases.every((one) => one.stateIntact && one.complaints.length === 0);
      return { ok, cases };
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  },
  text: ({ cases }) =>
    cases
      .map(({ name, code, line, column, exit, stateIntact, complaints }) => {
        const place = line === null ? '' : ` ${line}:${column}`;
        const wrong = complaints.map((one) => `\n    ${one}`).join('');
        return `${wrong === '' && stateIntact ? 'ok    ' : 'FAILED'} ${name}: ${code}${place}, exit ${exit}, state ${stateIntact ? 'intact' : 'NOT intact'}${wrong}`;
      })
      .join('\n'),
});

async function runAll(
  good: Deployment,
  scratch: string,
  { args, progress, skip }: CheckContext,
): Promise<CaseResult[]> {
  const possible = stateCases.filter((one) => {
    if (one.mounts === undefined || withMounts) return true;
    skip(one.name, noMounts);
    return false;
  });
  const jobs = [
    ...policyFiles().map((file) => ({ name: file, run: () => policyCase(good, scratch, file) })),
    ...possible.map((one) => ({ name: one.name, run: () => stateCase(good, scratch, one) })),
  ].filter(({ name }) => args.every((wanted) => name.includes(wanted)));
  const results: CaseResult[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < jobs.length; index = next++) {
      const job = jobs[index];
      if (job === undefined) return;
      const result = await job.run().catch((error: unknown) => broken(job.name, error));
      results[index] = result;
      progress(
        `${result.complaints.length === 0 && result.stateIntact ? 'ok' : 'FAILED'} ${result.name} ${result.code}`,
      );
    }
  };
  await Promise.all(Array.from({ length: inParallel }, worker));
  return results;
}

/** A case that could not be carried out is a failed one; the others go on. */
function broken(name: string, error: unknown): CaseResult {
  const complaint = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const nothing = { code: null, line: null, column: null, exit: null };
  return { name, ...nothing, stateIntact: false, complaints: [complaint] };
}
