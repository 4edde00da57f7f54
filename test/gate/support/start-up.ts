/** What a bare node is, and how long each relay takes until its server has answered for the first time. */
import { spawnSync } from 'node:child_process';
import { rounded } from '../../bench/stats.ts';
import { createLedger } from '../load/ledger.ts';
import { plainDialect } from '../load/plain.ts';
import { nowMs } from '../load/server-log.ts';
import { createSession } from '../load/session.ts';
import type { TestFeed } from './feed.ts';
import { launch, servers } from './targets.ts';

/** Of a node that does nothing. */
export function bareNodeMb(): number {
  const script = 'console.log(process.memoryUsage().rss / 1024 / 1024)';
  return Number(spawnSync(process.execPath, ['--eval', script], { encoding: 'utf8' }).stdout);
}

/**
 * From a process's start to its answer to `initialize`: the relay's, less that of the server alone, less a bare node's
 * whole life, all in turn.
 */
export async function startups(place: { feed: TestFeed; rotate: string }, times: number) {
  const took: Record<'direct' | 'pipe' | 'wrap' | 'node', number[]> = {
    direct: [],
    pipe: [],
    wrap: [],
    node: [],
  };
  for (let n = 0; n < times; n += 1) {
    const nodeAt = nowMs();
    spawnSync(process.execPath, ['--eval', '']);
    took.node.push(nowMs() - nodeAt);
    for (const relay of ['direct', 'pipe', 'wrap'] as const) {
      const startedAt = nowMs();
      const transport = launch({ relay, server: servers.echo, ...place });
      const session = createSession(plainDialect('legacy'), transport, createLedger('start'));
      await session.ask('initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'start', version: '1' },
      });
      took[relay].push(nowMs() - startedAt);
      await session.close();
    }
  }
  // The least, not the middle: whatever else the machine does can only add.
  const least = (values: readonly number[]) => Math.min(...values);
  const over = (relay: 'pipe' | 'wrap') =>
    rounded(least(took[relay]) - least(took.direct) - least(took.node));
  return { startupOverNodeMs: over('wrap'), pipeStartupOverNodeMs: over('pipe') };
}
