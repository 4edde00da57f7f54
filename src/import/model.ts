/** The nouns of an import: a spot in a config that holds keys, the keys in it, a server, a secret, a verdict. */
import type { Node } from 'jsonc-parser';
import type { Secret } from '../secret/secret.ts';
import type { Issuer } from './issuers.ts';

/** One key inside one string of a config. */
export interface FoundKey {
  /** Where in the decoded string it stands. */
  readonly start: number;
  readonly end: number;
  /** What its field is called, unless another key of the server is called so already. */
  readonly field: string;
  /** It stands in a URL, percent-encoded. */
  readonly url: boolean;
  readonly value: Secret;
  /** In characters: all that is ever shown of it. */
  readonly length: number;
  /** As its form tells. */
  readonly issuer: Issuer | null;
}

/** One string of a config that holds keys. */
export interface Spot {
  readonly where: 'environment' | 'header' | 'argument' | 'url';
  /** The variable, the header, the flag; '' for a bare argument. */
  readonly name: string;
  readonly node: Node;
  /** Of a property: the node of its key. */
  readonly keyNode: Node | null;
  /** Decoded. */
  readonly text: string;
  readonly keys: readonly FoundKey[];
}

/** What was looked at and is no plaintext key, for the reason that is given. */
export interface Passed {
  readonly name: string;
  readonly why: 'reference' | 'variable' | 'placeholder' | 'file';
}

export interface Findings {
  readonly spots: readonly Spot[];
  readonly passed: readonly Passed[];
}

export type LeftCode =
  | 'no-key'
  | 'signs-in-itself'
  | 'variable'
  | 'container'
  | 'wrapped'
  | 'transport'
  | 'not-understood';

export interface Verdict {
  /** automatic: its issuer has an API and a policy uses it. guided: a person makes each new key. left: nothing is changed. */
  readonly kind: 'automatic' | 'guided' | 'left';
  /** null where it is not left alone. */
  readonly left: LeftCode | null;
  readonly reason: string;
}

/** One credential, wherever it stood: what a policy will keep fresh. */
export interface ImportedSecret {
  /** The name of its policy. */
  readonly name: string;
  /** `mcp/github`, below `local://`. */
  readonly item: string;
  /** More than one where they work only together. */
  readonly fields: readonly ImportedField[];
  readonly issuer: Issuer | null;
  /** The servers that use it. */
  readonly servers: readonly string[];
}

export interface ImportedField {
  readonly field: string;
  readonly value: Secret;
  readonly length: number;
}

export function referenceTo(item: string, field: string): string {
  return `local://${item}#${field}`;
}
