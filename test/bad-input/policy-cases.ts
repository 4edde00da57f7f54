/** The broken policy files, each beside a good one: the command names the place, the good one goes on rotating. */
import { copyFileSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { PolicyProblem } from '../../src/policy/policy.ts';
import type { CaseResult } from './case.ts';
import { copyOf, type Deployment, digestOf, rotate } from './deployment.ts';

const folder = path.join(import.meta.dirname, 'policies');

type Expected = Pick<PolicyProblem, 'code' | 'line' | 'column' | 'path'>;

export function policyFiles(): readonly string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.yaml'))
    .sort();
}

export async function policyCase(
  good: Deployment,
  scratch: string,
  file: string,
): Promise<CaseResult> {
  const name = path.basename(file, '.yaml');
  const spoiled = copyOf(good, path.join(scratch, name));
  const placed = path.join(spoiled.policies, file);
  copyFileSync(path.join(folder, file), placed);
  const expected = JSON.parse(
    readFileSync(path.join(folder, `${name}.expected.json`), 'utf8'),
  ) as Expected[];
  const before = digestOf(spoiled.state);
  const checked = await rotate(spoiled, ['--check'], 'rotated');
  const isUntouched = digestOf(spoiled.state) === before;
  const problems = ((checked.json?.['problems'] ?? []) as PolicyProblem[]).filter(
    (one) => one.file === placed,
  );
  const complaints = [
    ...expected
      .filter((one) => !problems.some((found) => isSame(one, found)))
      .map((one) => `lacks ${one.code} at ${one.line}:${one.column}`),
    ...problems
      .filter((found) => !expected.some((one) => isSame(one, found)))
      .map((one) => `also has ${one.code} at ${one.line}:${one.column}`),
    // A file that is no YAML has no place where an example would fit.
    ...problems
      .filter((one) => one.path !== '' && one.example === null)
      .map((one) => `no example for ${one.code}`),
    ...(checked.exit === 3 ? [] : [`exit ${checked.exit}`]),
  ];
  const ran = await rotate(spoiled, ['run', 'good']);
  const shown = await rotate(spoiled, ['status', 'good']);
  const secrets = shown.json?.['secrets'] as { generation: number }[] | undefined;
  const goesOn = ran.exit === 0 && secrets?.[0]?.generation === 2;
  if (!goesOn)
    complaints.push(`the good policy beside it stopped: ${ran.out}${ran.err}${shown.out}`);
  const [first] = problems;
  return {
    name,
    code: first?.code ?? null,
    line: first?.line ?? null,
    column: first?.column ?? null,
    exit: checked.exit,
    stateIntact: isUntouched && goesOn,
    complaints,
  };
}

function isSame(a: Expected, b: Expected): boolean {
  return a.code === b.code && a.line === b.line && a.column === b.column && a.path === b.path;
}
