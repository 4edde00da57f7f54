/** Opening what the journal keeps sealed. */
import { RotatedError } from '../errors.ts';
import type { Fields } from '../secret/secret.ts';
import type { Context } from './context.ts';
import type { Known } from './model.ts';

export async function openSeal(
  context: Context,
  secret: string,
  rotation: string,
  purpose: string,
  id: string,
): Promise<Fields> {
  const sealed = await context.store.journal.sealed(id);
  if (sealed === null) {
    throw new RotatedError(
      'escrow-missing',
      `The sealed ${purpose} credential of rotation ${rotation} is not in the journal.`,
      {
        secret,
        next: 'Restore the state directory from its newest backup.',
      },
    );
  }
  return context.ports.sealer.open(sealed, { secret, rotation, purpose }, context.signal);
}

/** The value of a credential the machine knows of; null where no sealed copy is kept. */
export async function openKnown(
  context: Context,
  secret: string,
  known: Known,
): Promise<Fields | null> {
  if (known.sealId === null) return null;
  const purpose = known.sealId.slice(known.sealId.lastIndexOf(':') + 1);
  const sealed = await context.store.journal.sealed(known.sealId);
  if (sealed === null) return null;
  return context.ports.sealer.open(
    sealed,
    { secret, rotation: known.sealedBy, purpose },
    context.signal,
  );
}
