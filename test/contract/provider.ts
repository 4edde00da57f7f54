/** `npm run -s contract -- provider`: every built-in provider against its real server, as a table or as JSON. */
import { execFileSync } from 'node:child_process';
import {
  type ContractSubject,
  runContract,
  type SubjectResult,
} from '../../src/provider/contract.ts';
import type { CheckContext } from '../support/check.ts';
import { missingRedis } from '../support/servers/redis.ts';
import { execSubject, missingPython } from './subjects/exec.ts';
import { generatedKinds, generatedSubject } from './subjects/generated.ts';
import { operatorSubject } from './subjects/operator.ts';
import { postgresSubject } from './subjects/postgres.ts';
import { redisSubject } from './subjects/redis.ts';

interface Candidate {
  readonly name: string;
  /** Why it cannot run here; null where it can. */
  missing(): string | null;
  open(): Promise<ContractSubject>;
}

const none = (): null => null;

const candidates: readonly Candidate[] = [
  ...generatedKinds.map((kind) => ({
    name: generatedSubject(kind).name,
    missing: none,
    open: async () => generatedSubject(kind),
  })),
  { name: 'postgres', missing: none, open: postgresSubject },
  { name: 'redis', missing: missingRedis, open: redisSubject },
  ...(['listable', 'chosen', 'token', 'blind'] as const).map((crashClass) => ({
    name: crashClass === 'listable' ? 'exec' : `exec-${crashClass}`,
    missing: missingPython,
    open: () => execSubject(crashClass, pythonVersion()),
  })),
  { name: 'operator', missing: none, open: operatorSubject },
];

/** The bar: a subject that skips nearly everything has proven nothing. */
const casesMin = 12;

/** `args`: names of subjects; all where empty. */
export async function runProviderContract({
  args,
  progress,
  skip,
}: CheckContext): Promise<{ ok: boolean; subjects: SubjectResult[] }> {
  const unknown = args.filter((name) => candidates.every((one) => one.name !== name));
  if (unknown.length > 0) {
    throw new Error(
      `no subject ${unknown.join(', ')}; there are ${candidates.map(({ name }) => name).join(', ')}`,
    );
  }
  const subjects: SubjectResult[] = [];
  for (const candidate of candidates) {
    if (args.length > 0 && !args.includes(candidate.name)) continue;
    const reason = candidate.missing();
    if (reason !== null) {
      skip(candidate.name, reason);
      continue;
    }
    await using subject = await candidate.open();
    const result = await runContract(subject, progress);
    if (result.passed < casesMin) progress(`${result.name}: failed: fewer than ${casesMin} cases`);
    subjects.push(result);
  }
  const ok = subjects.every(({ passed, failed }) => failed === 0 && passed >= casesMin);
  return { ok: ok && subjects.length > 0, subjects };
}

export function providerContractText({
  subjects,
}: {
  readonly subjects: readonly SubjectResult[];
}): string {
  return subjects
    .map(
      ({ name, server, version, passed, failed, skipped }) =>
        `${name} (${server} ${version}): ${passed} passed, ${failed} failed, ${skipped.length} skipped`,
    )
    .join('\n');
}

function pythonVersion(): string {
  return execFileSync('python3', ['--version'], { encoding: 'utf8' }).trim().replace('Python ', '');
}
