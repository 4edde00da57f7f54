/** Looks at a deployment without changing it: key, state, policies, and where asked for, issuers, backends, consumers. */
import { asRotatedError, type RotatedError } from '../errors.ts';
import type { Finding } from '../finding.ts';
import type { Policy, PolicyProblem } from '../policy/policy.ts';
import type { Deployment } from './deployment.ts';

export interface Examination {
  readonly findings: readonly Finding[];
  /** Mistakes of policy files, with their places. */
  readonly problems: readonly PolicyProblem[];
  readonly policies: number;
}

export interface ExamineOptions {
  /** Also try the issuers, backends and consumers that the policies name. */
  readonly reach: boolean;
  /** Which secrets to reach; null: all. */
  readonly only: ReadonlySet<string> | null;
  readonly signal: AbortSignal;
}

/** At once: enough to be quick, few enough for any issuer. */
const parallel = 8;
/** For each thing reached; a check that hangs must not hang the doctor. */
const reachTimeoutMs = 10_000;

export async function examine(
  deployment: Deployment,
  { reach, only, signal }: ExamineOptions,
): Promise<Examination> {
  const { policies, problems, complete } = await deployment.readPolicies();
  const findings: Finding[] = [];
  if (complete && policies.size === 0 && problems.length === 0) {
    findings.push({
      name: 'no-policies',
      level: 'amber',
      message: 'The policy folder holds no policy.',
      mend: 'Write a first one: rotate init.',
    });
  }
  for (const name of complete ? (only ?? []) : []) {
    if (policies.has(name)) continue;
    findings.push({
      name: 'policy-unknown',
      level: 'red',
      message: `No policy is named ${name}.`,
      mend: 'rotate plan lists the names there are.',
    });
  }
  for (const warning of deployment.warnings) {
    findings.push({ name: 'key', level: 'amber', message: warning });
  }
  for (const policy of policies.values()) {
    findings.push(...constructible(deployment, policy));
  }
  if (reach) {
    const wanted = [...policies.values()].filter(
      (policy) => only === null || only.has(policy.name),
    );
    const reached = await inParallel(wanted, (policy) => reachable(deployment, policy, signal));
    findings.push(...reached.flat());
  }
  return { findings, problems, policies: policies.size };
}

/** Everything that can be built without opening anything. */
function constructible({ ports }: Deployment, policy: Policy): Finding[] {
  const findings: Finding[] = [];
  const attempt = (name: string, build: () => unknown) => {
    try {
      build();
    } catch (error) {
      findings.push(findingOf(name, policy, asRotatedError(error, 'none', policy.name)));
    }
  };
  attempt('provider', () => ports.provider(policy));
  attempt('backend', () => ports.backend(policy));
  attempt('verify', () => ports.verifiers(policy));
  attempt('consumers', () => ports.consumers(policy));
  return findings;
}

async function reachable(
  { ports }: Deployment,
  policy: Policy,
  outer: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const place = (finding: Finding): Finding => ({
    ...finding,
    place: finding.place === undefined ? policy.name : `${policy.name}: ${finding.place}`,
  });
  const attempt = async (name: string, look: (signal: AbortSignal) => Promise<Finding[]>) => {
    const signal = AbortSignal.any([outer, AbortSignal.timeout(reachTimeoutMs)]);
    try {
      findings.push(...(await look(signal)).map(place));
    } catch (error) {
      findings.push(findingOf(name, policy, asRotatedError(error, 'none', policy.name)));
    }
  };
  await attempt('issuer', async (signal) => {
    await using session = await ports.provider(policy).open();
    return await session.check(signal);
  });
  await attempt('backend', (signal) =>
    ports.backend(policy).preflight(policy.backend.item, signal),
  );
  await attempt('consumers', async (signal) => {
    await Promise.all(ports.consumers(policy).map((consumer) => consumer.probe(signal)));
    return [];
  });
  if (findings.every(({ level }) => level === 'green')) {
    findings.push({
      name: 'reached',
      level: 'green',
      message: 'Issuer, backend and consumers answer.',
      place: policy.name,
    });
  }
  return findings;
}

function findingOf(name: string, policy: Policy, error: RotatedError): Finding {
  return {
    name: `${name}-${error.code}`,
    level: 'red',
    message: error.message,
    place: `${policy.source.file}:${policy.source.line}, ${policy.name}`,
    ...(error.next === '' ? {} : { mend: error.next }),
  };
}

async function inParallel<In, Out>(
  all: readonly In[],
  work: (one: In) => Promise<Out>,
): Promise<Out[]> {
  const results: Out[] = [];
  const queue = all.entries();
  const worker = async () => {
    for (const [index, one] of queue) results[index] = await work(one);
  };
  await Promise.all(Array.from({ length: Math.min(parallel, all.length) }, worker));
  return results;
}
