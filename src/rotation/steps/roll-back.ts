/** rolling-back → rolled-back: the predecessor becomes current again under a generation of its own, then the new one ends. */
import type { OwnerNote } from '../../backend/backend.ts';
import { RotatedError } from '../../errors.ts';
import type { Fields } from '../../secret/secret.ts';
import type { Context, StepResult } from '../context.ts';
import { backendOf, commit, effect, moveTo, withData } from '../context.ts';
import { describe } from '../current.ts';
import { revokeDebt } from '../debts.ts';
import { toItem } from '../fields.ts';
import type { Debt, Member, Rotation, SecretState } from '../model.ts';
import { openKnown } from '../seals.ts';
import { adoptRestored } from './adopt.ts';
import { byItem, lockItems, noteOf } from './stage.ts';

export async function rollBack(context: Context, rotation: Rotation): Promise<StepResult> {
  if (rotation.data.members.some((member) => member.restored === null)) {
    const locked = await lockItems(context, rotation);
    return locked ?? restore(context, rotation);
  }
  return adoptRestored(context, rotation, () => finish(context, rotation));
}

async function restore(context: Context, rotation: Rotation): Promise<StepResult> {
  const members: Member[] = [];
  for (const group of byItem(rotation.data.members))
    members.push(...(await restoreItem(context, rotation, group)));
  members.sort((a, b) => (a.secret < b.secret ? -1 : 1));
  const secrets: SecretState[] = [];
  for (const member of members) {
    const state = await context.store.secret(member.secret);
    if (state === null || member.previous === null) continue;
    secrets.push({
      ...state,
      generation: member.generation + 1,
      data: {
        ...state.data,
        current: {
          ...member.previous,
          generation: member.generation + 1,
          since: context.ports.clock.now(),
          version: member.restored?.version ?? null,
        },
      },
    });
  }
  return commit(context, withData(rotation, { members, attempts: 0, lastError: null }), {
    secrets,
    releaseLocksOf: [rotation.id],
  });
}

/** Only own fields, onto what is current now: a neighbour's older value never returns. */
async function restoreItem(
  context: Context,
  rotation: Rotation,
  group: readonly [Member, ...Member[]],
): Promise<Member[]> {
  const { policy } = group[0];
  let fields: Fields = {};
  const notes: OwnerNote[] = [];
  for (const member of group) {
    const own = toItem(member.policy, await previousFields(context, member));
    fields = { ...fields, ...own };
    notes.push(noteOf(member, rotation, member.generation + 1, member.previous?.ref ?? null, own));
  }
  const txn = `${rotation.id}-back`;
  const before = (await describe(context, policy)).current;
  const isDone = before?.txn === txn;
  const version = isDone
    ? before.version
    : await effect(context, 'roll-back', () =>
        backendOf(context, policy).rollback(
          policy.backend.item,
          fields,
          notes,
          { txn, expectCurrent: before?.version ?? null },
          context.signal,
        ),
      );
  return group.map((member) => ({ ...member, restored: { version } }));
}

async function previousFields(context: Context, member: Member): Promise<Fields> {
  const fields =
    member.previous === null ? null : await openKnown(context, member.secret, member.previous);
  if (fields === null) {
    throw new RotatedError(
      'way-back-closed',
      `No sealed predecessor of ${member.secret} is kept.`,
      { secret: member.secret },
    );
  }
  return fields;
}

/** The predecessor keeps its seal: it is current again, and so its escrow. */
async function finish(context: Context, rotation: Rotation): Promise<StepResult> {
  const debts: Debt[] = [];
  const secrets: SecretState[] = [];
  for (const member of rotation.data.members) {
    if (member.minted !== null) {
      debts.push(
        revokeDebt(context.ports, rotation, member, member.minted, {
          version: member.promoted?.version ?? null,
        }),
      );
    }
    const state = await context.store.secret(member.secret);
    if (state === null) continue;
    const error = rotation.data.failure?.message ?? 'rolled back';
    secrets.push({
      ...state,
      data: {
        ...state.data,
        lastResult: { phase: 'rolled-back', at: context.ports.clock.now(), error },
      },
    });
  }
  return moveTo(context, rotation, 'rolled-back', {}, { debts, secrets });
}
