/** What stood in plaintext in a client's config, taken into the local backend: generation 0, there before the first rotation. */
import type { ItemState } from '../../backend/backend.ts';
import { isRotatedError } from '../../errors.ts';
import type { Policy } from '../../policy/policy.ts';
import type { Fields } from '../../secret/secret.ts';
import type { Context } from '../context.ts';
import { backendOf, effect } from '../context.ts';
import type { Ask, Kept } from '../service.ts';
import { auditEvent } from '../store.ts';

/** Never over another value. `look`: only says what it would do. */
export async function keep(
  context: Context,
  item: string,
  fields: Fields,
  look: boolean,
  ask: Ask,
): Promise<Kept> {
  const { signal, ports } = context;
  const backend = backendOf(context, placeOf(item));
  const state = await backend.describe(item, signal);
  const txn = `keep ${item}`;
  const before = await compared(context, item, state, fields, txn);
  if (before !== 'new' || look) return before;
  // Another writer between here and the promote makes that one fail: nothing is written over it.
  const write = { txn, expectCurrent: null };
  const detail = { item: `local://${item}`, fingerprint: ports.fingerprints.of(fields) };
  await note(context, ask, 'intended', detail);
  if (state.pending !== null)
    await effect(context, 'keep', () => backend.discard(item, txn, signal));
  const pending = await effect(context, 'keep', () =>
    // No owner is noted: what no rotation wrote is generation 0.
    backend.stage(item, fields, [], write, signal),
  );
  await effect(context, 'keep', () => backend.promote(item, { ...write, pending }, signal));
  await note(context, ask, 'done', detail);
  return 'new';
}

async function compared(
  context: Context,
  item: string,
  { current, pending }: ItemState,
  fields: Fields,
  txn: string,
): Promise<Kept> {
  // What an import that was cut off left pending is its own to write again.
  if (current === null) return pending === null || pending.txn === txn ? 'new' : 'taken';
  try {
    const held = await backendOf(context, placeOf(item)).read(item, 'current', context.signal);
    const isSame = Object.entries(fields).every(([name, value]) =>
      held.fields[name]?.equals(value),
    );
    return isSame ? 'same' : 'taken';
  } catch (error) {
    if (isRotatedError(error, 'not-found')) return 'taken';
    throw error;
  }
}

async function note(
  { ports, store }: Context,
  ask: Ask,
  outcome: 'intended' | 'done',
  detail: { item: string; fingerprint: string },
): Promise<void> {
  const subject = { secret: null, rotation: null, ...ask };
  await store.write({
    audit: [auditEvent(ports.clock.now(), subject, 'import.keep', outcome, detail)],
  });
}

/** No policy names it yet. */
function placeOf(item: string): Pick<Policy, 'backend'> {
  return { backend: { scheme: 'local', item, fields: null } };
}
