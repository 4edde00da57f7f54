/** One running server as a session sees it: frames in, frames out, an end. */
import type { Resolved } from './source.ts';

export interface LinkEnd {
  /** closed: it was told to stop. exited: by itself. failed: it could not be started. */
  readonly why: 'closed' | 'exited' | 'failed';
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** What a person should know of a failure; never what the server printed. */
  readonly message: string | null;
}

export interface LinkEvents {
  /** Whole frames, in order. */
  onFrames(frames: readonly Buffer[]): void;
  /** `send` may go on. */
  onDrain(): void;
  /** What the server wrote for people, whole lines. */
  onLog(lines: Buffer): void;
  /** Bytes that were dropped: too long for a frame. The two ends of it. */
  onTooLong(head: Buffer, tail: Buffer): void;
}

export interface Link {
  /** False: the server does not keep up; wait for `onDrain`. Nothing is lost either way. */
  send(frames: Buffer): boolean;
  /** Stops and goes on reading from the server: the client does not keep up. */
  pause(): void;
  resume(): void;
  /** Nothing more will be sent; what it was sent it still answers. */
  endInput(): void;
  /**
   * gentle: end of input, later TERM, later KILL. now: KILL at once. Resolves when nothing of it runs any more. May be
   * called again to hurry.
   */
  stop(how: 'gentle' | 'now'): Promise<LinkEnd>;
  /** Resolves, never rejects, when it has ended for whatever reason. */
  readonly ended: Promise<LinkEnd>;
}

/** Starts the server with these values. A server that cannot be started is a link that ends as `failed`. */
export type StartLink = (resolved: Resolved, events: LinkEvents) => Link;
