/** One result of a check that changes nothing: what was found, where, why it matters, how to mend it. */
export interface Finding {
  /** Stable kebab-case name: scripts and tests match on it. */
  readonly name: string;
  readonly level: 'red' | 'amber' | 'green';
  readonly message: string;
  /** A policy place, a role, a path: where to look. */
  readonly place?: string | undefined;
  readonly why?: string | undefined;
  /** The next step, as an imperative sentence. */
  readonly mend?: string | undefined;
}

/** An answer about a credential. A bad credential is an answer, not an exception. */
export type Verdict =
  | {
      readonly ok: true;
      readonly identity?: string | undefined;
      readonly scopes?: readonly string[] | undefined;
      readonly expiresAt?: number | undefined;
    }
  | {
      readonly ok: false;
      /** `rejected`: not accepted at all; `restricted`: accepted, but may not do what it must. */
      readonly kind: 'rejected' | 'restricted';
      /** For people and logs; holds no secret. */
      readonly reason: string;
    };
