/** One client, one server: the interface of a session, whatever the client's transport and the server's. */
import type { Clock, Random } from '../../clock.ts';
import type { Entry } from '../entry.ts';
import type { LinkEnd, StartLink } from '../link.ts';
import type { ValueSource } from '../source.ts';
import type { Agent, Stage } from './path.ts';

/** Log messages are constant strings, data goes in fields. Never a value. */
export interface GateLog {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

/** The client's end. */
export interface ClientPort {
  /** Whole frames, each with its newline. False: wait for `Session.clientDrained`. Nothing is lost either way. */
  send(frames: Buffer): boolean;
  /** The session cannot take more for now, or can again. */
  hold(isHeld: boolean): void;
  /** For people: the server's stderr, whole lines, redacted. */
  log(lines: Buffer): void;
}

export interface SessionOptions {
  readonly entry: Entry;
  readonly source: ValueSource;
  readonly startLink: StartLink;
  readonly client: ClientPort;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: GateLog;
  /** Who the client is, as far as its end can tell. */
  readonly agent?: Agent | null;
  /** Besides redaction, in order. */
  readonly stages?: readonly Stage[];
  /** Where a session tells tests where it is; does nothing in production. */
  readonly at?: (point: string) => void;
}

export interface Session {
  /** Frames from the client, in order, each with its newline; those of one chunk together. */
  fromClient(frames: readonly Buffer[]): void;
  /** The client takes frames again. */
  clientDrained(): void;
  /** The client has closed its end: the server's input ends, and what it still answers is sent. */
  clientClosed(): void;
  /** Ends at once: nothing of the server runs when `ended` resolves. */
  stop(): void;
  /** How the last process ended. */
  readonly ended: Promise<LinkEnd>;
}
