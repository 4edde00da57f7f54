/** What every backend must do, as vitest cases: `local` now, outside ones later against their real servers. */
import { edgesContract } from './contract-edges.ts';
import type { BackendSubject } from './contract-support.ts';
import { writesContract } from './contract-writes.ts';

export type { BackendSubject } from './contract-support.ts';

/** Registers the cases; call it at the top of a test file. */
export function backendContract(subject: BackendSubject): void {
  writesContract(subject);
  edgesContract(subject);
}
