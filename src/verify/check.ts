/** What the kinds of check share: what each is built from, and what a verdict and an unanswered check say. */
import type { Clock } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Fetch } from '../http.ts';
import type { VerifySpec } from '../policy/policy.ts';
import type { Redactor } from '../secret/redactor.ts';
import type { Secret } from '../secret/secret.ts';
import type { Candidate } from './verifier.ts';

export interface VerifierContext {
  /** The folder of the policy file: relative commands count from here. */
  readonly directory: string;
  readonly redactor: Pick<Redactor, 'add'>;
  readonly clock: Clock;
  /** The runtime's own where absent. */
  readonly fetch?: Fetch;
}

/** `provider` is answered by the provider's session, not by a verifier. */
export type CheckSpec = Exclude<VerifySpec, { kind: 'provider' }>;

/** The item's field, or `policy-invalid`: the policy names one that the secret does not have. */
export function fieldOf(candidate: Candidate, name: string, place: string): Secret {
  const value = Object.hasOwn(candidate.fields, name) ? candidate.fields[name] : undefined;
  if (value !== undefined) return value;
  throw policyMistake(
    candidate,
    `${place} names the field ${name}, which the secret does not have`,
    `Use one of: ${Object.keys(candidate.fields).join(', ')}.`,
  );
}

export function policyMistake(candidate: Candidate, problem: string, next: string): RotatedError {
  return new RotatedError('policy-invalid', `${problem}.`, { secret: candidate.secret, next });
}

/** They decide what runs, not what it runs with: a field must not change that. */
const reservedName = /^(PATH|HOME|LANG|TZ|IFS|ENV|BASH_ENV|NODE_OPTIONS|LD_.*|DYLD_.*|ROTATED_.*)$/;

/** Throws `policy-invalid` where a field may not go by this name of the environment. */
export function refuseReserved(candidate: Candidate, name: string, place: string): void {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !reservedName.test(name)) return;
  throw policyMistake(
    candidate,
    `${place} cannot get a field under the name ${name}`,
    'Write another name in the policy: env: { API_KEY: field }.',
  );
}

/** The check ended without saying anything about the credential. */
export function cannotTell(
  candidate: Candidate,
  code: 'unavailable' | 'invalid-answer' | 'timeout',
  problem: string,
  next: string,
): RotatedError {
  return new RotatedError(code, `${problem}, which says nothing about the credential.`, {
    secret: candidate.secret,
    next,
  });
}
