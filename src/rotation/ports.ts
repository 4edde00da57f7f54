/** Everything the rotation machine needs from outside, as interfaces: whoever composes it hands these over. */
import type { Backend } from '../backend/backend.ts';
import type { Clock, Random } from '../clock.ts';
import type { Consumer } from '../consumer/consumer.ts';
import type { AuditChain, AuditHead, AuditLine, Journal } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { ProviderSession, Traits } from '../provider/provider.ts';
import type { Fingerprinter, Sealer } from '../secret/sealing.ts';
import type { Verifier } from '../verify/verifier.ts';

export interface OpenProvider {
  readonly traits: Traits;
  /** What bounds the calls in parallel: secrets with the same key share one issuer account. */
  readonly issuer: string;
  /** A session whose every call has a deadline, is redacted, and throws RotatedErrors only. */
  open(): Promise<ProviderSession>;
}

/** Log messages are constant strings, data goes in fields. */
export interface Log {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

/** Something a person should hear of: goes to the policy's notifiers. */
export interface Notice {
  readonly secret: string;
  readonly rotation: string | null;
  readonly level: 'info' | 'warn' | 'alert';
  readonly event: string;
  readonly message: string;
  readonly next: string | null;
}

export interface Ports {
  readonly journal: Journal;
  readonly sealer: Sealer;
  readonly fingerprints: Fingerprinter;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Throw RotatedErrors where the policy names something that does not exist. Cheap: nothing is opened. */
  provider(policy: Policy): OpenProvider;
  backend(policy: Pick<Policy, 'backend'>): Backend;
  /** The policy's checks in order, without `provider`, which the session answers. */
  verifiers(policy: Policy): readonly Verifier[];
  consumers(policy: Policy): readonly Consumer[];
  notify(policy: Policy, notice: Notice): void;
  /** The next due instant, `context.now` or later; null where the schedule never fires by itself. */
  nextDue(policy: Policy, context: DueContext): number | null;
  /** Whether a scheduled rotation may begin now: inside its window, outside every freeze. */
  mayBegin(policy: Policy, now: number): boolean;
  /** The next instants its schedule would fire, for people to look at. */
  nextRuns(policy: Policy, context: DueContext, most: number): readonly number[];
  /** Wall time that never goes back, for schedules; how far the wall clock is behind it. */
  readonly scheduleClock: { now(): number; setBackMs(): number };
  readonly parallel: {
    /** Rotations and debts worked on at once. */
    readonly total: number;
    /** Of these, at one issuer account. */
    readonly perIssuer: number;
  };
  readonly auditChain: AuditChain & {
    verify(lines: AsyncIterable<AuditLine>, head: AuditHead | null): Promise<string | null>;
  };
  /** Where the machine tells crash tests where it is; does nothing in production. Awaited, so that a test can stop it there. */
  readonly at?: (point: string) => Promise<void> | void;
}

export interface DueContext {
  /** The schedule's clock: wall time that never goes back. */
  readonly now: number;
  /** The instant the schedule last fired, whether or not a rotation came of it; null when it never did. */
  readonly firedAt: number | null;
  /** When current was promoted; null before the first. */
  readonly currentSince: number | null;
  /** When the current credential expires by itself, as the issuer says. */
  readonly expiresAt: number | null;
  /** Since when its schedule stands as it is: nothing before it was missed. */
  readonly knownSince: number;
}
