/** The interface of a dry-run health check: tries a credential as its user would, without side effects. */
import type { Verdict } from '../finding.ts';
import type { Fields } from '../secret/secret.ts';

export interface Candidate {
  readonly secret: string;
  readonly generation: number;
  /** As read back from the backend's pending version, under the item's field names. */
  readonly fields: Fields;
}

export interface Verifier {
  /** Says what it does and where: `exec:./check-report`. */
  readonly id: string;
  /** A bad credential is a verdict; throws only where it cannot tell. */
  verify(candidate: Candidate, signal: AbortSignal): Promise<Verdict>;
}
