/** What the kinds of consumer share: what each is built from, and the two halves it is made of. */
import type { Clock, Random } from '../clock.ts';
import type { Fetch } from '../http.ts';
import type { Redactor } from '../secret/redactor.ts';
import type { Fields } from '../secret/secret.ts';
import type { Change, InstanceReport, SecretReader } from './consumer.ts';
import type { GateFeed } from './gate.ts';
import type { ProcessTable } from './processes.ts';

export interface ConsumerContext {
  /** The folder of the policy file: relative paths and commands count from here. */
  readonly directory: string;
  readonly read: SecretReader;
  /** Fields behind a `scheme://path[#field]`: the HMAC keys of http consumers. */
  resolveReference(reference: string, signal: AbortSignal): Promise<Fields>;
  readonly clock: Clock;
  readonly random: Random;
  readonly redactor: Pick<Redactor, 'add'>;
  /** The feed of running servers; absent where this program serves none. */
  readonly gate?: GateFeed;
  /** The runtime's own where absent. */
  readonly fetch?: Fetch;
  /** This machine's own where absent. */
  readonly processes?: ProcessTable;
}

/** The half of a consumer that is told; the other half reports. */
export interface Target {
  /** Without the role. */
  readonly id: string;
  probe(signal: AbortSignal): Promise<void>;
  reload(changes: readonly Change[], signal: AbortSignal): Promise<void>;
}

/** The other half. Throws where it could tell but does not answer. */
export type Reporter = (
  secret: string,
  signal: AbortSignal,
  known: readonly string[],
) => Promise<readonly InstanceReport[]>;

/** The same order for the same changes, so that a repeated reload is the same bytes. */
export function changesBody(changes: readonly Change[]): string {
  const plain = changes.map(({ secret, generation, stage }) => ({ secret, generation, stage }));
  return JSON.stringify({ changes: plain });
}
