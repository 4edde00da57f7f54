/** The nouns of the rotation machine, all plain JSON: what the journal keeps and the checks decide upon. */
import type { VersionId } from '../backend/backend.ts';
import type { Actor, DebtRow, RotationRow, SecretRow } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { CredentialInfo, Ref } from '../provider/provider.ts';
import type { WrappedKey } from '../secret/sealing.ts';
import type { EmergencyMode } from './service.ts';

/** A phase is a fact already durable. */
export type Phase =
  | 'planned'
  | 'minting'
  | 'minted'
  | 'staged'
  | 'distributed'
  | 'verified'
  | 'promoted'
  | 'adopted'
  | 'retiring'
  | 'retired'
  | 'rolling-back'
  | 'rolled-back'
  | 'abandoned';

export const endPhases: ReadonlySet<Phase> = new Set(['retired', 'rolled-back', 'abandoned']);
/** Nothing outside uses the new credential yet: it can be abandoned. */
export const unpromotedPhases: ReadonlySet<Phase> = new Set([
  'planned',
  'minting',
  'minted',
  'staged',
  'distributed',
  'verified',
]);

export type Kind = 'bootstrap' | 'scheduled' | 'asked' | 'emergency';

/** Rights, owner and lifetime, as far as the issuer tells. */
export interface Rights {
  readonly scopes?: readonly string[] | undefined;
  readonly owner?: string | undefined;
  readonly expiresAt?: number | undefined;
}

/** A credential the machine knows of, its value under a seal. */
export interface Known extends Rights {
  /** null: live at the issuer under an id that nobody told us. */
  readonly ref: Ref | null;
  readonly generation: number;
  readonly fingerprint: string;
  /** The rotation that sealed it, part of the seal's context. */
  readonly sealedBy: string;
  /** null where the policy keeps no escrow. */
  readonly sealId: string | null;
}

/** One secret's part in a rotation. */
export interface Member {
  readonly secret: string;
  /** As it stood when the rotation began: an edit applies to the next. */
  readonly policy: Policy;
  /** The generation that the new credential becomes. */
  readonly generation: number;
  /** What must end when the new one is in use: the predecessor, and what superseded rotations left. */
  readonly olds: readonly Known[];
  /** The one of `olds` that the backend served at the start: where a roll back leads. */
  readonly previous: Known | null;
  readonly intent: Intent | null;
  readonly minted: Known | null;
  /** What was current when staging began: journalled before the write, so that a repeated write never merges onto a guess. */
  readonly base: { readonly version: VersionId | null } | null;
  readonly staged: {
    readonly txn: string;
    readonly version: VersionId;
    readonly expectCurrent: VersionId | null;
  } | null;
  readonly promoted: { readonly version: VersionId; readonly replaced: VersionId | null } | null;
  /** Backend version after a roll back restored the predecessor. */
  readonly restored: { readonly version: VersionId } | null;
}

/** Journalled before the mint: all that recovery needs to find out what became of it. */
export interface Intent {
  /** Counts mints that may each have left a credential behind. */
  readonly attempt: number;
  readonly name: string;
  readonly namePrefix: string;
  readonly idempotencyToken: string;
  readonly inventory: readonly CredentialInfo[];
  readonly dataKey: WrappedKey;
  readonly preparedRef: Ref | null;
  /** While reconciling a lost answer: list again when the uptime reaches this. */
  readonly settleUntilUptimeMs: number | null;
}

export interface Parked {
  readonly code: string;
  readonly message: string;
  readonly next: string;
  readonly at: number;
}

export interface PhaseMark {
  readonly phase: Phase;
  readonly at: number;
  readonly uptimeMs: number;
}

