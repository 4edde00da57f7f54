/** What every journal must do, as vitest cases: sqlite now, PostgreSQL later. */
import { leaseContract } from './contract-lease.ts';
import { questionsContract } from './contract-questions.ts';
import { rowsContract } from './contract-rows.ts';
import type { JournalSubject } from './contract-support.ts';

export type { JournalSubject } from './contract-support.ts';

/** Registers the cases; call it at the top of a test file. Crashes of processes are each store's own tests. */
export function journalContract(subject: JournalSubject): void {
  rowsContract(subject);
  leaseContract(subject);
  questionsContract(subject);
}
