/** When a secret is due: its schedule asked with what the journal knows. */
import type { Policy } from '../policy/policy.ts';
import type { Context } from './context.ts';
import type { SecretState } from './model.ts';
import type { DueContext } from './ports.ts';

/** A failed scheduled run is tried again after so long, then twice that, unless its schedule fires before. */
const retryFirstMs = 5 * 60_000;
const retryMostMs = 6 * 60 * 60_000;

type DueSource = Pick<Context, 'ports' | 'policyOf'>;

export function dueContextOf(state: SecretState, now: number): DueContext {
  const { firedAt, current, knownSince } = state.data;
  return {
    now,
    firedAt,
    currentSince: current?.since ?? null,
    expiresAt: current?.expiresAt ?? null,
    knownSince,
  };
}

export function dueAfter(
  source: DueSource,
  state: SecretState,
  policy: Policy | null = source.policyOf(state.name),
): number | null {
  if (policy === null) return null;
  return source.ports.nextDue(policy, dueContextOf(state, source.ports.scheduleClock.now()));
}

/** As if it had not fired: the missed run comes at the schedule's next chance, inside its window, and not at once. */
export function retryAfterFailure(source: DueSource, state: SecretState): number | null {
  const policy = source.policyOf(state.name);
  if (policy === null) return null;
  const regular = dueAfter(source, state, policy);
  const delayMs = Math.min(retryMostMs, retryFirstMs * 2 ** Math.min(20, state.data.failures));
  // The schedule's clock may stand before the run that failed: an owner that starts after the clock was set back resumes
  // from what was journalled. The retry must still come after it, or the same instant would fire again.
  const now = Math.max(source.ports.scheduleClock.now(), state.data.firedAt ?? 0);
  const later = dueContextOf(
    { ...state, data: { ...state.data, firedAt: state.data.firedBefore } },
    now + delayMs,
  );
  const retry = source.ports.nextDue(policy, later);
  if (regular === null || retry === null) return regular ?? retry;
  return Math.min(regular, retry);
}
