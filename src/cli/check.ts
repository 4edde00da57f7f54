/** `rotated --check` and `rotate doctor`: what an examination found, shown so that each line can be acted upon. */
import { asRotatedError } from '../errors.ts';
import type { Finding } from '../finding.ts';
import type { PolicyProblem } from '../policy/policy.ts';
import { renderProblem } from '../policy/render.ts';
import type { Deployment } from '../wiring/deployment.ts';
import { type Examination, examine } from '../wiring/examine.ts';
import type { Places } from '../wiring/places.ts';
import type { Call } from './command.ts';
import { placesOf } from './connect.ts';
import type { Exit } from './exit.ts';
import { openToLook } from './open.ts';
import { plural, stepsApart } from './print.ts';

export interface CheckOptions {
  readonly reach: boolean;
}

/** Exits with `refused` where anything is red. Changes nothing, makes nothing, needs no daemon. */
export async function check(call: Call, { reach }: CheckOptions): Promise<Exit> {
  const places = placesOf(call);
  const examination = await examined(call, places, reach, null);
  return printExamination(call, examination, places);
}

export async function examined(
  call: Call,
  places: Places,
  reach: boolean,
  only: ReadonlySet<string> | null,
): Promise<Examination> {
  const { io } = call;
  let deployment: Deployment;
  try {
    deployment = await openToLook(call, places);
  } catch (thrown) {
    const error = asRotatedError(thrown, 'none');
    const finding: Finding = {
      name: error.code,
      level: 'red',
      message: error.message,
      ...(error.next === '' ? {} : { mend: error.next }),
    };
    return { findings: [finding], problems: [], policies: 0 };
  }
  await using opened = deployment;
  return await examine(opened, { reach, only, signal: io.signal });
}

export function printExamination(
  { io, options }: Call,
  { findings, problems, policies }: Examination,
  places: Places,
): Exit {
  const red = problems.length + findings.filter(({ level }) => level === 'red').length;
  if (options.json === true) {
    io.out(
      `${JSON.stringify({ ok: red === 0, state: places.state, policyFolder: places.policies, policies, problems, findings })}\n`,
    );
    return red === 0 ? 'ok' : 'refused';
  }
  for (const problem of problems) io.out(`${problemText(problem, io.outIsTerminal, io.columns)}\n`);
  if (problems.some(({ file }) => file === places.policies)) {
    io.out('  Next: Name the folder of the policy files, --policies DIR; or begin: rotate init\n');
  }
  for (const finding of findings) io.out(findingText(finding));
  io.out(
    red === 0
      ? `${plural(policies, 'policy', 'policies')} in ${places.policies}: nothing wrong.\n`
      : `${plural(red, 'thing')} to mend.\n`,
  );
  return red === 0 ? 'ok' : 'refused';
}

function problemText(problem: PolicyProblem, color: boolean, width: number): string {
  return renderProblem(problem, { color, width });
}

function findingText({ name, level, message, place, why, mend }: Finding): string {
  const mark = { red: '✗', amber: '!', green: '✓' }[level];
  return [
    `${mark} ${place === undefined ? '' : `${place}: `}${stepsApart(message)} (${name})\n`,
    why === undefined ? '' : `  Why: ${why}\n`,
    mend === undefined ? '' : `  Next: ${mend}\n`,
  ].join('');
}
