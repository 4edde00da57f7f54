/** Copies of the audit trail in files: read line by line, held against the deployment's key, and against its state. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { createAuditChain } from '../audit/chain.ts';
import { checkpointKey } from '../audit/checkpoint.ts';
import { compareCopy, type CopyAnswer, type ReadCopy, verifyCopy } from '../audit/copy.ts';
import type { Clock } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import { openSqliteJournal } from '../journal/sqlite.ts';
import type { KeySource } from '../secret/key-sources.ts';

/** What the keys of the audit trail are derived for. */
export const auditPurpose = 'audit';
export const checkpointPurpose = 'audit checkpoints';

/** One copy in one file, or in several that follow one another. */
export function fileLines(paths: readonly string[]): ReadCopy {
  return async function* read() {
    for (const path of paths) {
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        yield* file.readLines({ autoClose: false });
      } finally {
        await file.close();
      }
    }
  };
}

export interface FilesAnswer extends CopyAnswer {
  /** What the state says to it; null where there is no state to ask. */
  readonly state: { readonly newest: number; readonly problem: string | null } | null;
}

export interface FilesOptions {
  readonly key: KeySource;
  /** The state directory to compare with; null: the copy by itself. */
  readonly state: string | null;
  readonly clock: Clock;
}

/** Throws `not-found` where a file cannot be read, and what the key and the state throw. Changes nothing. */
export async function verifyFiles(
  paths: readonly string[],
  { key, state, clock }: FilesOptions,
): Promise<FilesAnswer> {
  const { anchor } = await key.load();
  const chain = createAuditChain(await anchor.derive(auditPurpose));
  const { publicKey } = checkpointKey(await anchor.derive(checkpointPurpose));
  const read = fileLines(paths);
  try {
    const answer = await verifyCopy(read, { chain, publicKey });
    if (state === null) return { ...answer, state: null };
    await using journal = await openSqliteJournal({
      directory: state,
      clock,
      chain,
      readOnly: true,
    });
    const auditLines = (from: number, most: number) => journal.auditLines(from, most);
    const { problem } = await compareCopy(read, { auditLines, publicKey, acknowledged: 0 });
    return { ...answer, state: { newest: (await journal.auditHead())?.seq ?? 0, problem } };
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (error instanceof RotatedError || path === undefined) throw error;
    throw new RotatedError('not-found', `${path} cannot be read (${code ?? 'unknown'}).`, {
      next: 'Name the files of the copy, the oldest first: --file COPY.',
    });
  }
}
