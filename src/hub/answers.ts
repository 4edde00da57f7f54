/** What a granted server is answered: its values, one read of the backend for each item, and the generations they are of. */
import type { ItemVersion } from '../backend/backend.ts';
import { RotatedError } from '../errors.ts';
import type { Asker } from '../gate/feed/protocol.ts';
import type { Secret } from '../secret/secret.ts';
import type { Grants } from './grants.ts';
import type { Answer } from './hub.ts';
import type { Meaning } from './references.ts';

/** null where nothing stands there. */
export type ReadCurrent = (
  scheme: string,
  item: string,
  signal: AbortSignal,
) => Promise<ItemVersion | null>;

export async function answerTo(
  asker: Asker,
  grants: Pick<Grants, 'check'>,
  readCurrent: ReadCurrent,
  signal: AbortSignal,
): Promise<Answer> {
  const meanings = await grants.check(asker);
  const items = new Map<string, Promise<ItemVersion | null>>();
  const read = ({ scheme, item }: Meaning) => {
    const key = `${scheme}://${item}`;
    const reading = items.get(key) ?? readCurrent(scheme, item, signal);
    items.set(key, reading);
    return reading;
  };
  const found = await Promise.all(
    meanings.map(async (meaning) => {
      const version = await read(meaning);
      if (version === null) throw nothingThere(meaning);
      return { version, meaning };
    }),
  );
  const generations: Record<string, number> = {};
  for (const { version, meaning } of found) {
    for (const { name } of meaning.secrets) {
      // A value that stood there before the first rotation is generation 0.
      generations[name] = version.owners[name]?.generation ?? 0;
    }
  }
  return { values: found.map(({ version, meaning }) => valueOf(version, meaning)), generations };
}

function valueOf({ fields }: ItemVersion, { reference, field }: Meaning): Secret {
  const names = Object.keys(fields);
  const name = field ?? (names.length === 1 ? names[0] : undefined);
  if (name === undefined) {
    throw new RotatedError(
      'policy-invalid',
      `${reference} has ${names.length} fields, and a server gets one of them.`,
      { next: `Name it: ${names.map((one) => `${reference}#${one}`).join(', ')}` },
    );
  }
  const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (value !== undefined) return value;
  throw new RotatedError('not-found', `${reference} has no field ${name}.`, {
    next: `Its fields: ${names.join(', ')}.`,
  });
}

function nothingThere({ reference, scheme, item, secrets }: Meaning): RotatedError {
  const [owner] = secrets;
  return new RotatedError('not-found', `Nothing stands behind ${reference}.`, {
    next:
      owner === undefined
        ? `Write a policy whose backend is ${scheme}://${item}: rotate import does so.`
        : `Let it be made: rotate run ${owner.name}, or rotate supply ${owner.name}.`,
  });
}
