/** Who else could change a file that we are about to run: a provider module, a command that a policy names. */
import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { RotatedError } from '../errors.ts';

const othersMayWrite = 0o022;
const sticky = 0o1000;

/**
 * Refuses with `policy-unsafe` a file that another account can write, or replace by writing its folder. Root may: it can
 * do anything anyway. Returns the real path, so that what was checked is what is used. Throws what `stat` throws where
 * there is no such file.
 */
export async function assertOnlyOursToWrite(file: string): Promise<string> {
  const real = await realpath(file);
  for (const place of [real, path.dirname(real)]) {
    const { mode, uid } = await stat(place);
    const ours = process.getuid?.();
    const isForeign = ours !== undefined && uid !== 0 && uid !== ours;
    // In a sticky folder (`/tmp`) others can add files but not replace ours.
    const isOpen = (mode & othersMayWrite) !== 0 && !(place !== real && (mode & sticky) !== 0);
    if (!isForeign && !isOpen) continue;
    throw new RotatedError(
      'policy-unsafe',
      isForeign
        ? `${place} belongs to another account, which could make it run anything.`
        : `${place} can be written by others, who could make it run anything.`,
      { next: isForeign ? `Run 'chown' on ${place}.` : `Run 'chmod go-w ${place}'.` },
    );
  }
  return real;
}
