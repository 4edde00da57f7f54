/** What can be asked of a running rotation machine: the same interface in-process and through the control socket. */
import type { Actor, AuditHead, AuditLine } from '../journal/journal.ts';
import type { Fields } from '../secret/secret.ts';

/** Which secrets are meant. An empty selector means none: `all` must be said. */
export interface Selector {
  readonly names: readonly string[];
  readonly tags: readonly string[];
  readonly providers: readonly string[];
  readonly consumers: readonly string[];
  readonly all: boolean;
}

/** Who asks and why; on every command and its audit lines. */
export interface Ask {
  readonly actor: Actor;
  readonly reason: string | null;
}

export type EmergencyMode = 'continuity' | 'contain';

export interface Started {
  readonly secret: string;
  /** null where nothing was started. */
  readonly rotation: string | null;
  readonly outcome: 'started' | 'joined' | 'done' | 'refused' | 'waits-for-person';
  /** One sentence for a person: what was done, or why not. */
  readonly message: string;
  readonly code: string | null;
  readonly next: string | null;
}

export interface Phase {
  readonly phase: string;
  readonly at: number;
}

export interface DebtView {
  readonly id: string;
  readonly secret: string;
  readonly rotation: string;
  /** revoke, discard, prove, person, purge. */
  readonly kind: string;
  readonly ref: string | null;
  readonly attempts: number;
  readonly createdAt: number;
  readonly nextInMs: number | null;
  readonly needsPerson: boolean;
  readonly lastError: string | null;
  /** What a person should do, where one must. */
  readonly instructions: string | null;
}

export interface InstanceView {
  readonly consumer: string;
  readonly instance: string;
  readonly generation: number | null;
  readonly state: string;
}

export interface RotationView {
  readonly id: string;
  readonly secrets: readonly string[];
  readonly phase: string;
  readonly kind: 'bootstrap' | 'scheduled' | 'asked' | 'emergency';
  readonly mode: EmergencyMode | null;
  readonly actor: Actor;
  readonly reason: string | null;
  readonly startedAt: number;
  readonly endedAt: number | null;
  /** Phases reached, in order. */
  readonly phases: readonly Phase[];
  readonly parked: {
    readonly code: string;
    readonly message: string;
    readonly next: string;
  } | null;
  readonly waitsFor: string | null;
  readonly nextInMs: number | null;
  readonly attempts: number;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  /** Observed time that old and new were both valid; null while unknown. */
  readonly overlapMs: number | null;
  /** When the old credential was proven dead, per secret. */
  readonly deadAt: Readonly<Record<string, number>>;
  readonly unconfirmedConsumers: readonly string[];
}

export interface SecretStatus {
  readonly secret: string;
  readonly tags: readonly string[];
  readonly provider: string;
  readonly backend: string;
  readonly generation: number;
  /** When current was promoted; null before the first. */
  readonly currentSince: number | null;
  readonly ageMs: number | null;
  readonly dueAt: number | null;
  readonly paused: { readonly reason: string; readonly since: number } | null;
  readonly lost: boolean;
  readonly failures: number;
  readonly active: RotationView | null;
  readonly debts: readonly DebtView[];
  readonly instances: readonly InstanceView[];
  readonly lastResult: {
    readonly phase: string;
    readonly at: number;
    readonly error: string | null;
  } | null;
  readonly warnings: readonly string[];
}

export interface ServiceStatus {
  readonly secrets: readonly SecretStatus[];
  /** About the whole: a clock set back, a broken policy file, a policy edit that is refused. */
  readonly warnings: readonly string[];
  readonly owner: { readonly pid: number; readonly what: string } | null;
}

export interface Plan {
  readonly secret: string;
  /** Ids of the consumers that will be told. */
  readonly consumers: readonly string[];
  /** In an emergency: the old credential is dead so long after the start, at the latest; null where that takes a person, or without one. */
  readonly deadWithinMs: number | null;
  /** The next instants its schedule fires, at most five. */
  readonly runs: readonly number[];
  /** In order; `afterMs` from the start, null where it depends on consumers. */
  readonly steps: readonly {
    readonly phase: string;
    readonly what: string;
    readonly afterMs: number | null;
  }[];
  readonly warnings: readonly string[];
}

export interface Progress {
  readonly rotation: string;
  readonly secrets: readonly string[];
  readonly phase: string;
  readonly at: number;
  readonly message: string;
  /** No further progress will come: ended, parked, or waiting longer than the watcher wants. */
  readonly final: 'ended' | 'parked' | 'waiting' | null;
}

/** taken: the item holds something else. */
export type Kept = 'new' | 'same' | 'taken';

export interface Service {
  status(selector: Selector): Promise<ServiceStatus>;
  plan(selector: Selector, now: EmergencyMode | null): Promise<readonly Plan[]>;
  run(selector: Selector, ask: Ask): Promise<readonly Started[]>;
  now(selector: Selector, mode: EmergencyMode | null, ask: Ask): Promise<readonly Started[]>;
  rollback(secret: string, ask: Ask): Promise<Started>;
  abandon(secret: string, ask: Ask): Promise<Started>;
  pause(secret: string, ask: Ask): Promise<Started>;
  resume(secret: string, ask: Ask): Promise<Started>;
  /** An operator's new credential for a rotation parked at minting, or to start one. */
  supply(secret: string, fields: Fields, ask: Ask): Promise<Started>;
  /**
   * A person vouches for what the machine cannot see. Without `debt`: the consumers a rotation waits for use the new generation.
   * With it: what that debt asks for is done.
   */
  confirm(secret: string, debt: string | null, ask: Ask): Promise<Started>;
  /** Writes the sealed copy of current back to a backend that lost its item. */
  restore(secret: string, ask: Ask): Promise<Started>;
  /**
   * Takes what stood in plaintext in a config into an item of the local backend, as generation 0; never over another
   * value. `look`: only says what it would do.
   */
  keep(item: string, fields: Fields, look: boolean, ask: Ask): Promise<Kept>;
  read(
    secret: string,
    stage: 'current' | 'pending' | 'previous',
    ask: Ask,
  ): Promise<{ readonly generation: number | null; readonly fields: Fields }>;
  history(secret: string | null, most: number): Promise<readonly RotationView[]>;
  rotation(id: string): Promise<RotationView | null>;
  /** In order. `from`: a sequence number; below 0 it counts from the end, so that -50 gives the newest 50. Of one secret: its newest. */
  audit(secret: string | null, from: number, most: number): Promise<readonly AuditLine[]>;
  auditVerify(): Promise<{
    readonly ok: boolean;
    readonly lines: number;
    readonly head: AuditHead | null;
    readonly problem: string | null;
  }>;
  /** Ends when every rotation has a `final` progress. `patienceMs`: a wait longer than this counts as final `waiting`. */
  watch(
    rotations: readonly string[],
    patienceMs: number,
    signal: AbortSignal,
  ): AsyncIterable<Progress>;
}
