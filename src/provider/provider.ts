/**
 * The interface every issuer's plugin implements; exported as `rotated/provider`.
 *
 * Glossary: a *credential* is one set of fields that the issuer accepts; its *ref* is the issuer's own
 * id for it and holds no secret; to *mint* creates one and leaves the others valid; to *revoke* ends one.
 * Every call gets an AbortSignal and must honour it.
 */
import type { z } from 'zod';
import type { Clock, Random } from '../clock.ts';
import type { Finding, Verdict } from '../finding.ts';
import type { Fields } from '../secret/secret.ts';

export type { Finding, Verdict } from '../finding.ts';
export { Secret } from '../secret/secret.ts';
export type { Fields } from '../secret/secret.ts';
export { RotatedError } from '../errors.ts';

export const providerApiVersion = 1;

/** The issuer's id of one credential. Never a secret: it is logged, journalled and stored beside the item. */
export type Ref = string;

/**
 * How credentials follow each other at this issuer.
 * overlap: create, then delete the old. alternate: two principals in turn. roll-grace, roll-hard: replaced in
 * place, the old one living on for a time or not. refresh-chain: single-use refresh tokens. self-generated: made
 * here, known to a set of verifiers. ephemeral: expires by itself. operator: a person creates it.
 */
export type Strategy =
  | 'overlap'
  | 'alternate'
  | 'roll-grace'
  | 'roll-hard'
  | 'refresh-chain'
  | 'self-generated'
  | 'ephemeral'
  | 'operator';

/**
 * What can be known after a mint whose answer was lost.
 * chosen: we chose the material and sealed it before the call, so the call can be repeated. token: the call takes an
 * idempotency token and repeats its answer. listable: the secret is shown once, but the keys can be listed. blind: neither.
 */
export type CrashClass = 'chosen' | 'token' | 'listable' | 'blind';

/** Everything the rotation machine needs to know about an issuer before it calls it: plain data. */
export interface Traits {
  readonly strategy: Strategy;
  readonly crashClass: CrashClass;
  readonly limits: {
    /** How many credentials of one principal may be live at once; Infinity where there is no limit. */
    readonly liveMax: number;
    /** The longest life a credential may be given; Infinity where it does not expire. */
    readonly lifetimeSecondsMax: number;
    /** How long a mint may stay invisible in a list, or refused on use, after it succeeded. */
    readonly settleSeconds: number;
  };
  /** `family`: revoking one kills its relatives too, so the machine never revokes by itself. */
  readonly revokeScope: 'key' | 'family';
  readonly capabilities: {
    readonly list: boolean;
    readonly disable: boolean;
    /** `list` reports when a credential was last used. */
    readonly lastUsed: boolean;
    /** A minted credential carries our name, so that `list` tells which mint made it. */
    readonly tag: boolean;
    readonly idempotent: boolean;
    readonly resolve: boolean;
    /** May a revoked credential be tried, to prove it dead? `harmful` where trying it does damage (reuse detection). */
    readonly proof: 'safe' | 'harmful' | 'none';
  };
  /** What the admin credential must be allowed to do, as a sentence for the operator. */
  readonly leastPrivilege: string;
}

export interface ProviderContext {
  /** The secret this session is for: a name for tags and messages. */
  readonly secret: string;
  /** The admin credential that the policy names, resolved at each call and never kept. Throws `policy-invalid` where the policy names none. */
  admin(signal: AbortSignal): Promise<Fields>;
  readonly clock: Clock;
  readonly random: Random;
  /** The policy file's folder: relative paths in options count from here. */
  readonly directory: string;
}

export interface Provider<Options = unknown> {
  readonly apiVersion: typeof providerApiVersion;
  /** The name after `use:`; kebab-case. */
  readonly id: string;
  /** Validates what stands beside `use:` and `admin:` in the policy. Strict: unknown keys are mistakes. */
  readonly options: z.ZodType<Options>;
  /** Pure: the same options give the same traits. */
  traits(options: Options): Traits;
  open(options: Options, context: ProviderContext): Promise<ProviderSession>;
}

