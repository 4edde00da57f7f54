/** Every decision of the machine as a pure function: facts in, decision out, nothing performed. */
import type { InstanceReport } from '../consumer/consumer.ts';
import type { ErrorCode } from '../errors.ts';
import type { CredentialInfo, Traits } from '../provider/provider.ts';
import type { Intent, Kind, Phase, Rights } from './model.ts';
import { unpromotedPhases } from './model.ts';
import type { EmergencyMode } from './service.ts';

// ---- failures ------------------------------------------------------------------------------------------------------

export type FailureDecision =
  | { readonly kind: 'retry'; readonly delayMs: number; readonly counts: boolean }
  | { readonly kind: 'abandon' }
  | { readonly kind: 'park' };

const backoffBaseMs = 500;
const backoffMostMs = 5 * 60_000;
/** How often a step asks again whether something it needs has become free. */
const busyPollMs = 1_000;

/** Trying again cannot help: the answer was clear. */
const definitive: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'verify-failed',
  'rights-differ',
  'self-admin',
  'contain-refused',
  'item-lost',
  'provider-unknown',
  'provider-options',
  'provider-broken',
  'policy-invalid',
  'policy-unsafe',
  'too-large',
  'unsupported',
]);

const forPerson: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'needs-person',
  'mint-blind',
  'pending-foreign',
]);

export function decideFailure(facts: {
  readonly phase: Phase;
  readonly kind: Kind;
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  /** Failures of this step so far, this one included. */
  readonly attempts: number;
  readonly attemptsMax: number;
  /** Uniform in [0, 1). */
  readonly jitter: number;
}): FailureDecision {
  const { phase, kind, code, attempts } = facts;
  if (code === 'item-locked') return { kind: 'retry', delayMs: busyPollMs, counts: false };
  const delayMs = Math.max(facts.retryAfterMs ?? 0, backoffMs(attempts, facts.jitter));
  if (!unpromotedPhases.has(phase)) return { kind: 'retry', delayMs, counts: true };
  if (forPerson.has(code)) return { kind: 'park' };
  if (definitive.has(code)) return { kind: 'abandon' };
  // A leaked key stays alive for as long as an emergency gives up: it does not.
  if (kind === 'emergency')
    return { kind: 'retry', delayMs: Math.min(delayMs, 30_000), counts: true };
  return attempts < facts.attemptsMax
    ? { kind: 'retry', delayMs, counts: true }
    : { kind: 'abandon' };
}

/** Doubles with each attempt, at most five minutes, half of it random so that failures in step do not stay in step. */
export function backoffMs(attempts: number, jitter: number): number {
  const full = Math.min(
    backoffMostMs,
    backoffBaseMs * 2 ** Math.min(20, Math.max(0, attempts - 1)),
  );
  return full / 2 + (full / 2) * jitter;
}

// ---- mint ----------------------------------------------------------------------------------------------------------

export type Reconciliation =
  /** The call may be repeated: the material or the token makes it the same mint. */
  | { readonly kind: 'repeat' }
  /** Ask the issuer what came of it. */
  | { readonly kind: 'list' }
  | { readonly kind: 'park' };

/** What to do about a mint whose outcome is unknown. */
export function decideReconciliation(traits: Traits): Reconciliation {
  switch (traits.crashClass) {
    case 'chosen':
    case 'token':
      return { kind: 'repeat' };
    case 'listable':
      return { kind: 'list' };
    case 'blind':
      return { kind: 'park' };
    default:
      return traits.crashClass satisfies never;
  }
}

export type Leftovers =
  /** Made by this rotation: nobody has their secret, so they are ended. */
  | { readonly kind: 'delete'; readonly refs: readonly string[] }
  /** Nothing is visible yet, and may still become so. */
  | { readonly kind: 'settle' }
  | { readonly kind: 'none' }
  /** Keys came that nobody can attribute: a person decides. Unowned keys are never deleted. */
  | { readonly kind: 'unattributable'; readonly refs: readonly string[] };

export function decideLeftovers(facts: {
  readonly traits: Traits;
  readonly intent: Intent;
  readonly listed: readonly CredentialInfo[];
  readonly settled: boolean;
}): Leftovers {
  const { traits, intent, listed, settled } = facts;
  if (traits.capabilities.tag) {
    const ours = listed.filter((one) => one.name?.startsWith(intent.namePrefix));
    if (ours.length > 0) return { kind: 'delete', refs: ours.map((one) => one.ref) };
  } else {
    const before = new Set(intent.inventory.map((one) => one.ref));
    const came = listed.filter((one) => one.enabled && !before.has(one.ref));
    if (came.length > 0) return { kind: 'unattributable', refs: came.map((one) => one.ref) };
  }
  return settled ? { kind: 'none' } : { kind: 'settle' };
}

