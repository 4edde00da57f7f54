/** What can be asked about grants: the same in-process and through the control socket. */
import type { Ask, Service } from '../rotation/service.ts';

/** One server and one command of it, and the references that it may resolve. */
export interface GrantView {
  readonly server: string;
  readonly hash: string;
  /** The program or address, without arguments: those may hold anything. null where it is not known. */
  readonly program: string | null;
  readonly references: readonly string[];
  /** Epoch milliseconds; null for a grant that a policy makes. */
  readonly at: number | null;
  readonly by: string;
  /** The policy whose gate consumer states the command; null where a person granted it. */
  readonly policy: string | null;
}

/** A running server that asked for more than it may: what a person would have to grant. */
export interface RefusalView {
  readonly server: string;
  readonly hash: string;
  /** What it launches, as its config says it. */
  readonly what: string;
  /** Those that were refused and may be granted. */
  readonly references: readonly string[];
  readonly at: number;
}

export interface GrantAsked {
  readonly server: string;
  readonly hash: string;
  readonly program: string | null;
  readonly references: readonly string[];
}

export interface GrantService {
  grants(): Promise<{
    readonly grants: readonly GrantView[];
    /** Since the daemon started, the newest first. */
    readonly refused: readonly RefusalView[];
  }>;
  /** Adds to what this command of the server was granted before. Throws `refused` for admin credentials, `policy-invalid`. */
  allow(asked: GrantAsked, ask: Ask): Promise<GrantView>;
  /** All grants of the server that a person made, or of one command; returns how many. A policy's end with the policy. */
  disallow(server: string, hash: string | null, ask: Ask): Promise<number>;
}

/** All that a deployment answers. */
export type WholeService = Service & GrantService;
