/** verified → promoted: pending becomes current; from here on the new credential is the one that must not be lost. */
import { isRotatedError } from '../../errors.ts';
import type { Context, StepResult } from '../context.ts';
import { backendOf, effect, moveTo } from '../context.ts';
import { describe } from '../current.ts';
import type { Member, Rotation, SecretState } from '../model.ts';
import { dueAfter } from '../due.ts';
import type { Draft } from '../store.ts';
import { byItem, restage } from './stage.ts';

export async function promote(context: Context, rotation: Rotation): Promise<StepResult> {
  const members: Member[] = [];
  for (const group of byItem(rotation.data.members)) {
    try {
      members.push(...(await promoteItem(context, group)));
    } catch (error) {
      // Nothing of this rotation is promoted yet: stage again. Else the rest must follow, whatever it takes.
      if (isRotatedError(error, 'conflict') && members.length === 0)
        return restage(context, rotation, error);
      throw error;
    }
  }
  members.sort((a, b) => (a.secret < b.secret ? -1 : 1));
  return moveTo(
    context,
    rotation,
    'promoted',
    { members },
    await promotedFacts(context, rotation, members),
  );
}

async function promoteItem(
  context: Context,
  group: readonly [Member, ...Member[]],
): Promise<Member[]> {
  const { policy, staged } = group[0];
  if (staged === null) return [...group];
  const { txn, expectCurrent, version: pending } = staged;
  const before = await describe(context, policy);
  const isDone = before.current?.txn === txn;
  const version = isDone
    ? pending
    : await effect(context, 'promote', () =>
        backendOf(context, policy).promote(
          policy.backend.item,
          { txn, expectCurrent, pending },
          context.signal,
        ),
      );
  return group.map((member) => ({ ...member, promoted: { version, replaced: expectCurrent } }));
}

/** The generation, what is current now, the end of the item lock: one transaction with the phase. */
async function promotedFacts(
  context: Context,
  rotation: Rotation,
  members: readonly Member[],
): Promise<Draft> {
  const now = context.ports.clock.now();
  const secrets: SecretState[] = [];
  const removeSeals: string[] = [];
  for (const member of members) {
    const state = await context.store.secret(member.secret);
    if (state === null || member.minted === null) continue;
    const before = state.data.current;
    // The predecessor has a seal of this rotation; its escrow is not needed twice.
    if (
      before?.sealId != null &&
      member.previous?.fingerprint === before.fingerprint &&
      before.sealId !== member.previous.sealId
    ) {
      removeSeals.push(before.sealId);
    }
    const promoted: SecretState = {
      ...state,
      generation: member.generation,
      data: {
        ...state.data,
        lost: false,
        current: { ...member.minted, since: now, version: member.promoted?.version ?? null },
      },
    };
    secrets.push({ ...promoted, dueAt: dueAfter(context, promoted) });
  }
  return { secrets, removeSeals, releaseLocksOf: [rotation.id] };
}
