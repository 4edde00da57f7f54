/** What the harness and its workers say to each other: one JSON line each way, and a log file that survives a kill. */
import type { CrashClass } from '../../src/provider/provider.ts';
import type { EmergencyMode } from '../../src/rotation/service.ts';

export const mutantNames = [
  'no-reconcile',
  'no-intent',
  'plaintext-journal',
  'guard-removed',
  'verify-skipped',
  'revoke-before-adoption',
] as const;
export type MutantName = (typeof mutantNames)[number];

export type Invariant =
  | 'backend-current-live'
  | 'served-keys-live'
  | 'live-keys-named'
  | 'fences-rise'
  | 'versions-rise'
  | 'one-active-rotation'
  | 'no-plaintext'
  | 'audit-verifies'
  | 'locks-released'
  | 'adopted-by-all'
  | 'calls-answered'
  | 'outcome';

export interface Violation {
  readonly point: string;
  readonly invariant: Invariant;
  readonly detail: string;
}

/** Where the rotation may end: its phase, or `parked`. */
export type End = 'retired' | 'abandoned' | 'rolled-back' | 'parked';

export interface Scenario {
  readonly name: string;
  readonly crashClass: CrashClass;
  /** null: an ordinary rotation. */
  readonly now: EmergencyMode | null;
  /** An ordinary rotation comes to its grace first: `now` is asked over it, and again where a crash swallowed that. */
  readonly overGrace: boolean;
  readonly adoptionThen: 'wait' | 'revoke' | 'rollback';
  /** A second app checks what the first presents. */
  readonly verifiers: boolean;
  /** The secret does not exist yet. */
  readonly first: boolean;
  /** Behind the gate: nobody calls when the secret changes. */
  readonly idle: boolean;
  /** The first is how it ends where nothing is killed. */
  readonly ends: readonly [End, ...End[]];
}

/** Who uses the secret: an application that reads a file, or the instances of an MCP server behind the gate. */
export type ConsumerKind = 'app' | 'gate';

export interface Job {
  /** start: begin a rotation. recover: finish whatever is there. check: only look. */
  readonly kind: 'start' | 'recover' | 'check';
  readonly scenario: Scenario;
  /** The case's own folder: `state/`, `app.json`, `verifier.json`, `clock`, `log`. */
  readonly directory: string;
  /** The issuer's principal and the app's name. */
  readonly principal: string;
  readonly issuerUrl: string;
  readonly appsUrl: string;
  readonly consumer: ConsumerKind;
  readonly gatesUrl: string | null;
  /** The key-encryption key, hex. */
  readonly kek: string;
  /** Do this to the own process at the so-many-th point, counted from 1. */
  readonly stopAt: { readonly point: number; readonly signal: 'SIGKILL' | 'SIGSTOP' } | null;
  /** Another process holds the lease and will not give it back: let it run out. */
  readonly takeOver: boolean;
  readonly mutant: MutantName | null;
}

export interface Reply {
  /** lost: another process took over. */
  readonly outcome: 'finished' | 'lost' | 'failed';
  readonly points: readonly string[];
  readonly error: string | null;
}

/** A line of the case's log. */
export type LogLine =
  | { readonly kind: 'violation'; readonly violation: Violation }
  | {
      readonly kind: 'commit';
      readonly pid: number;
      readonly fence: number;
      readonly rotation: string;
      readonly version: number;
    }
  | { readonly kind: 'lease'; readonly pid: number; readonly fence: number }
  | { readonly kind: 'note'; readonly text: string };

/** The name of the app that checks what the app of a principal presents. */
export function verifierOf(principal: string): string {
  return `${principal}-verifier`;
}

/** Every value that the issuer makes begins so: the state directory is searched for it. */
export const canary = 'canary-7Qm2-';
export const secretName = 'reports-db';
export const itemName = 'mcp/reports-db';
/** The MCP server behind the gate, in policies and for grants. */
export const gateServer = 'reports';
export const gateCommand = ['cheap-server'] as const;
export const hmacKey = 'the hmac key of the crash tests';