/** Is there room at the issuer for one more live credential? */
export function hasRoom(facts: {
  readonly traits: Traits;
  readonly inventory: readonly CredentialInfo[];
  readonly hasCurrent: boolean;
  /** Open debts to revoke at this issuer, for the same secret. */
  readonly owed: number;
}): boolean {
  const { traits, inventory } = facts;
  const live = traits.capabilities.list
    ? inventory.filter((one) => one.enabled).length
    : (facts.hasCurrent ? 1 : 0) + facts.owed;
  return live < traits.limits.liveMax;
}

/** Why the new credential is not the equal of its predecessor; null where it is, as far as both are known. */
export function rightsDiffer(
  before: Rights | null,
  after: Rights,
  mintedAt: number,
): string | null {
  if (before === null) return null;
  if (before.scopes !== undefined && after.scopes !== undefined) {
    const [old, now] = [new Set(before.scopes), new Set(after.scopes)];
    const lost = [...old].filter((scope) => !now.has(scope));
    const gained = [...now].filter((scope) => !old.has(scope));
    if (lost.length > 0) return `it lost the rights ${lost.join(', ')}`;
    if (gained.length > 0) return `it gained the rights ${gained.join(', ')}`;
  }
  if (before.owner !== undefined && after.owner !== undefined && before.owner !== after.owner) {
    return `its owner is ${after.owner}, the predecessor's was ${before.owner}`;
  }
  if (after.expiresAt !== undefined && after.expiresAt <= mintedAt) return 'it has already expired';
  if (
    before.expiresAt !== undefined &&
    after.expiresAt !== undefined &&
    after.expiresAt < before.expiresAt
  ) {
    return 'it expires before its predecessor does';
  }
  return null;
}

// ---- adoption ------------------------------------------------------------------------------------------------------

export interface ConsumerReply {
  readonly consumer: string;
  readonly secret: string;
  /** failed: it could report but did not answer. */
  readonly reply: readonly InstanceReport[] | 'unknown' | 'failed';
  /** Instances seen before and not yet proven gone. */
  readonly known: readonly string[];
  readonly generation: number;
}

/** A consumer that could confirm and has not, and what of it is not there yet: for people. */
export interface Waiting {
  readonly consumer: string;
  readonly what: string;
}

export interface Adoption {
  /** Every live instance serves the generation, or is idle and will. */
  readonly adopted: boolean;
  /** Consumers that cannot tell. */
  readonly unconfirmed: readonly string[];
  readonly waitingFor: readonly Waiting[];
  readonly seen: readonly (InstanceReport & {
    readonly consumer: string;
    readonly secret: string;
  })[];
}

/** Decided per instance: one that was seen and is not seen now is unreachable until it is proven gone. */
export function decideAdoption(replies: readonly ConsumerReply[]): Adoption {
  const unconfirmed = new Set<string>();
  const waitingFor: Waiting[] = [];
  const seen: (InstanceReport & { consumer: string; secret: string })[] = [];
  for (const { consumer, secret, reply, known, generation } of replies) {
    if (reply === 'unknown') {
      unconfirmed.add(consumer);
      continue;
    }
    const instances = reply === 'failed' ? [] : reply;
    if (reply === 'failed' && known.length === 0)
      waitingFor.push({ consumer, what: 'does not answer' });
    const present = new Set(instances.map((one) => one.instance));
    const missing = known
      .filter((instance) => !present.has(instance))
      .map((instance): InstanceReport => ({ instance, generation: null, state: 'unreachable' }));
    for (const one of [...instances, ...missing]) {
      seen.push({ ...one, consumer, secret });
      if (!instanceAdopted(one, generation)) waitingFor.push({ consumer, what: whatOf(one) });
    }
  }
  return {
    adopted: unconfirmed.size === 0 && waitingFor.length === 0,
    unconfirmed: [...unconfirmed],
    waitingFor,
    seen,
  };
}

function whatOf({ instance, state, problem }: InstanceReport): string {
  return `${instance} is ${state}${problem === undefined ? '' : ` (${problem.replace(/\.$/, '')})`}`;
}

