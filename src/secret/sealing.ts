/** What a sealed record is, and the two things that seal and open one. */
import type { Fields } from './secret.ts';

/** A data key, encrypted under the key-encryption key that `kek` names. */
export interface WrappedKey {
  readonly kek: string;
  readonly wrapped: string;
}

/** AES-256-GCM: base64 parts, all safe to store. */
export interface Sealed {
  readonly v: 1;
  readonly key: WrappedKey;
  readonly iv: string;
  readonly tag: string;
  readonly data: string;
}

/** Bound into the seal as additional authenticated data: a record moved to another place does not open. */
export interface SealContext {
  readonly secret: string;
  readonly rotation: string;
  readonly purpose: string;
}

/** Whoever holds the key-encryption key: a file, systemd, a KMS. Named by an id that is stored with every record. */
export interface KeyEncryptionKey {
  readonly id: string;
  wrap(dataKey: Uint8Array, signal?: AbortSignal): Promise<string>;
  unwrap(wrapped: string, signal?: AbortSignal): Promise<Uint8Array>;
  /** A key derived for one purpose (HKDF), for fingerprints and the audit chain. */
  derive(purpose: string): Promise<Uint8Array>;
}

export interface Sealer {
  /** A fresh data key, wrapped now, so that a later outage of the key source cannot strand a minted credential. */
  newKey(signal?: AbortSignal): Promise<WrappedKey>;
  /** Seals under `key`, or under a fresh data key. A key made by `newKey` in this process needs no unwrapping. */
  seal(
    fields: Fields,
    context: SealContext,
    key?: WrappedKey,
    signal?: AbortSignal,
  ): Promise<Sealed>;
  /** Throws `seal-broken` where record and context do not belong together, `key-unknown` where the key is not at hand. */
  open(sealed: Sealed, context: SealContext, signal?: AbortSignal): Promise<Fields>;
}

/** Keyed hash of a value, short enough for a log line: the same value gives the same 12 hex digits in one deployment. */
export interface Fingerprinter {
  of(fields: Fields): string;
}
