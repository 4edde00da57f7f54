/** minted → staged: the new credential beside the current one in the backend, seen by nobody yet. */
import type { OwnerNote } from '../../backend/backend.ts';
import { isRotatedError, RotatedError } from '../../errors.ts';
import type { Fields } from '../../secret/secret.ts';
import { rightsDiffer } from '../checks.ts';
import type { Context, StepResult } from '../context.ts';
import { backendOf, commit, effect, inOrder, moveTo, phaseMark, withData } from '../context.ts';
import { describe } from '../current.ts';
import { toItem } from '../fields.ts';
import type { Member, Rotation } from '../model.ts';
import { itemOf, sealIdOf } from '../model.ts';
import { openSeal } from '../seals.ts';
import { assertUsable } from './mint.ts';

export async function stage(context: Context, rotation: Rotation): Promise<StepResult> {
  for (const member of rotation.data.members) {
    await assertUsable(context, rotation, member);
    assertRights(rotation, member);
  }
  if (rotation.data.members.some((member) => member.base === null))
    return lockAndLook(context, rotation);
  const members: Member[] = [];
  try {
    for (const group of byItem(rotation.data.members)) {
      members.push(...(await stageItem(context, rotation, group)));
    }
  } catch (error) {
    return restage(context, rotation, error);
  }
  members.sort((a, b) => (a.secret < b.secret ? -1 : 1));
  return moveTo(context, rotation, 'staged', { members });
}

/** The locks, and what is current under them, before the first write. */
async function lockAndLook(context: Context, rotation: Rotation): Promise<StepResult> {
  const locked = await lockItems(context, rotation);
  if (locked !== null) return locked;
  const members: Member[] = [];
  for (const member of rotation.data.members) {
    const { current } = await describe(context, member.policy);
    members.push({ ...member, base: { version: current?.version ?? null } });
  }
  return commit(context, withData(rotation, { members }));
}

/** Members that are fields of one item are written to it at once. */
export function byItem(members: readonly Member[]): readonly (readonly [Member, ...Member[]])[] {
  const groups = new Map<string, [Member, ...Member[]]>();
  for (const member of members) {
    const group = groups.get(itemOf(member.policy));
    if (group === undefined) groups.set(itemOf(member.policy), [member]);
    else group.push(member);
  }
  return [...groups.values()];
}

/** All locks in one transaction, or none: two groups never wait for each other. */
export async function lockItems(context: Context, rotation: Rotation): Promise<StepResult | null> {
  const items = [...new Set(rotation.data.members.map((member) => itemOf(member.policy)))].sort();
  const holders = await Promise.all(items.map((item) => context.store.journal.lockOf(item)));
  if (holders.every((holder) => holder === rotation.id)) return null;
  const missing = items.filter((_, index) => holders[index] !== rotation.id);
  return commit(context, rotation, {
    takeLocks: missing.map((item) => ({ item, rotation: rotation.id })),
  });
}

export function noteOf(
  member: Member,
  rotation: Rotation,
  generation: number,
  ref: string | null,
  itemFields: Fields,
): OwnerNote {
  return {
    secret: member.secret,
    generation,
    ref,
    rotation: rotation.id,
    fields: Object.keys(itemFields).sort(),
  };
}

async function stageItem(
  context: Context,
  rotation: Rotation,
  group: readonly [Member, ...Member[]],
): Promise<Member[]> {
  const { policy } = group[0];
  const txn = txnOf(rotation);
  const notes: OwnerNote[] = [];
  let fields: Fields = {};
  for (const member of group) {
    const own = toItem(
      member.policy,
      await openSeal(
        context,
        member.secret,
        rotation.id,
        'new',
        sealIdOf(rotation.id, member.secret, 'new'),
      ),
    );
    fields = { ...fields, ...own };
    notes.push(noteOf(member, rotation, member.generation, member.minted?.ref ?? null, own));
  }
  const expectCurrent = group[0].base?.version ?? null;
  const version = await effect(context, 'stage', () =>
    backendOf(context, policy).stage(
      policy.backend.item,
      fields,
      notes,
      { txn, expectCurrent },
      context.signal,
    ),
  );
  return group.map((member) => ({ ...member, staged: { txn, version, expectCurrent } }));
}

function assertRights(rotation: Rotation, member: Member): void {
  if (member.minted === null) return;
  const difference = rightsDiffer(
    member.previous,
    member.minted,
    phaseMark(rotation, 'minting').at,
  );
  if (difference === null) return;
  throw new RotatedError(
    'rights-differ',
    `The new credential of ${member.secret} is not the equal of its predecessor: ${difference}.`,
    {
      secret: member.secret,
      next: 'Give the admin credential the same rights to grant, or change the old credential first if the change is meant.',
    },
  );
}

/** One transaction for each staging: what is staged again is another write. */
export function txnOf(rotation: Rotation): string {
  return `${rotation.id}-${rotation.data.stagings}`;
}

/** Whoever keeps changing the item faster than it can be staged is a failure to be counted, not a reason to go on for ever. */
const stagingsMost = 20;

/**
 * Something else moved current since we looked: what was staged onto it would bring the neighbours' older values back. Drop it
 * and stage again onto what is current now, under a transaction of its own.
 */
export async function restage(
  context: Context,
  rotation: Rotation,
  error: unknown,
): Promise<StepResult> {
  const isTooOften = rotation.data.stagings >= stagingsMost;
  if (!isRotatedError(error, 'conflict') || isTooOften) throw error;
  const txn = txnOf(rotation);
  await inOrder(byItem(rotation.data.members), ([{ policy }]) =>
    effect(context, 'discard', () =>
      backendOf(context, policy).discard(policy.backend.item, txn, context.signal),
    ),
  );
  const members = rotation.data.members.map((member) => ({ ...member, staged: null, base: null }));
  const again = withData(rotation, { stagings: rotation.data.stagings + 1, members });
  return moveTo(context, again, 'minted');
}
