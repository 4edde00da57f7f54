/** What a rotation would do, step by step, without touching anything. */
import { formatDuration } from '../policy/duration.ts';
import type { Policy } from '../policy/policy.ts';
import { decideContain } from './checks.ts';
import type { SecretState } from './model.ts';
import type { OpenProvider } from './ports.ts';
import type { EmergencyMode, Plan } from './service.ts';

export function planOf(
  policy: Policy,
  provider: OpenProvider,
  consumers: readonly string[],
  runs: readonly number[],
  now: EmergencyMode | null,
): Plan {
  const { traits } = provider;
  const verifiers = policy.consumers.filter((consumer) => consumer.role === 'verifier').length;
  const users = policy.consumers.length - verifiers;
  const item = `${policy.backend.scheme}://${policy.backend.item}`;
  const step = (phase: string, what: string, afterMs: number | null) => ({ phase, what, afterMs });
  const checks = [
    'provider',
    ...policy.verify.filter((one) => one.kind !== 'provider').map((one) => one.kind),
  ].join(', ');
  const unconfirmed = policy.consumers.filter(
    (consumer) =>
      consumer.report === null &&
      consumer.kind !== 'gate' &&
      !(consumer.kind === 'http' && consumer.key !== null),
  ).length;
  const graceMs = now === null ? policy.graceMs : 0;
  const steps = [
    step(
      'planned',
      `check the admin credential, ${item} and ${count(policy.consumers.length, 'consumer')}`,
      0,
    ),
    ...(now === 'contain'
      ? [
          step(
            'minting',
            `${traits.capabilities.disable ? 'disable' : 'revoke'} the credential in use, before there is a new one`,
            0,
          ),
        ]
      : []),
    step(
      'minting',
      traits.strategy === 'operator'
        ? 'wait for a person to supply a new credential'
        : `mint a new credential at ${policy.provider.use}${now === 'contain' || traits.limits.liveMax < 2 ? '' : '; the one in use works on'}`,
      traits.strategy === 'operator' ? null : 0,
    ),
    step('staged', `write it to ${item} as pending`, traits.strategy === 'operator' ? null : 0),
    ...(verifiers > 0
      ? [
          step(
            'distributed',
            `${count(verifiers, 'verifier')} to accept it beside the current one`,
            null,
          ),
        ]
      : []),
    step('verified', `verify the value read back: ${checks}`, null),
    step('promoted', 'pending becomes current', null),
    step(
      'adopted',
      users + verifiers === 0
        ? 'nobody to reload'
        : `reload ${count(users + verifiers, 'consumer')} and wait until every live instance serves it; after ${formatDuration(policy.adoption.timeoutMs)}: ${policy.adoption.then}`,
      null,
    ),
    step(
      'retiring',
      graceMs === 0 ? 'no grace' : `a grace of ${formatDuration(graceMs)} after adoption`,
      graceMs === 0 ? null : graceMs,
    ),
    step(
      'retired',
      `revoke the old credential${traits.capabilities.proof === 'safe' ? ' and prove it dead' : ' (its death cannot be proven by trying it)'}`,
      graceMs === 0 ? null : graceMs,
    ),
  ];
  const takesPerson = traits.strategy === 'operator' || traits.revokeScope === 'family';
  const deadWithinMs = now === null || takesPerson ? null : policy.emergency.deadlineMs;
  return {
    secret: policy.name,
    consumers,
    deadWithinMs,
    runs,
    steps,
    warnings: [...containWarning(traits, now), ...warningsOf(policy, provider, unconfirmed)],
  };
}

/** A secret that the backend does not hold yet has nothing to wait for. */
export function runsFrom(
  policy: Policy,
  state: SecretState | null,
  now: number,
  runs: readonly number[],
): readonly number[] {
  if (policy.schedule.trigger.kind === 'manual') return runs;
  const isMadeAtOnce =
    state === null || (state.generation === 0 && !state.data.looked && !state.paused);
  return isMadeAtOnce ? [now, ...runs.slice(0, -1)] : runs;
}

export function whilePaused(plan: Plan, state: SecretState | null): Plan {
  if (state?.paused !== true) return plan;
  const off = `its schedule is off until 'rotate resume ${plan.secret}'`;
  return { ...plan, warnings: [off, ...plan.warnings] };
}

function containWarning(traits: OpenProvider['traits'], now: EmergencyMode | null): string[] {
  const decision = now === 'contain' ? decideContain(traits) : null;
  if (decision === null || 'by' in decision) return [];
  return [`the mode contain would be refused: ${decision.refused}`];
}

function warningsOf(policy: Policy, { traits }: OpenProvider, unconfirmed: number): string[] {
  const warnings: string[] = [];
  if (traits.limits.liveMax < 2)
    warnings.push(
      'this issuer allows one live credential: the old one ends the moment the new one is made',
    );
  if (traits.strategy === 'operator') warnings.push('a person must create and end the credential');
  if (traits.crashClass === 'blind')
    warnings.push(
      'a mint whose answer is lost parks the rotation until a person has looked at the issuer',
    );
  if (traits.revokeScope === 'family')
    warnings.push(
      'revoking one credential ends its successors: rotated never revokes here by itself',
    );
  if (unconfirmed > 0)
    warnings.push(
      `${count(unconfirmed, 'consumer')} without a report: what happens then is 'adoption.then: ${policy.adoption.then}'`,
    );
  return warnings;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
