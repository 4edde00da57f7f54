/** What the parser must be told of the program around it: which backends and providers exist. */
import type { z } from 'zod';

export interface PolicyContext {
  /** Schemes that have a backend in this version: `local`. Others are known words, but a mistake in a policy. */
  readonly backends: ReadonlySet<string>;
  /** Names after `use:` that exist, for suggestions. */
  readonly providers: readonly string[];
  /**
   * The schema of a provider's options; undefined where there is no such provider. `directory`: the policy file's folder,
   * from which paths such as `./my-provider.ts` count.
   */
  providerSchema(use: string, directory: string): z.ZodType | undefined;
}
