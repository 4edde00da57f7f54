/**
 * The contract that every provider keeps, as a list of cases that any test runner can run; exported as
 * `rotated/provider/contract`.
 *
 * A subject brings the provider, a real server and the faults it can make. What it skips it declares, with the reason: a
 * skip that is not declared fails, and so does a declared skip of a case that passes.
 */
import { isRotatedError } from '../errors.ts';
import type { ContractCase } from './contract-case.ts';
import { contractCases } from './contract-cases.ts';
import { createKit } from './contract-kit.ts';
import type { ContractWorld } from './contract-world.ts';
import type { Provider } from './provider.ts';
import { optionsOrThrow } from './registry.ts';

export type { ContractCase } from './contract-case.ts';
export type { ContractWorld, Variant } from './contract-world.ts';

export interface DeclaredSkip {
  /** A case's name. */
  readonly name: string;
  readonly reason: string;
}

export interface ContractSubject extends AsyncDisposable {
  /** Usually the provider's id. */
  readonly name: string;
  /** The real server behind it, `none` where there is none. */
  readonly server: string;
  readonly version: string;
  readonly provider: Provider;
  readonly skips: readonly DeclaredSkip[];
  world(): Promise<ContractWorld>;
}

export type CaseOutcome =
  | { readonly name: string; readonly outcome: 'passed' }
  | { readonly name: string; readonly outcome: 'skipped'; readonly reason: string }
  | { readonly name: string; readonly outcome: 'failed'; readonly reason: string };

export interface SubjectResult {
  readonly name: string;
  readonly server: string;
  readonly version: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly DeclaredSkip[];
}

/** All cases, in the order in which a rotation would meet them. */
export function providerContract(): readonly ContractCase[] {
  return contractCases;
}

/** One case against a world of its own. */
export async function runCase(subject: ContractSubject, one: ContractCase): Promise<CaseOutcome> {
  const { name } = one;
  const declared = subject.skips.find((skip) => skip.name === name);
  try {
    await using world = await subject.world();
    const { traits } = optionsOrThrow(subject.provider, world.options, world.context.secret);
    const reason = one.inapplicable(traits, world);
    if (reason !== null) {
      if (declared !== undefined) return { name, outcome: 'skipped', reason: declared.reason };
      return { name, outcome: 'failed', reason: `is skipped without being declared: ${reason}` };
    }
    await using kit = createKit(subject.provider, world);
    await one.run(kit);
  } catch (error) {
    // A known defect may be declared too; it is run all the same, so that its mending shows.
    if (declared !== undefined) return { name, outcome: 'skipped', reason: declared.reason };
    return { name, outcome: 'failed', reason: describe(error) };
  }
  if (declared === undefined) return { name, outcome: 'passed' };
  return { name, outcome: 'failed', reason: 'is declared as skipped, but passes' };
}

export async function runContract(
  subject: ContractSubject,
  progress: (line: string) => void = () => undefined,
): Promise<SubjectResult> {
  const outcomes: CaseOutcome[] = [];
  for (const one of contractCases) {
    const outcome = await runCase(subject, one);
    outcomes.push(outcome);
    const detail = outcome.outcome === 'passed' ? '' : `: ${outcome.reason}`;
    progress(`${subject.name}: ${outcome.outcome}: ${outcome.name}${detail}`);
  }
  const unknown = unknownSkips(subject);
  for (const name of unknown) progress(`${subject.name}: failed: no case is called "${name}"`);
  return {
    name: subject.name,
    server: subject.server,
    version: subject.version,
    passed: outcomes.filter(({ outcome }) => outcome === 'passed').length,
    failed: outcomes.filter(({ outcome }) => outcome === 'failed').length + unknown.length,
    skipped: outcomes.flatMap((one) =>
      one.outcome === 'skipped' ? [{ name: one.name, reason: one.reason }] : [],
    ),
  };
}

/** Declared skips that name no case: left over from one that was renamed. */
export function unknownSkips(subject: ContractSubject): readonly string[] {
  return subject.skips
    .map(({ name }) => name)
    .filter((name) => contractCases.every((one) => one.name !== name));
}

function describe(error: unknown): string {
  if (isRotatedError(error)) return `${error.code} (effect ${error.effect}): ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
