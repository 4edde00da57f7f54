/**
 * What a policy is once parsed: complete, defaults filled in, durations in milliseconds.
 * Plain JSON, since a rotation keeps the policy it began with in the journal. Holds references to secrets, never values.
 */

import type { ServerSettings } from '../gate/settings.ts';

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Where a policy stands: for messages. */
export interface PolicySource {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** `scheme://path[#field]`, kept as written, checked when parsed. */
export type Reference = string;

export interface Policy {
  readonly name: string;
  readonly source: PolicySource;
  /** The folder of the policy file: relative paths count from here. */
  readonly directory: string;
  readonly tags: readonly string[];
  /** Secrets of one group are staged, verified and flipped together. */
  readonly group: string | null;
  readonly provider: {
    readonly use: string;
    readonly admin: Reference | null;
    /** As written, validated by the provider's own schema: parse it again to get the schema's defaults. */
    readonly options: Json;
  };
  readonly backend: {
    /** `local` */
    readonly scheme: string;
    /** The backend's own path of the item. */
    readonly item: string;
    /** Item field → the provider's field that it holds (a provider with one field calls it `value`). null: the item's fields are the provider's. */
    readonly fields: Readonly<Record<string, string>> | null;
  };
  readonly schedule: Schedule;
  readonly graceMs: number;
  /** Where the issuer reports last use: how long the old credential must have been quiet before it is revoked. */
  readonly quietMs: number;
  readonly verify: readonly VerifySpec[];
  readonly consumers: readonly ConsumerSpec[];
  readonly adoption: { readonly timeoutMs: number; readonly then: 'wait' | 'revoke' | 'rollback' };
  readonly failure: { readonly attempts: number; readonly pauseAfter: number };
  readonly emergency: {
    readonly mode: 'continuity' | 'contain';
    /** In continuity: revoke at the latest so long after the start, adopted or not. */
    readonly deadlineMs: number;
  };
  /** Keep current sealed in the journal while it is current, so that a lost backend can be restored. */
  readonly escrow: boolean;
  readonly notify: readonly NotifySpec[];
}

export interface Schedule {
  readonly trigger:
    | { readonly kind: 'cron'; readonly expression: string }
    | { readonly kind: 'every'; readonly everyMs: number }
    /** Rotates only when asked, or when ageMax or the credential's own expiry force it. */
    | { readonly kind: 'manual' };
  /** IANA name. */
  readonly timezone: string;
  readonly splayMs: number;
  readonly window: AllowedWindow | null;
  /** No rotation begins inside one of these: instants in `timezone`, end excluded. */
  readonly freeze: readonly {
    readonly from: string;
    readonly to: string;
    readonly reason: string | null;
  }[];
  /** What becomes of runs that fell due while nothing ran: one at the next chance, or none. */
  readonly missed: 'once' | 'skip';
  /** No scheduled rotation before the current credential is so old. */
  readonly ageMinMs: number | null;
  /** Rotate at the latest when it is so old, whatever the trigger says; window and freeze still hold. */
  readonly ageMaxMs: number | null;
}

export type Weekday = 'mon' | 'tue' | 'wed' | 'thu' | 'fri' | 'sat' | 'sun';

export interface AllowedWindow {
  readonly days: readonly Weekday[];
  /** `HH:MM`; the first pass where an hour comes twice. A window whose `to` is not after its `from` ends on the next day. */
  readonly from: string;
  readonly to: string;
}

export interface HttpCall {
  readonly url: string;
  readonly method: string;
  /** `${field}` stands for a field of the item, everything else is literal. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
}

export type VerifySpec =
  | { readonly kind: 'provider' }
  | {
      readonly kind: 'http';
      readonly call: HttpCall;
      readonly expectStatus: readonly number[];
      readonly timeoutMs: number;
    }
  | {
      readonly kind: 'exec';
      readonly command: readonly [string, ...string[]];
      /** Environment name → item field; the item's own field names where null. Values go by environment, never by argument. */
      readonly env: Readonly<Record<string, string>> | null;
      readonly timeoutMs: number;
    }
  /** Starts an MCP server with the new credential and makes one read-only call that uses it. */
  | {
      readonly kind: 'mcp';
      /** `${field}` and `${field|url}` stand for fields of the item. */
      readonly command: readonly [string, ...string[]];
      /** Environment name → text with `${field}`s; the item's own field names where null. */
      readonly env: Readonly<Record<string, string>> | null;
      readonly tool: string;
      readonly arguments: { readonly [key: string]: Json };
      /** What a good answer holds; absent: any answer that is no error will do. */
      readonly expect?: string;
      readonly timeoutMs: number;
    };

export type SignalName = 'SIGHUP' | 'SIGUSR1' | 'SIGUSR2' | 'SIGTERM' | 'SIGINT';

export interface SignalSpec {
  readonly signal: SignalName;
  readonly target:
    | { readonly kind: 'pidfile'; readonly path: string }
    /** Every process whose argument vector has these as adjacent parts. */
    | { readonly kind: 'match'; readonly command: readonly [string, ...string[]] };
  /** The account name or numeric uid that must own the process; the daemon's own where null. */
  readonly owner: string | null;
}

export type ReportSpec =
  | { readonly kind: 'http'; readonly url: string; readonly key: Reference | null }
  | { readonly kind: 'exec'; readonly command: readonly [string, ...string[]] }
  /** A file that each instance rewrites: JSON `{"instances":[{"id","generation","state"}]}`. */
  | { readonly kind: 'file'; readonly path: string };

export type ConsumerSpec = {
  readonly role: 'user' | 'verifier';
  readonly report: ReportSpec | null;
  readonly timeoutMs: number;
} & (
  | ({ readonly kind: 'signal' } & SignalSpec)
  | { readonly kind: 'http'; readonly url: string; readonly key: Reference | null }
  | { readonly kind: 'exec'; readonly command: readonly [string, ...string[]] }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly format: 'env' | 'json' | 'template';
      /** A template's path, with `${field}` and `${generation}`; null for the other formats. */
      readonly template: string | null;
      /** File mode, 0600 or stricter unless the policy says otherwise. */
      readonly mode: number;
      readonly then: SignalSpec | null;
    }
  /** The running instances of an MCP server behind `rotate wrap` or the gate. */
  | {
      readonly kind: 'gate';
      readonly server: string;
      /** What clients launch under this name, as their config writes it: grants it this secret. null: nothing is granted. */
      readonly command: readonly [string, ...string[]] | null;
      /** What is said of it here; what is not said, another policy of the same server may say. */
      readonly settings: Partial<ServerSettings>;
    }
);

export type NotifySpec =
  | {
      readonly kind: 'exec';
      readonly name: string;
      readonly command: readonly [string, ...string[]];
    }
  | { readonly kind: 'http'; readonly name: string; readonly url: string };

/** One mistake in a policy file, placed. */
export interface PolicyProblem {
  readonly code: string;
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Dotted path in the file: `secrets.reports-db.schedule.cron`. */
  readonly path: string;
  readonly message: string;
  /** The value as seen, shortened; never a secret (a plaintext secret in a policy is itself a mistake and is not echoed). */
  readonly seen: string | null;
  readonly example: string | null;
}
