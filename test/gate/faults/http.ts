/** Faults around the gate over HTTP: its clients do not begin anew, so it must not need them to. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from '../../support/servers/free-port.ts';
import { openHttp } from '../load/http.ts';
import { createLedger } from '../load/ledger.ts';
import { textOf } from '../load/message.ts';
import { plainDialect } from '../load/plain.ts';
import { logVariable, readServerLog } from '../load/server-log.ts';
import { createSession } from '../load/session.ts';
import { openFeed } from '../support/feed.ts';
import { startGate } from '../support/http-targets.ts';
import { servers } from '../support/targets.ts';
import type { FaultCase } from './case.ts';
import { must, mustEqual, until, within } from './expect.ts';
import { isAlive } from './stage.ts';

export const httpCases: readonly FaultCase[] = [
  restarted('gate restarted with sessions open', 'SIGTERM'),
  restarted('gate killed with sessions open', 'SIGKILL'),
];

function restarted(name: string, signal: 'SIGTERM' | 'SIGKILL'): FaultCase {
  return {
    name,
    async run() {
      const folder = mkdtempSync(path.join(tmpdir(), 'rotated-fault-'));
      const log = path.join(folder, 'calls.log');
      await using feed = await openFeed({ warmMs: 0 });
      const port = await freePort();
      const start = () =>
        startGate(feed, { ...servers.bad, env: { [logVariable]: log } }, { port });
      let gate = await start();
      try {
        const clients = Array.from({ length: 3 }, () => {
          const transport = openHttp({ ...gate, era: 'legacy' });
          const session = createSession(plainDialect('legacy'), transport, createLedger('h'));
          return { transport, session };
        });
        for (const { session } of clients) await session.open();
        const ids = clients.map(({ transport }) => transport.sessionId());
        must(new Set(ids).size === 3 && !ids.includes(null), `Session ids: ${ids.join(', ')}`);
        if (signal === 'SIGTERM') await gate.stop();
        else process.kill(gate.pid, 'SIGKILL');
        const before = readServerLog(log).starts;
        await until('its servers to end', () => !before.some(({ pid }) => isAlive(pid)));
        if (signal === 'SIGKILL') await gate.end();
        // Rotated while nobody was there.
        feed.change();
        gate = await start();
        for (const { session } of clients) {
          const call = session.ask('tools/call', { name: 'get_me', arguments: {} });
          const text = textOf(await within('an answer in the old session', call, 20_000));
          mustEqual(text.split(' pid ')[0], 'generation 2', 'Served by');
        }
        const after = clients.map(({ transport }) => transport.sessionId());
        mustEqual(after.join(), ids.join(), 'The session ids');
        for (const { session } of clients) await session.close();
        return 'three sessions went on under their ids, none began anew; served by the new generation';
      } finally {
        await gate.end();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}