export interface RotationData {
  readonly kind: Kind;
  readonly mode: EmergencyMode | null;
  readonly actor: Actor;
  readonly reason: string | null;
  readonly members: readonly Member[];
  readonly phases: readonly PhaseMark[];
  /** Failures in a row of the step that is due now. */
  readonly attempts: number;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  readonly parked: Parked | null;
  readonly waitsFor: string | null;
  /** Counts stagings, so that each has its own transaction. */
  readonly stagings: number;
  /** In an emergency: revoke at the latest when the uptime reaches this. */
  readonly deadlineUptimeMs: number | null;
  /** Consumers that could not confirm, and whom the policy lets pass. */
  readonly unconfirmed: readonly string[];
  /** One alert for each long wait. */
  readonly alerted: boolean;
  /** When each secret's old credential was proven dead. */
  readonly deadAt: Readonly<Record<string, number>>;
  readonly supersededBy: string | null;
  /** Secrets whose credential a person hands in, though their provider could mint one. */
  readonly handIn?: readonly string[];
  /** After an end: why, where it failed; with the code `asked` where somebody wanted it. */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

export type Rotation = Omit<RotationRow, 'data' | 'phase'> & {
  readonly phase: Phase;
  readonly data: RotationData;
};

export interface SecretData {
  /** Since when its schedule stands as it is. */
  readonly knownSince: number;
  readonly scheduleDigest: string | null;
  /** The last due instant that fired, whether or not a rotation came of it. */
  readonly firedAt: number | null;
  /** What `firedAt` was before, so that a failed run can be tried again at its next chance. */
  readonly firedBefore: number | null;
  /** The backend was looked at once, to tell a secret that must be made from one that was found. */
  readonly looked: boolean;
  readonly current: (Known & { readonly since: number; readonly version: VersionId | null }) | null;
  readonly failures: number;
  readonly pausedFor: {
    readonly reason: string;
    readonly since: number;
    readonly actor: Actor;
  } | null;
  /** The backend no longer has what it had. */
  readonly lost: boolean;
  readonly lastResult: {
    readonly phase: Phase;
    readonly at: number;
    readonly error: string | null;
  } | null;
  /** Generations up to this one leaked: nothing may roll back to them. */
  readonly leakedThrough: number;
  /** The policy last seen, without its place: tells an edit. Null once its policy was removed. */
  readonly policyDigest: string | null;
  /** The item it is kept in. */
  readonly item: string;
  readonly provider: string;
}

export type SecretState = Omit<SecretRow, 'data'> & { readonly data: SecretData };

/** revoke: end one credential. sweep: find what an unknown mint left and end it. discard: drop a pending version. */
export type DebtKind = 'revoke' | 'sweep' | 'discard';

export type DebtStep = 'verifiers' | 'disabled' | 'revoked' | 'proven' | 'dropped' | 'reverified';

export interface DebtData {
  readonly policy: Policy;
  readonly actor: Actor;
  readonly reason: string | null;
  readonly credential: Known | null;
  /** sweep: names that start so are ours. */
  readonly intent: Intent | null;
  /** discard */
  readonly txn: string | null;
  readonly done: readonly DebtStep[];
  /** Ending the credential that is in use is what was asked for (contain). */
  readonly mayKillCurrent: boolean;
  /** The backend version that held it, to be dropped. */
  readonly version: VersionId | null;
  readonly attempts: number;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  readonly parked: Parked | null;
}

export type Debt = Omit<DebtRow, 'data' | 'kind'> & {
  readonly kind: DebtKind;
  readonly data: DebtData;
};

/** `local://mcp/reports-db`: what the item lock is named after. */
export function itemOf(policy: Policy): string {
  return `${policy.backend.scheme}://${policy.backend.item}`;
}

/** Names of the mints of one rotation of one secret start so. */
export function namePrefixOf(secret: string, rotation: string): string {
  return `rotated-${secret}-${rotation}-`;
}

/** The rotation whose mint gave a credential this name; null where no mint of this secret did. */
export function rotationOfName(secret: string, name: string): string | null {
  const prefix = `rotated-${secret}-`;
  return (
    /^([0-9a-f]{28})-\d+$/.exec(name.startsWith(prefix) ? name.slice(prefix.length) : '')?.[1] ??
    null
  );
}

export function sealIdOf(rotation: string, secret: string, purpose: string): string {
  return `${rotation}:${secret}:${purpose}`;
}
