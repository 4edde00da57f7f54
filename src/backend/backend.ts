/**
 * The interface of a secrets backend: items with fields, each item in up to three stages.
 *
 * Glossary: an *item* is the backend's record; a *version* is one value of the whole item; *pending*, *current* and
 * *previous* are labels on versions. Two secrets may be fields of one item, so a write names only one's own fields and
 * leaves the neighbours' as they stand in current at that moment.
 */
import type { Finding } from '../finding.ts';
import type { Fields } from '../secret/secret.ts';

export type Stage = 'pending' | 'current' | 'previous';
export type VersionId = string;

/** What stands with a secret's fields in the item, so that a lost journal can be made good. Nothing secret. */
export interface OwnerNote {
  readonly secret: string;
  readonly generation: number;
  readonly ref: string | null;
  readonly rotation: string;
  /** The item's fields that this secret owns. */
  readonly fields: readonly string[];
}

export interface VersionInfo {
  readonly version: VersionId;
  /** The transaction that wrote it; null where something else did. */
  readonly txn: string | null;
  readonly createdAt: number;
  /** By secret name. */
  readonly owners: Readonly<Record<string, OwnerNote>>;
}

export interface ItemState {
  readonly pending: VersionInfo | null;
  readonly current: VersionInfo | null;
  readonly previous: VersionInfo | null;
}

export interface ItemVersion extends VersionInfo {
  readonly fields: Fields;
}

export interface BackendCapabilities {
  /** `advisory`: the backend cannot refuse a write that lost a race, only show it afterwards. */
  readonly compareAndSet: 'strong' | 'advisory';
  readonly purge: boolean;
  readonly bytesMax: number;
}

export interface Write {
  /** Identifies this write for ever: the same transaction with the same content is done once, with other content is a `conflict`. */
  readonly txn: string;
  /** The version that must be current now, as read before; null where the item must not exist yet. Else `conflict`. */
  readonly expectCurrent: VersionId | null;
}

/**
 * Item paths are the backend's own and were checked by its reference parser.
 * Errors: conflict, not-found, denied, unauthenticated, throttled, unavailable, too-large, ambiguous, timeout,
 * pending-foreign. A write whose answer was lost throws `ambiguous` with effect unknown; the caller describes, never mints again.
 */
export interface Backend {
  /** The scheme of its references: `local`, `vault`, … */
  readonly id: string;
  readonly capabilities: BackendCapabilities;
  /** Can this item be written, staged, promoted and purged, and who could read a pending value? Changes nothing. */
  preflight(item: string, signal: AbortSignal): Promise<Finding[]>;
  /** All labels null where the item does not exist. */
  describe(item: string, signal: AbortSignal): Promise<ItemState>;
  /** Throws `not-found` where there is no such version. */
  read(
    item: string,
    at: Stage | { readonly version: VersionId },
    signal: AbortSignal,
  ): Promise<ItemVersion>;
  /**
   * Writes current merged with `fields` as pending (`notes`: one for each secret of a group that writes this item at once); consumers that read current see nothing of it.
   * Throws `pending-foreign` where another transaction's version is pending.
   */
  stage(
    item: string,
    fields: Fields,
    notes: readonly OwnerNote[],
    write: Write,
    signal: AbortSignal,
  ): Promise<VersionId>;
  /** Compare-and-set: pending becomes current, current becomes previous. Done once; repeating it after success succeeds. */
  promote(
    item: string,
    write: Write & { readonly pending: VersionId },
    signal: AbortSignal,
  ): Promise<VersionId>;
  /** Writes own `fields` onto what is current now, as a new current version; neighbours keep their newest values. */
  rollback(
    item: string,
    fields: Fields,
    notes: readonly OwnerNote[],
    write: Write,
    signal: AbortSignal,
  ): Promise<VersionId>;
  /** Drops the pending version if `txn` wrote it; succeeds if it is gone. Never touches another transaction's. */
  discard(item: string, txn: string, signal: AbortSignal): Promise<void>;
  /** Drops the previous version, if it is still `version`; succeeds if it is gone. */
  retirePrevious(item: string, version: VersionId, signal: AbortSignal): Promise<void>;
  /** Destroys every version except current and pending: no rollback can bring a leaked value back. */
  purge(item: string, signal: AbortSignal): Promise<void>;
}
