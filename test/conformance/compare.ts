/** Two runs of the conformance suite, check by check: what differs, and whether a known reason explains it. */

/** Check → how it ended, in the suite's words. */
export type Outcomes = ReadonlyMap<string, Outcome>;

export interface Outcome {
  readonly status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'INFO' | 'SKIPPED';
  readonly message: string;
}

/** Checks that must differ, each with the rule that makes it so. */
export type Excuses = Readonly<Record<string, string>>;

export interface Comparison {
  /** Those that could fail: what the suite only notes is none. */
  readonly checks: number;
  readonly directPassed: number;
  readonly gatePassed: number;
  /** In words, without those that are excused. */
  readonly differences: readonly string[];
  /** Excused, and differing. */
  readonly excused: readonly string[];
}

/**
 * Differences are reported both ways: a check that passes through the gate and not without it is one as well. An excuse for a
 * check that does not differ is reported too, so that the list of excuses never outlives its reasons.
 */
export function compare(direct: Outcomes, gate: Outcomes, excuses: Excuses = {}): Comparison {
  const names = [...new Set([...direct.keys(), ...gate.keys()])]
    .filter((name) => counts(direct.get(name)) || counts(gate.get(name)))
    .sort();
  const differing = names.filter((name) => direct.get(name)?.status !== gate.get(name)?.status);
  const stale = Object.keys(excuses).filter((name) => !differing.includes(name));
  return {
    checks: names.filter((name) => counts(direct.get(name))).length,
    directPassed: passed(direct),
    gatePassed: passed(gate),
    differences: [
      ...differing
        .filter((name) => !Object.hasOwn(excuses, name))
        .map((name) => `${name}: direct ${said(direct.get(name))}, gate ${said(gate.get(name))}`),
      ...stale.map((name) => `${name}: excused, and yet the same`),
    ],
    excused: differing.filter((name) => Object.hasOwn(excuses, name)),
  };
}

/** The suite quotes whole messages. */
const messageMost = 200;

function passed(outcomes: Outcomes): number {
  return [...outcomes.values()].filter(({ status }) => status === 'SUCCESS').length;
}

function counts(outcome: Outcome | undefined): boolean {
  return outcome !== undefined && outcome.status !== 'INFO' && outcome.status !== 'SKIPPED';
}

function said(outcome: Outcome | undefined): string {
  if (outcome === undefined) return 'did not run it';
  const [line = ''] = outcome.message.split('\n');
  return line === '' ? outcome.status : `${outcome.status} (${line.slice(0, messageMost)})`;
}
