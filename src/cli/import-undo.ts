/** The way back of an import: each config as it was, from its sealed copy. */
import { configBytesMax } from '../import/config-file.ts';
import { type Copies, digestOf } from '../import/copies.ts';
import { readWhole, replaceFile } from '../import/replace-file.ts';
import { asRotatedError, RotatedError } from '../errors.ts';
import type { Service } from '../rotation/service.ts';
import type { Io } from './io.ts';

export interface Undone {
  readonly file: string;
  readonly outcome: 'restored' | 'as-it-was' | 'failed';
  /** What was moved out of it, and still lies in the backend. */
  readonly references: readonly string[];
  readonly error: RotatedError | null;
}

export async function undoAll(
  files: readonly string[],
  copies: Copies,
  service: Pick<Service, 'status'>,
  { io, force }: { readonly io: Pick<Io, 'random'>; readonly force: boolean },
): Promise<readonly Undone[]> {
  const undone: Undone[] = [];
  for (const file of files) {
    try {
      undone.push(await undoOne(file, copies, service, io, force));
    } catch (thrown) {
      const error = asRotatedError(thrown, 'none');
      undone.push({ file, outcome: 'failed', references: [], error });
    }
  }
  return undone;
}

async function undoOne(
  file: string,
  copies: Copies,
  service: Pick<Service, 'status'>,
  { random }: Pick<Io, 'random'>,
  force: boolean,
): Promise<Undone> {
  const read = await readWhole(file, configBytesMax);
  const newest = await copies.newest(read.real);
  if (newest === null) {
    throw new RotatedError('not-found', `No import of ${file} is left to undo.`, {
      next: 'Name the file as it was imported, and the same --state.',
    });
  }
  const { id, copy } = newest;
  const { references } = copy;
  if (read.bytes.equals(copy.before)) {
    copies.remove(id);
    return { file, outcome: 'as-it-was', references, error: null };
  }
  if (!force) {
    if (digestOf(read.bytes) !== copy.afterDigest) {
      throw new RotatedError('refused', `${file} was edited since the import.`, {
        next: 'Its edits would be lost. If that is meant: run this again with --force.',
      });
    }
    await refuseReplaced(references, service);
  }
  await replaceFile(read, copy.before, random);
  copies.remove(id);
  return { file, outcome: 'restored', references, error: null };
}

/** The config as it was holds a key that has been replaced, and is dead or soon will be. */
async function refuseReplaced(
  references: readonly string[],
  service: Pick<Service, 'status'>,
): Promise<void> {
  const items = new Set(references.map((reference) => reference.split('#')[0]));
  const selector = { names: [], tags: [], providers: [], consumers: [], all: true };
  const { secrets } = await service.status(selector);
  const replaced = secrets.filter(
    ({ backend, generation }) => items.has(backend) && generation > 0,
  );
  const [first] = replaced;
  if (first === undefined) return;
  throw new RotatedError(
    'refused',
    `${replaced.map(({ secret }) => secret).join(', ')} was rotated since: the config as it was holds the replaced key.`,
    {
      secret: first.secret,
      next: 'Put the present key into the config by hand: rotate read. Or undo all the same: --force.',
    },
  );
}
