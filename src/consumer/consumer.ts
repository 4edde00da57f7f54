/**
 * The interface of whoever uses a secret, or checks it.
 *
 * Glossary: a consumer has *instances*; *reload* asks it to pick up a generation; *report* tells which generation each
 * instance serves. Role `user`: presents the credential. Role `verifier`: accepts it from others, so it must know the new
 * one before anyone uses it, and forget the old one only when nobody does.
 */
import type { Fields } from '../secret/secret.ts';

export interface Change {
  readonly secret: string;
  readonly generation: number;
  /**
   * pending: accept this generation beside the current one (verifiers). current: use it. retired: this generation is the
   * only one left; drop every older one (verifiers).
   */
  readonly stage: 'pending' | 'current' | 'retired';
  /** The old credential is treated as leaked: what a consumer may cut short for that, it should. */
  readonly urgent?: boolean;
}

export type InstanceState = 'serving' | 'idle' | 'gone' | 'unreachable';

export interface InstanceReport {
  /** Unique within the consumer and stable for the life of the instance. */
  readonly instance: string;
  /** The generation it serves; null where it has not loaded any. */
  readonly generation: number | null;
  /** idle: will pick up the newest generation at its next use. gone: proven to have ended. */
  readonly state: InstanceState;
  /** Why it does not serve the newest generation, in one sentence for people, where it says so. */
  readonly problem?: string;
}

export interface Consumer {
  /** Says what it is and where: `http:127.0.0.1:9090/reload`. Two policies that name the same target get the same id. */
  readonly id: string;
  readonly role: 'user' | 'verifier';
  /** Whether `report` can ever answer something else than `unknown`. */
  readonly reports: boolean;
  /** Can it be reached, without reloading it? Throws a RotatedError that says what is wrong. */
  probe(signal: AbortSignal): Promise<void>;
  /** Several changes for one consumer are one reload. May be repeated. Returns when the consumer was told, not when it is done. */
  reload(changes: readonly Change[], signal: AbortSignal): Promise<void>;
  /**
   * `unknown` where this consumer cannot tell. Throws where it could but does not answer. `known`: instances seen before, so
   * that one which is not seen now can be proven gone.
   */
  report(
    secret: string,
    signal: AbortSignal,
    known?: readonly string[],
  ): Promise<readonly InstanceReport[] | 'unknown'>;
}

/** What a consumer that renders values itself (a file) may read; handed over by whoever composes it. */
export interface SecretReader {
  /** Every generation that must be accepted now, newest last: one for a user, current beside pending for a verifier. */
  read(
    secret: string,
    stage: Change['stage'],
    signal: AbortSignal,
  ): Promise<readonly { readonly generation: number; readonly fields: Fields }[]>;
}
