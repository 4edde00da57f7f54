/** What stands behind one name of the front: answers requests that were let in, goes through changes of credentials by itself. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock, Random } from '../../clock.ts';
import type { GateLog } from '../session/session.ts';

/** What every part behind the front is given. */
export interface Around {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: GateLog;
}

/** A request that was let in, and what has to be kept from the server. */
export interface Incoming {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Lower case: headers that were meant for the gate. */
  readonly forGate: ReadonlySet<string>;
}

export interface Backend {
  /** Answers every request, with an error where need be; never rejects. */
  handle(incoming: Incoming): Promise<void>;
  /** Ends what is open; resolves when nothing of it runs any more. */
  close(): Promise<void>;
}
