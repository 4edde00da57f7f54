/**
 * The durable record of rotations, as an interface: what a store must hold and refuse.
 *
 * It knows rows and their preconditions, nothing of what a phase means: phases are data, so that an upgrade in the
 * middle of a grace strands nothing. Every change is one `Commit`, all or nothing, on disk when the promise resolves.
 * The store refuses by itself: a second active rotation of a secret, a second lock of an item, a stale version, a lost fence.
 */
import type { Sealed } from '../secret/sealing.ts';

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Who asked. `proven` where the channel establishes it (a uid that owns the socket's folder), else claimed. */
export interface Actor {
  readonly id: string;
  readonly channel: 'schedule' | 'command' | 'socket' | 'recovery' | 'policy' | 'daemon';
  readonly proven: boolean;
}

export interface AuditEvent {
  readonly at: number;
  readonly actor: Actor;
  /** A dotted constant: `rotation.promoted`, `policy.edited`, `command.pause`. */
  readonly action: string;
  readonly secret: string | null;
  readonly rotation: string | null;
  readonly reason: string | null;
  readonly outcome: 'done' | 'intended' | 'failed' | 'skipped' | 'refused';
  /** Fingerprints, refs, generations, counts. Never a value. */
  readonly detail: { readonly [key: string]: Json };
}

export interface AuditLine {
  readonly seq: number;
  /** The event as canonical JSON. */
  readonly line: string;
  readonly mac: string;
}

export interface AuditHead {
  readonly seq: number;
  readonly mac: string;
  /** Proves that this was a head: lines alone do not yield it, so a cut tail shows. */
  readonly proof: string;
}

/** Links each event to the one before; pure, keyed, called inside the store's transaction. */
export interface AuditChain {
  next(
    head: AuditHead | null,
    event: AuditEvent,
  ): { readonly entry: AuditLine; readonly head: AuditHead };
}

export interface RotationRow {
  readonly id: string;
  /** The secrets it rotates: one, or a group's. */
  readonly secrets: readonly string[];
  readonly phase: string;
  /** +1 at each commit. */
  readonly version: number;
  /** The lease's fence at its last commit. */
  readonly fence: number;
  /** False once it has ended; while true no other rotation may name one of its secrets. */
  readonly active: boolean;
  /** Advance it again when the journalled uptime reaches this; null: as soon as possible; Infinity is stored as parked. */
  readonly wakeAtUptimeMs: number | null;
  /** Waits for a person: never advanced by itself. */
  readonly parked: boolean;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly data: Json;
}

export interface SecretRow {
  readonly name: string;
  readonly version: number;
  readonly generation: number;
  /** When its schedule fires next, epoch milliseconds; null where it never does by itself. */
  readonly dueAt: number | null;
  readonly paused: boolean;
  readonly data: Json;
}

export interface DebtRow {
  readonly id: string;
  readonly secret: string;
  readonly rotation: string;
  readonly kind: string;
  readonly version: number;
  readonly createdAt: number;
  /** Try again when the journalled uptime reaches this; null: at once. */
  readonly wakeAtUptimeMs: number | null;
  /** Waits for a person. */
  readonly parked: boolean;
  readonly data: Json;
}

export interface InstanceRow {
  readonly consumer: string;
  readonly secret: string;
  readonly instance: string;
  readonly data: Json;
}

/** How far an audit sink has got: what it acknowledged, kept so that no line is left out after a restart. */
export interface AuditSinkRow {
  /** As it was configured: `file:/var/log/audit.jsonl`. */
  readonly sink: string;
  /** The newest line it keeps, and that line's mac; 0 and '' before the first. */
  readonly seq: number;
  readonly mac: string;
  /** The line that the newest checkpoint it keeps was signed for; 0 before the first. */
  readonly checkpointSeq: number;
  /** When that was, epoch milliseconds. */
  readonly checkpointAt: number;
}

/** What one server may be given: it holds for one command alone. */
export interface GrantRow {
  readonly server: string;
  /** Of its command and arguments: a changed command has no grant. */
  readonly hash: string;
  /** References, canonical. Who granted them, when, and what for. */
  readonly data: Json;
}

export interface Change<Row> {
  /** The version read before; 0 inserts a row that must not exist. */
  readonly expectVersion: number;
  /** Its `version` and `fence` are set by the store. */
  readonly row: Omit<Row, 'version' | 'fence'>;
}

export interface Commit {
  /** The lease under which this is written: a commit under a lost lease is refused with `fence-lost`. */
  readonly fence: number;
  readonly rotations?: readonly Change<RotationRow>[];
  readonly secrets?: readonly Change<SecretRow>[];
  readonly debts?: readonly Change<DebtRow>[];
  readonly closeDebts?: readonly { readonly id: string; readonly expectVersion: number }[];
  /** Released first, then taken in sorted order. */
  readonly releaseLocksOf?: readonly string[];
  readonly takeLocks?: readonly { readonly item: string; readonly rotation: string }[];
  readonly seals?: readonly {
    readonly id: string;
    readonly secret: string;
    readonly rotation: string;
    readonly sealed: Sealed;
  }[];
  readonly removeSeals?: readonly string[];
  readonly instances?: readonly InstanceRow[];
  readonly removeInstances?: readonly Omit<InstanceRow, 'data'>[];
  readonly audit?: readonly AuditEvent[];
  /** Replaced by name: one process delivers, and it holds the fence. */
  readonly auditSinks?: readonly AuditSinkRow[];
  readonly removeAuditSinks?: readonly string[];
  /** Replaced by server and hash. */
  readonly grants?: readonly GrantRow[];
  readonly removeGrants?: readonly Omit<GrantRow, 'data'>[];
}

export interface LeaseHolder {
  readonly pid: number;
  readonly host: string;
  readonly what: string;
}

export interface Lease {
  readonly fence: number;
  readonly holder: LeaseHolder;
  /** On the monotonic clock of `bootId`. */
  readonly untilMonotonicMs: number;
  readonly bootId: string;
}

export interface Journal extends AsyncDisposable {
  /**
   * Takes ownership for `ttlMs`, with a fence higher than any before. Throws `state-busy` (naming the holder) while another
   * lease runs; a lease of another boot has ended.
   */
  acquire(holder: LeaseHolder, ttlMs: number): Promise<Lease>;
  /** Extends it; also journals uptime and the newest wall instant. Throws `fence-lost` where another owner came. */
  renew(fence: number, ttlMs: number): Promise<Lease>;
  /** Ends it at once, so that the next owner need not wait. */
  release(fence: number): Promise<void>;
  /** Re-read from the store, not from memory: throws `fence-lost` where `fence` is not the newest or its lease has run out. */
  assertFence(fence: number): Promise<void>;
  currentLease(): Promise<Lease | null>;

  /**
   * Milliseconds that this deployment's machine was up, as far as the journal can vouch: counted on the monotonic clock
   * within a boot, never across one. Waits and graces run on it, so no clock set forward ends one early.
   */
  uptimeMs(): Promise<number>;
  /** The newest wall instant any owner journalled: a clock that shows less was set back. */
  newestInstant(): Promise<number>;

  /** Applies all of it durably, or nothing. Throws `fence-lost`, `conflict`, `already-active`, `item-locked`, `state-full`. */
  commit(change: Commit): Promise<void>;

  rotation(id: string): Promise<RotationRow | null>;
  activeRotationOf(secret: string): Promise<RotationRow | null>;
  /** Every active rotation, oldest first. */
  unfinished(): Promise<readonly RotationRow[]>;
  /** Active, not parked, wake time reached. */
  dueRotations(uptimeMs: number, most: number): Promise<readonly RotationRow[]>;
  /** Newest first. */
  history(secret: string | null, most: number): Promise<readonly RotationRow[]>;

  secret(name: string): Promise<SecretRow | null>;
  secrets(): Promise<readonly SecretRow[]>;
  /** Not paused, due at or before `now`. */
  dueSecrets(now: number, most: number): Promise<readonly SecretRow[]>;

  debts(secret?: string): Promise<readonly DebtRow[]>;
  dueDebts(uptimeMs: number, most: number): Promise<readonly DebtRow[]>;
  /** The earliest wake time of any rotation or debt that waits; null where none does. */
  nextWakeUptimeMs(): Promise<number | null>;
  /** The earliest due instant of any secret that is not paused. */
  nextDueAt(): Promise<number | null>;

  sealed(id: string): Promise<Sealed | null>;
  instances(secret: string): Promise<readonly InstanceRow[]>;
  /** By server, then hash. */
  grants(): Promise<readonly GrantRow[]>;
  lockOf(item: string): Promise<string | null>;

  auditHead(): Promise<AuditHead | null>;
  /** In order; `from` is a sequence number. */
  auditLines(from: number, most: number): Promise<readonly AuditLine[]>;
  auditOf(secret: string, most: number): Promise<readonly AuditLine[]>;
  /** By name. */
  auditSinks(): Promise<readonly AuditSinkRow[]>;

  /** Small derived data that may be lost at any time: parsed policy files by digest. */
  cached(key: string): Promise<{ readonly digest: string; readonly value: string } | null>;
  cache(
    entries: readonly { readonly key: string; readonly digest: string; readonly value: string }[],
  ): Promise<void>;
}
