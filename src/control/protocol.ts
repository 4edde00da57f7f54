/**
 * What is said on the control socket, one JSON object a line.
 *
 * The server opens with a hello. The client sends requests with an id of its own; each is answered by one `result` or
 * `error` of the same id. `watch` answers with `event`s until `end`. `alive` in between shows that the daemon is not hung.
 * `{id, cancel: true}` ends a watch. `supply` and `read` carry values: nothing on this socket is ever logged.
 */
import type { ErrorJson } from '../errors.ts';
import { type Fields, Secret } from '../secret/secret.ts';

/** Raised when a message changes its meaning; a client refuses any other number. */
export const controlVersion = 1;
/** A request's longest line: the largest credential and some names. */
export const requestBytesMax = 1 << 20;
/** An answer's longest line: the status of 20,000 secrets is about 20 MB. */
export const answerBytesMax = 256 << 20;
/** Whoever waits for an answer hears from the daemon at least so often. */
export const aliveEveryMs = 2_000;
/** So long without a word means hung: longer than the daemon's loop is ever held up by its own work. */
export const silenceMaxMs = 10_000;

export interface Hello {
  readonly rotated: string;
  readonly control: number;
  readonly pid: number;
}

/** Who asks, as far as only the client knows: the server adds the account that the socket's folder proves. */
export interface WireAsk {
  readonly reason: string | null;
  /** A name that the client claims, such as the person behind sudo. */
  readonly as: string | null;
}

export type WireFields = Readonly<Record<string, string>>;

export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: ErrorJson }
  | { readonly id: number; readonly event: unknown }
  | { readonly id: number; readonly alive: true }
  | { readonly id: number; readonly end: true };

/** The values leave for the other end of a socket that only this account can open. */
export function fieldsToWire(fields: Fields): WireFields {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.reveal()]));
}

export function fieldsFromWire(fields: WireFields): Fields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, new Secret(value)]),
  );
}
