/** The item itself: written back from the escrow after a loss, or read by a person, audited. */
import type { VersionId } from '../../backend/backend.ts';
import { RotatedError } from '../../errors.ts';
import type { Policy } from '../../policy/policy.ts';
import type { Fields } from '../../secret/secret.ts';
import type { Context } from '../context.ts';
import { backendOf, effect } from '../context.ts';
import { describe, readOwn } from '../current.ts';
import { dueAfter } from '../due.ts';
import { asKept, fromItem, toItem } from '../fields.ts';
import type { Known, SecretState } from '../model.ts';
import { itemOf } from '../model.ts';
import { openKnown } from '../seals.ts';
import type { Ask, Started } from '../service.ts';
import { auditEvent } from '../store.ts';
import { recordRefusal, started } from './outcome.ts';

/** The sealed copy of current, written back to a backend that lost its item. */
export async function restore(
  context: Context,
  policy: Policy,
  state: SecretState,
  ask: Ask,
): Promise<Started> {
  const { ports, store } = context;
  const secret = policy.name;
  const { current } = state.data;
  const fields = current === null ? null : await openKnown(context, secret, current);
  if (current === null || fields === null) {
    throw new RotatedError('escrow-missing', `No sealed copy of ${secret} is kept.`, {
      secret,
      next: `Issue a new credential by hand and hand it in: 'rotate supply ${secret}'.`,
    });
  }
  const served = await readOwn(context, policy, 'current');
  // Written back, and cut off before that was journalled.
  const isBack =
    served !== null &&
    state.data.lost &&
    ports.fingerprints.of(asKept(policy, served.fields)) === current.fingerprint;
  if (served !== null && !isBack) {
    throw new RotatedError('refused', `${itemOf(policy)} still holds ${secret}.`, {
      secret,
      next: `If its value is wrong: 'rotate run ${secret}'.`,
    });
  }
  const version =
    served !== null
      ? served.item.version
      : await writeBack(context, policy, current, toItem(policy, fields), state.generation);
  const next = {
    ...state,
    paused: false,
    data: {
      ...state.data,
      lost: false,
      failures: 0,
      pausedFor: null,
      current: { ...current, version },
    },
  };
  await store.write({
    secrets: [{ ...next, dueAt: dueAfter(context, next) }],
    audit: [
      auditEvent(ports.clock.now(), { secret, rotation: null, ...ask }, 'command.restore', 'done', {
        generation: state.generation,
        fingerprint: current.fingerprint,
      }),
    ],
  });
  return started(
    secret,
    null,
    'done',
    `Generation ${state.generation} is back in ${itemOf(policy)}.`,
  );
}

/** The same transaction each time, so that a repeat after a crash finishes what was begun. */
async function writeBack(
  context: Context,
  policy: Policy,
  current: Known,
  own: Fields,
  generation: number,
): Promise<VersionId> {
  const { signal } = context;
  const { item } = policy.backend;
  const note = {
    secret: policy.name,
    generation,
    ref: current.ref,
    rotation: current.sealedBy,
    fields: Object.keys(own).sort(),
  };
  const txn = `restore-${current.sealedBy}-${generation}`;
  const expectCurrent = (await describe(context, policy)).current?.version ?? null;
  const backend = backendOf(context, policy);
  const pending = await effect(context, 'restore', () =>
    backend.stage(item, own, [note], { txn, expectCurrent }, signal),
  );
  return effect(context, 'restore', () =>
    backend.promote(item, { txn, expectCurrent, pending }, signal),
  );
}

export async function readAudited(
  context: Context,
  policy: Policy,
  stage: 'current' | 'pending' | 'previous',
  ask: Ask,
): Promise<{ generation: number | null; fields: Fields }> {
  const secret = policy.name;
  const served = await readOwn(context, policy, stage);
  if (served === null) {
    const error = new RotatedError(
      'not-found',
      `${itemOf(policy)} holds no ${stage} version of ${secret}.`,
      { secret, next: `'rotate status ${secret}' shows its state.` },
    );
    await recordRefusal(context, 'read', secret, ask, error);
    throw error;
  }
  await context.store.write({
    audit: [
      auditEvent(
        context.ports.clock.now(),
        { secret, rotation: null, ...ask },
        'command.read',
        'done',
        {
          stage,
          fingerprint: context.ports.fingerprints.of(
            fromItem(policy, served.item.fields, served.note) ?? {},
          ),
        },
      ),
    ],
  });
  return { generation: served.note?.generation ?? null, fields: served.itemFields };
}
