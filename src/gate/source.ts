/** Where the values of a running server come from, as the gate sees it: whoever composes the gate hands one over. */
import type { Secret } from '../secret/secret.ts';
import type { ServerSettings } from './settings.ts';

/** What an entry's references stand for, at one instant. */
export interface Resolved {
  /** By reference, as the entry writes it. */
  readonly values: ReadonlyMap<string, Secret>;
  /** By secret, for those references that a policy keeps fresh. Secrets that changed together arrive together. */
  readonly generations: Generations;
}

/** Secret → generation. */
export type Generations = Readonly<Record<string, number>>;

/** Something may have changed: resolve again. Also said after a connection was lost and found. */
export interface Notice {
  /** The old credential is treated as leaked: what the settings let an emergency cut may be cut. */
  readonly urgent: boolean;
}

export interface InstanceStatus {
  /** idle: no process of the server runs; the newest generation is taken at the next call. */
  readonly state: 'serving' | 'idle';
  /** The oldest generation that any process of this instance still holds. */
  readonly generations: Generations;
  /** Why the newest generation is not served; null where it is, or where a swap is still under way. */
  readonly problem: { readonly code: string; readonly message: string } | null;
}

/** One running server's line to whoever holds its secrets. Outlives that one: what was resolved last stays usable. */
export interface ValueSource {
  /** As they stand now; the defaults until somebody said otherwise. */
  settings(): ServerSettings;
  /** Throws RotatedErrors: `not-granted`, `unavailable`, `not-found`, `unsupported`. */
  resolve(signal: AbortSignal): Promise<Resolved>;
  /** One listener; may be called at any time, also for what is served already. */
  listen(listener: (notice: Notice) => void): void;
  report(status: InstanceStatus): void;
  /** Says that this instance is gone. */
  close(): Promise<void>;
}
