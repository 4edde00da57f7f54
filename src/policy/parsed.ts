/** One policy file by itself, parsed: what is cached, and what the files of a folder are linked from. */
import type { Place } from './document.ts';
import type { NotifySpec, Policy } from './policy.ts';

export interface PlacedNotifier extends Place {
  readonly file: string;
  readonly spec: NotifySpec;
}

/** One file by itself, before the others are known: plain JSON, so that it can be cached. */
export interface ParsedFile {
  readonly file: string;
  /** `notify` is empty until the files are linked. */
  readonly policies: readonly Policy[];
  /** What each secret named under `notify`, also one with mistakes. */
  readonly notify: Readonly<Record<string, readonly NotifyName[]>>;
  readonly notifiers: readonly PlacedNotifier[];
  /** Names under `notifiers` that have a mistake: known, but of no use. */
  readonly brokenNotifiers: readonly string[];
}

export interface NotifyName extends Place {
  readonly name: string;
  readonly path: string;
}
