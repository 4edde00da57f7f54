/** Callers that call without pause, as agents do, and count: a wrong answer is a failed call. */
import { setImmediate as turn } from 'node:timers/promises';
import type { Client } from '@modelcontextprotocol/client';
import type { Case } from './case.ts';

export interface Load {
  readonly calls: () => number;
  readonly failed: () => number;
  readonly inFlight: () => number;
  /** The first few, in words. */
  readonly failures: readonly string[];
  /** Returns when so many more calls are answered, or the callers gave up. */
  more(calls: number): Promise<void>;
  /** Returns when the last call is answered. */
  stop(): Promise<void>;
}

const failuresKept = 5;
/** A run with so many says enough. */
const failuresMost = 1_000;

/** So many callers on each client. */
export function startLoad({ call }: Case, clients: readonly Client[], callersEach: number): Load {
  const counts = { calls: 0, failed: 0, inFlight: 0, turns: 0 };
  const failures: string[] = [];
  const waiting: { calls: number; done: () => void }[] = [];
  const stopping = new AbortController();

  async function work(client: Client): Promise<void> {
    while (!stopping.signal.aborted && counts.failed < failuresMost) {
      counts.turns += 1;
      counts.inFlight += 1;
      try {
        await call(client, counts.turns);
      } catch (error) {
        counts.failed += 1;
        if (failures.length < failuresKept) failures.push(String(error));
        // A client that is closed refuses at once: the rest of this process must get its turn.
        await turn();
      }
      counts.inFlight -= 1;
      counts.calls += 1;
      for (const each of waiting) if (counts.calls >= each.calls) each.done();
    }
  }

  const callers = clients.flatMap((client) =>
    Array.from({ length: callersEach }, () => work(client)),
  );
  const ended = Promise.all(callers);
  return {
    calls: () => counts.calls,
    failed: () => counts.failed,
    inFlight: () => counts.inFlight,
    failures,
    more: async (calls) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.push({ calls: counts.calls + calls, done: resolve });
      await Promise.race([promise, ended]);
    },
    stop: async () => {
      stopping.abort();
      await ended;
    },
  };
}
