/** A process that owns a journal and commits without end, or stops inside a transaction: for tests that kill it. */
import { DatabaseSync } from 'node:sqlite';
import { createAuditChain } from '../../audit/chain.ts';
import { systemClock } from '../../clock.ts';
import { auditEvent, rotationRow } from '../contract-support.ts';
import { openSqliteJournal } from '../sqlite.ts';

const [directory = '', mode = 'commit'] = process.argv.slice(2);
const chain = createAuditChain(Buffer.alloc(32, 7));
await using journal = await openSqliteJournal({ directory, clock: systemClock(), chain });
const { fence } = await journal.acquire(
  { pid: process.pid, host: 'test', what: 'committer' },
  600_000,
);

if (mode === 'hang') {
  const other = new DatabaseSync(`${directory}/state.sqlite`);
  other.exec('BEGIN IMMEDIATE');
  other.exec("INSERT INTO cache (key, digest, value) VALUES ('unfinished', '', '')");
  process.stdout.write('ready\n');
  // The parent ends this process; the timer only keeps it alive until then.
  await new Promise((resolve) => setTimeout(resolve, 600_000));
}
if (mode === 'own') process.stdout.write('ready\n');

// Several writers, so that the kill also falls into grouped commits.
await Promise.all(
  [0, 1, 2].map(async (writer) => {
    for (let version = 0; ; version++) {
      const row = rotationRow(`r${writer}`, {
        data: { version, filler: 'x'.repeat(version % 900) },
      });
      await journal.commit({
        fence,
        rotations: [{ expectVersion: version, row }],
        audit: [auditEvent('step', { writer, version })],
      });
      process.stdout.write(`${writer} ${version + 1}\n`);
      if (mode === 'own') await new Promise((resolve) => setTimeout(resolve, 600_000));
    }
  }),
);