export interface CredentialInfo {
  readonly ref: Ref;
  /** Our tag where we minted it, else what the issuer shows. */
  readonly name?: string | undefined;
  readonly createdAt?: number | undefined;
  readonly expiresAt?: number | undefined;
  readonly lastUsedAt?: number | undefined;
  readonly scopes?: readonly string[] | undefined;
  readonly owner?: string | undefined;
  readonly enabled: boolean;
}

/** A credential at hand: what to try, and the issuer's id where it is known. */
export interface Credential {
  readonly ref: Ref | null;
  readonly fields: Fields;
}

export interface PrepareRequest {
  readonly secret: string;
  readonly rotation: string;
  /** The number the new credential will have once promoted. */
  readonly generation: number;
  /** What the backend serves now; null at the first rotation of a secret that does not exist yet. */
  readonly current: Credential | null;
}

/** Material chosen by us. `fields` are sealed and journalled before `mint` is called. */
export interface Prepared {
  readonly ref: Ref;
  readonly fields: Fields;
}

export interface MintRequest extends PrepareRequest {
  /**
   * Unique to this attempt and recognisable as ours: give it to the issuer as the credential's name.
   * `rotated-<secret>-<rotation>-<attempt>`; all names of one rotation share the prefix `rotated-<secret>-<rotation>-`.
   */
  readonly name: string;
  /** The same for every repetition of this mint: 32 hex digits. */
  readonly idempotencyToken: string;
  /** The issuer's credentials as listed before the mint; empty where it cannot list. */
  readonly inventory: readonly CredentialInfo[];
  readonly prepared: Prepared | null;
  /** Rights, owner and expiry that the new credential must equal, as far as they are known. */
  readonly predecessor: {
    readonly scopes?: readonly string[] | undefined;
    readonly owner?: string | undefined;
    readonly expiresAt?: number | undefined;
  } | null;
}

/**
 * A provider whose credential is one value calls that field `value`. The names in `publicFieldNames` (answers.ts:
 * username, host, port, database, kid, publicKey, publicJwk) are for what is not secret; every other field is redacted.
 */
export interface Minted {
  readonly ref: Ref;
  readonly fields: Fields;
  readonly scopes?: readonly string[] | undefined;
  readonly owner?: string | undefined;
  readonly expiresAt?: number | undefined;
}

/** Open for one piece of work. A failed call throws RotatedError with `effect` set as well as can be known. */
export interface ProviderSession extends AsyncDisposable {
  /** Which rights the admin credential has, probed without harm. */
  check(signal: AbortSignal): Promise<Finding[]>;
  /** Makes the material that `mint` will set. Changes nothing outside. */
  prepare?(request: PrepareRequest, signal: AbortSignal): Promise<Prepared>;
  /**
   * Creates one credential and leaves all others valid. With `prepared` it sets exactly that material and may be repeated
   * at will; with crash class `token` it returns the same credential for the same `idempotencyToken`.
   * Throws `needs-person` (effect none) where a person must create it: the rotation parks until `rotate supply`.
   */
  mint(request: MintRequest, signal: AbortSignal): Promise<Minted>;
  /** Tries the credential without side effects. Throws only where it cannot tell. */
  verify(credential: Credential, signal: AbortSignal): Promise<Verdict>;
  /** Soft and reversible: refused from now on, but not gone. */
  disable?(ref: Ref, signal: AbortSignal): Promise<void>;
  enable?(ref: Ref, signal: AbortSignal): Promise<void>;
  /** Ends the credential and its open sessions. Succeeds if it is already gone. */
  revoke(ref: Ref, signal: AbortSignal): Promise<void>;
  /** All credentials of this principal, ours or not. */
  list?(signal: AbortSignal): AsyncIterable<CredentialInfo>;
  /** Which of the issuer's credentials has these fields? null where it cannot be told. */
  resolve?(fields: Fields, signal: AbortSignal): Promise<Ref | null>;
}

/** Keeps a provider's own type while it is written; the registry stores it as `Provider`. */
export function defineProvider<Options>(provider: Provider<Options>): Provider<Options> {
  return provider;
}
