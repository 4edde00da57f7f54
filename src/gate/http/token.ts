/** The token that clients show: made on first run into a file of this account alone. */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Random } from '../../clock.ts';
import { RotatedError } from '../../errors.ts';
import { Secret } from '../../secret/secret.ts';

/** Throws `key-unsafe` where others can read it, `refused` where it cannot be read or made. */
export function gateToken(file: string, random: Random): { token: Secret; isNew: boolean } {
  const made = random.bytes(32).toString('base64url');
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${made}\n`, { mode: 0o600, flag: 'wx' });
    return { token: new Secret(made), isNew: true };
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw unreadable(file, error);
  }
  let text: string;
  try {
    if ((statSync(file).mode & 0o077) !== 0) {
      throw new RotatedError('key-unsafe', `Others can read the gate's token in ${file}.`, {
        next: `Remove it, so that a new one is made: rm ${file}`,
      });
    }
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    if (error instanceof RotatedError) throw error;
    throw unreadable(file, error);
  }
  if (!/^[\w.~+/=-]{16,1024}$/.test(text)) {
    throw new RotatedError('refused', `${file} holds no token of at least 16 characters.`, {
      next: `Remove it, so that a new one is made: rm ${file}`,
    });
  }
  return { token: new Secret(text), isNew: false };
}

function unreadable(file: string, error: unknown): RotatedError {
  return new RotatedError(
    'refused',
    `The gate's token in ${file} cannot be read (${codeOf(error)}).`,
    {
      next: 'Name another file: --token-file FILE.',
    },
  );
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException | null)?.code ?? 'unknown';
}
