/** The path of a call through the gate, and the stages on it: identity, scoping, limits, audit and redaction stand here. */
import type { Message } from '../message.ts';

/** Who calls, as far as the client's end can tell. */
export interface Agent {
  readonly id: string;
  /** By a token or an account; else it only claims. */
  readonly proven: boolean;
}

export interface Call {
  /** `canonicalId` of the client's id. */
  readonly id: string;
  readonly method: string;
  readonly agent: Agent | null;
  /** The whole frame, for those that may be sent again or must be carried over; null for all others. */
  readonly frame: Buffer | null;
  /** Told of the answer, and what the process that gave it now has: what the call set up is carried over. */
  readonly learn: ((answer: Message, setup: Setup) => void) | null;
  /** Stays open until the client ends it: carried over at a swap, never waited for. */
  readonly isListen: boolean;
  /** The client knows that its listen was granted. */
  isAcknowledged: boolean;
  /** Sent a second time already. */
  isRetry: boolean;
}

/** What a process was told of a client's set-up, so that a later one can be told the same. */
export interface Setup {
  /** Params of `logging/setLevel`, as JSON text. */
  level: string | null;
  /** URI → params of `resources/subscribe`, as JSON text. */
  readonly subscriptions: Map<string, string>;
}

/** Answered by the gate itself; the server never sees the call. */
export interface Refusal {
  readonly code: number;
  readonly message: string;
}

/** Asked in order; a stage has one of the two or both. */
export interface Stage {
  readonly name: string;
  request?(call: Call, frame: Buffer): Refusal | null;
  /** Whether any frame in these bytes concerns it: asked once for all that came together. */
  concerns?(bytes: Buffer): boolean;
  /** A frame on its way to the client, as it should arrive there. */
  toClient?(frame: Buffer): Buffer;
}

/** The id as it stands in a frame. */
export function idText(id: string): string {
  return id.startsWith('"') ? JSON.stringify(id.slice(1)) : id;
}
