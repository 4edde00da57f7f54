/** The controls of `bench -- swap` lose calls, and the run sees it: without that, a clean run would prove nothing. */
import { describe, expect, test } from 'vitest';
import { runSwaps } from './support/swap-run.ts';
import { launch, servers } from './support/targets.ts';

const sizes = {
  callers: 8,
  warmUpMs: 100,
  capacityMs: 300,
  quietMs: 100,
  swaps: 1,
  callsLeast: 0,
  settleWithinMs: 2_500,
};

describe('a run of swaps', () => {
  for (const relay of ['restart', 'restart-buffered'] as const) {
    test(`sees what ${relay} loses`, async () => {
      const run = await runSwaps({
        server: 'server-everything',
        era: 'legacy',
        transport: 'stdio',
        changesTools: false,
        connect: async (feed, log) => launch({ relay, server: servers.everything, feed, log }),
        sizes,
        seed: 1,
        progress: () => {},
      });
      expect(run.swaps).toBe(2);
      expect(run.failed + run.lost).toBeGreaterThan(0);
      expect(run.problems).not.toEqual([]);
    }, 120_000);
  }
});
