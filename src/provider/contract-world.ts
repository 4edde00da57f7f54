/** What a subject of the provider contract brings for one case: a clean issuer, and the faults it can make. */
import type { Fields } from '../secret/secret.ts';
import type { Minted, ProviderContext } from './provider.ts';

/** The provider's options as a policy would hold them, and the context it is opened with. */
export interface Variant {
  readonly options: unknown;
  readonly context: ProviderContext;
}

/** A clean issuer for one case, and the ways in which it can be made to fail. A fault that is absent cannot be made. */
export interface ContractWorld extends Variant, AsyncDisposable {
  /** Fields that the issuer must refuse, made from some that it accepts. */
  wrong(fields: Fields): Fields;
  /** Values beside the admin credential that must not appear in any error. */
  readonly canaries?: readonly string[];
  /** Strategy operator: what a person would hand in. */
  supply?(): Promise<Minted>;
  /** An admin credential without the rights to mint. */
  denied?(): Promise<Variant>;
  /** The next mint through this variant takes effect and its answer is lost; null where no call leaves the process. */
  loseAnswer?(): Promise<Variant | null>;
  /** An issuer that accepts calls and never answers. */
  silent?(): Promise<Variant>;
  /** An issuer that cannot be reached. */
  unreachable?(): Promise<Variant>;
  /** Issuers that answer with nonsense or malice. */
  hostile?(): Promise<readonly (Variant & { readonly name: string })[]>;
  /** New credentials are refused at first, for less than the traits' settle time. `supply` is that of the lagging issuer. */
  lagging?(): Promise<Variant & { supply?(): Promise<Minted> }>;
  /** A secret of its own beside this one, at the same issuer. */
  sibling?(): Promise<Variant & { supply?(): Promise<Minted> }>;
  /** Logs in as a user of the credential would, and stays. */
  hold?(fields: Fields): Promise<{ isOpen(): Promise<boolean> } & AsyncDisposable>;
}