function instanceAdopted(one: InstanceReport, generation: number): boolean {
  switch (one.state) {
    case 'serving':
      return one.generation !== null && one.generation >= generation;
    case 'idle':
      // One that could not start with the new credential will not take it at its next call either.
      return one.problem === undefined;
    case 'gone':
      return true;
    case 'unreachable':
      return false;
    default:
      return one.state satisfies never;
  }
}

export type AdoptionStep =
  | { readonly kind: 'go' }
  | { readonly kind: 'poll' }
  /** Told once, then polled on. */
  | { readonly kind: 'alert' }
  | { readonly kind: 'roll-back' };

export function decideAdoptionStep(facts: {
  readonly adoption: Pick<Adoption, 'adopted' | 'waitingFor'>;
  readonly timedOut: boolean;
  readonly then: 'wait' | 'revoke' | 'rollback';
  /** An emergency's hard deadline has passed. */
  readonly pastDeadline: boolean;
  readonly canRollBack: boolean;
}): AdoptionStep {
  if (facts.adoption.adopted || facts.pastDeadline) return { kind: 'go' };
  if (!facts.timedOut) return { kind: 'poll' };
  switch (facts.then) {
    case 'wait':
      return { kind: 'alert' };
    case 'revoke':
      return { kind: 'go' };
    case 'rollback':
      return facts.canRollBack ? { kind: 'roll-back' } : { kind: 'alert' };
    default:
      return facts.then satisfies never;
  }
}

/** A group follows its most careful member. */
export function strictestThen(
  thens: readonly ('wait' | 'revoke' | 'rollback')[],
): 'wait' | 'revoke' | 'rollback' {
  if (thens.includes('wait')) return 'wait';
  return thens.includes('rollback') ? 'rollback' : 'revoke';
}

// ---- revoke --------------------------------------------------------------------------------------------------------

export type Quiet =
  | { readonly quiet: true }
  | { readonly quiet: false; readonly lastUsedAt: number };

/** Where the issuer reports last use: has the old credential been out of use for long enough? */
export function decideQuiet(facts: {
  readonly lastUsedAt: number | undefined;
  readonly now: number;
  readonly quietMs: number;
}): Quiet {
  const { lastUsedAt } = facts;
  if (lastUsedAt === undefined || facts.now - lastUsedAt >= facts.quietMs) return { quiet: true };
  return { quiet: false, lastUsedAt };
}

/** Whether revoking first is possible here, and how; a sentence where it is not. */
export function decideContain(
  traits: Traits,
): { readonly by: 'disable' | 'revoke' } | { readonly refused: string } {
  if (traits.strategy === 'self-generated') {
    return {
      refused: 'its verifiers would have nothing left to accept: there is no issuer to revoke at',
    };
  }
  if (traits.revokeScope === 'family')
    return { refused: 'revoking it would end its successors too' };
  return { by: traits.capabilities.disable ? 'disable' : 'revoke' };
}

// ---- --now ---------------------------------------------------------------------------------------------------------

export type NowDecision =
  | { readonly kind: 'begin' }
  /** An unpromoted rotation becomes the emergency. */
  | { readonly kind: 'convert' }
  /** Its new key is the one that leaked: it ends at once and a successor starts. */
  | { readonly kind: 'supersede'; readonly inherit: 'olds' | 'olds-and-new' | 'new' };

export function decideNow(
  active: {
    readonly phase: Phase;
    readonly kind: Kind;
    readonly mode: EmergencyMode | null;
  } | null,
): NowDecision {
  if (active === null) return { kind: 'begin' };
  switch (active.phase) {
    case 'planned':
    case 'minting':
    case 'minted':
    case 'staged':
    case 'distributed':
    case 'verified':
      return { kind: 'convert' };
    case 'promoted':
      // Instances may still use the old one: it ends when the successor is adopted, as does the leaked one.
      return { kind: 'supersede', inherit: 'olds-and-new' };
    case 'rolling-back':
      return { kind: 'supersede', inherit: 'olds-and-new' };
    case 'adopted':
    case 'retiring':
      // Nobody uses the old one any more: its debt is due now, the new one is the successor's predecessor.
      return { kind: 'supersede', inherit: 'new' };
    case 'retired':
    case 'rolled-back':
    case 'abandoned':
      return { kind: 'begin' };
    default:
      return active.phase satisfies never;
  }
}
