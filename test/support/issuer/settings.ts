/** Everything the test issuer can be told to do to one principal: its kind, its lags, its lies. */
import type { CrashClass } from '../../../src/provider/provider.ts';

/** What a caller can ask; faults count calls of one of these, over the life of the principal. */
export type Operation =
  | 'check'
  | 'mint'
  | 'list'
  | 'resolve'
  | 'disable'
  | 'enable'
  | 'revoke'
  | 'use'
  | 'verify';

export type Misbehaviour =
  /** Answers with this status: before anything is committed, or after it. */
  | { readonly kind: 'error'; readonly status: number; readonly committed?: boolean }
  /** Commits, then cuts the connection. */
  | { readonly kind: 'lost' }
  /**
   * Cuts the connection at once; the mint lands when `calls` further calls of this principal were answered (0: before
   * the next one), or `ms` later.
   */
  | { readonly kind: 'late'; readonly calls: number }
  | { readonly kind: 'late'; readonly ms: number }
  /** Never answers; `committed` says whether it was done all the same. */
  | { readonly kind: 'hang'; readonly committed?: boolean }
  /** Does it twice, as a retrying load balancer would, and answers with the second. */
  | { readonly kind: 'duplicate' }
  /** Says ok; the credential is accepted until so many further calls of this principal were answered. */
  | { readonly kind: 'lie'; readonly calls: number }
  /** Mints with other rights than asked for. */
  | { readonly kind: 'rights'; readonly scopes: readonly string[] }
  /** Mints with a shorter life than asked for. */
  | { readonly kind: 'short-lived'; readonly lifetimeMs: number }
  /** Commits, then answers with this text instead. */
  | { readonly kind: 'garbage'; readonly body: string };

export type Fault = Misbehaviour & {
  readonly operation: Operation;
  /** The first call that it strikes, counted from 1. */
  readonly nth: number;
  /** How many calls in a row; one where it is missing. */
  readonly times?: number;
};

export interface PrincipalSettings {
  readonly crashClass: CrashClass;
  /** How many credentials may be live at once, disabled ones counted; null: any number. */
  readonly liveMax: number | null;
  /** What a mint gives where it asks for nothing else. */
  readonly scopes: readonly string[];
  readonly owner: string;
  /** null: credentials do not expire. */
  readonly lifetimeMs: number | null;
  /** A new credential is refused at its first uses, missing from its first lists, or both for a time. */
  readonly lag: { readonly uses: number; readonly lists: number; readonly ms: number };
  readonly disable: boolean;
  readonly lastUsed: boolean;
  readonly resolve: boolean;
  /** Keeps the name given at the mint and shows it in the list. */
  readonly tag: boolean;
  /** Begins every value made here, so that a scan for leaks finds it. */
  readonly valuePrefix: string;
  /** Demanded of every administrative call; null: no admin credential needed. */
  readonly adminKey: string | null;
  readonly faults: readonly Fault[];
}

export const defaultSettings: PrincipalSettings = {
  crashClass: 'listable',
  liveMax: null,
  scopes: ['read', 'write'],
  owner: 'service',
  lifetimeMs: null,
  lag: { uses: 0, lists: 0, ms: 0 },
  disable: true,
  lastUsed: true,
  resolve: true,
  tag: true,
  valuePrefix: 'issued-',
  adminKey: null,
  faults: [],
};

/** The fault that strikes the `count`th call of `operation`; the first that fits. */
export function faultAt(
  faults: readonly Fault[],
  operation: Operation,
  count: number,
): Fault | undefined {
  return faults.find(
    (fault) =>
      fault.operation === operation && count >= fault.nth && count < fault.nth + (fault.times ?? 1),
  );
}
