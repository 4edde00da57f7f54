/**
 * What is said on the feed between a running server's shim and the daemon that holds its secrets, one JSON object a line,
 * over any duplex stream.
 *
 * The shim opens with a hello; the daemon answers `welcome` or `refused`. The shim asks with `resolve`, each answered by one
 * `values` or `error` of the same id. The daemon says `changed` when it is worth asking again. `alive` from the daemon is
 * answered by `alive`: both ends learn that the other is not hung. Values travel here: nothing on a feed is ever logged.
 */
import type { ErrorJson } from '../../errors.ts';
import type { ServerSettings } from '../settings.ts';
import type { Generations, InstanceStatus } from '../source.ts';

/** Raised when a message changes its meaning; either end refuses any other number. */
export const feedVersion = 1;
/** The longest line of a shim: its references. */
export const shimLineMax = 256 << 10;
/** The longest line of the daemon: the largest item, for every reference. */
export const daemonLineMax = 8 << 20;
/** References of one server. */
export const referencesMost = 64;

/** Who asks, and for what: fixed for the life of an instance. */
export interface Asker {
  /** As `serverNameOf` makes it: what policies and grants call this server. */
  readonly server: string;
  /** `entryHash`: a grant holds for it alone. */
  readonly hash: string;
  /** What is launched, as `describeLaunch` writes it: for the person who grants. Never journalled. */
  readonly what: string;
  /** As the entry writes them; `values` answers in the same order. */
  readonly references: readonly string[];
}

export interface Hello extends Asker {
  readonly type: 'hello';
  readonly feed: number;
  /** As `newInstance` makes it. */
  readonly instance: string;
  /** Of what was resolved last; null before the first. */
  readonly held: Generations | null;
  readonly status: InstanceStatus | null;
}

export type ShimMessage =
  | Hello
  | { readonly type: 'resolve'; readonly id: number }
  | { readonly type: 'status'; readonly status: InstanceStatus }
  | { readonly type: 'alive' }
  /** The instance ends in order: nothing of it holds a value any more. */
  | { readonly type: 'bye' };

export type DaemonMessage =
  | {
      readonly type: 'welcome';
      readonly feed: number;
      readonly rotated: string;
      readonly settings: ServerSettings;
    }
  | { readonly type: 'refused'; readonly error: ErrorJson }
  | {
      readonly type: 'values';
      readonly id: number;
      readonly values: readonly string[];
      readonly generations: Generations;
    }
  | { readonly type: 'error'; readonly id: number; readonly error: ErrorJson }
  | { readonly type: 'changed'; readonly urgent: boolean }
  | { readonly type: 'settings'; readonly settings: ServerSettings }
  | { readonly type: 'alive' };

export function lineOf(message: ShimMessage | DaemonMessage): string {
  return `${JSON.stringify(message)}\n`;
}
