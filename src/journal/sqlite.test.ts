/** The sqlite journal against the contract, on disk and in memory. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuditChain } from '../audit/chain.ts';
import { journalContract } from './contract.ts';
import { memoryState, noProcesses, openSqliteJournal } from './sqlite.ts';

const chain = createAuditChain(Buffer.alloc(32, 7));

journalContract({
  name: 'sqlite on disk',
  async create() {
    const directory = await mkdtemp(join(tmpdir(), 'rotated-journal-'));
    return {
      open: (clock) => openSqliteJournal({ directory, clock, chain, processes: noProcesses }),
      [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
    };
  },
});

journalContract({
  name: 'sqlite in memory',
  async create() {
    const state = memoryState();
    return {
      open: (clock) => openSqliteJournal({ directory: state, clock, chain }),
      [Symbol.asyncDispose]: async () => state.database.close(),
    };
  },
});
