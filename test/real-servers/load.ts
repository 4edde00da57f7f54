/** Callers that call without pause, as agents do, and count: a wrong answer is a failed call. */
import type { Client } from '@modelcontextprotocol/client';
import type { Case } from './case.ts';

export interface Load {
  readonly calls: () => number;
  readonly failed: () => number;
  readonly inFlight: () => number;
  /** The first few, in words. */
  readonly failures: readonly string[];
  /** Returns when so many more calls are answered. */
  more(calls: number): Promise<void>;
  /** Returns when the last call is answered. */
  stop(): Promise<void>;
}

const failuresKept = 5;

/** So many callers on each client. */
export function startLoad({ call }: Case, clients: readonly Client[], callersEach: number): Load {
  const counts = { calls: 0, failed: 0, inFlight: 0, turns: 0 };
  const failures: string[] = [];
  const waiting: { calls: number; done: () => void }[] = [];
  const stopping = new AbortController();

  async function work(client: Client): Promise<void> {
    while (!stopping.signal.aborted) {
      counts.turns += 1;
      counts.inFlight += 1;
      try {
        await call(client, counts.turns);
      } catch (error) {
        counts.failed += 1;
        if (failures.length < failuresKept) failures.push(String(error));
      }
      counts.inFlight -= 1;
      counts.calls += 1;
      for (const each of waiting) if (counts.calls >= each.calls) each.done();
    }
  }

  const callers = clients.flatMap((client) =>
    Array.from({ length: callersEach }, () => work(client)),
  );
  return {
    calls: () => counts.calls,
    failed: () => counts.failed,
    inFlight: () => counts.inFlight,
    failures,
    more: (calls) =>
      new Promise((done) => {
        waiting.push({ calls: counts.calls + calls, done });
      }),
    stop: async () => {
      stopping.abort();
      await Promise.all(callers);
    },
  };
}
