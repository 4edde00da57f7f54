/** What one case of the provider contract is. */
import type { Kit } from './contract-kit.ts';
import type { ContractWorld } from './contract-world.ts';
import type { Traits } from './provider.ts';

export interface ContractCase {
  /** A claim: `a mint leaves the old credential valid`. */
  readonly name: string;
  /** Why the case cannot apply; null where it does. */
  inapplicable(traits: Traits, world: ContractWorld): string | null;
  run(kit: Kit): Promise<void>;
}
