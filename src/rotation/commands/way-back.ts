/** Undoing: roll back what was promoted, abandon what was not. */
import { RotatedError } from '../../errors.ts';
import { abandon } from '../abandon.ts';
import type { Context } from '../context.ts';
import { moveTo, withData, withSession } from '../context.ts';
import type { Rotation } from '../model.ts';
import { unpromotedPhases } from '../model.ts';
import { openKnown } from '../seals.ts';
import type { Ask, Started } from '../service.ts';
import { started } from './outcome.ts';

/** Back to the predecessor, while it lives. */
export async function rollBack(
  context: Context,
  secret: string,
  active: Rotation | null,
  ask: Ask,
): Promise<Started> {
  if (active === null)
    throw new RotatedError(
      'not-active',
      `No rotation of ${secret} is under way, so there is nothing to roll back.`,
      { secret, next: `'rotate history ${secret}' shows what was done.` },
    );
  if (unpromotedPhases.has(active.phase)) {
    throw new RotatedError('refused', `The rotation of ${secret} has not promoted anything yet.`, {
      secret,
      next: `'rotate abandon ${secret}' ends it; the credential in use stays.`,
    });
  }
  if (active.phase !== 'promoted' && active.phase !== 'adopted') {
    throw new RotatedError(
      'way-back-closed',
      `The old credential of ${secret} is already being retired.`,
      { secret, next: `'rotate run ${secret}' mints a new one.` },
    );
  }
  for (const member of active.data.members) await assertWayBack(context, member);
  const by = withData(active, {
    actor: ask.actor,
    reason: ask.reason,
    failure: { code: 'asked', message: ask.reason ?? 'rolled back on request' },
  });
  const moved = await moveTo(context, by, 'rolling-back');
  return started(
    secret,
    moved.rotation.id,
    'started',
    `The predecessor of generation ${active.data.members[0]?.generation} becomes current again.`,
  );
}

async function assertWayBack(
  context: Context,
  member: Rotation['data']['members'][number],
): Promise<void> {
  const { secret, previous } = member;
  const state = await context.store.secret(secret);
  const fields = previous === null ? null : await openKnown(context, secret, previous);
  if (previous === null || fields === null) {
    throw new RotatedError('way-back-closed', `${secret} has no predecessor to go back to.`, {
      secret,
      next: `'rotate run ${secret}' mints a new one.`,
    });
  }
  if (previous.generation <= (state?.data.leakedThrough ?? -1)) {
    throw new RotatedError('way-back-closed', `The predecessor of ${secret} was declared leaked.`, {
      secret,
      next: `'rotate run ${secret}' mints a new one.`,
    });
  }
  const verdict = await withSession(context, member.policy, (session) =>
    session.verify({ ref: previous.ref, fields }, context.signal),
  );
  if (!verdict.ok) {
    throw new RotatedError(
      'way-back-closed',
      `The predecessor of ${secret} is no longer accepted: ${verdict.reason}.`,
      { secret, next: `'rotate run ${secret}' mints a new one.` },
    );
  }
}

export async function abandonAsked(
  context: Context,
  secret: string,
  active: Rotation | null,
  ask: Ask,
): Promise<Started> {
  if (active === null)
    throw new RotatedError('not-active', `No rotation of ${secret} is under way.`, {
      secret,
      next: `'rotate status ${secret}' shows what there is.`,
    });
  if (!unpromotedPhases.has(active.phase)) {
    throw new RotatedError('refused', `The new credential of ${secret} is already in use.`, {
      secret,
      next: `'rotate rollback ${secret}' goes back to the old one while it lives.`,
    });
  }
  const by = withData(active, { actor: ask.actor, reason: ask.reason });
  const moved = await abandon(
    context,
    by,
    { code: 'asked', message: ask.reason ?? 'abandoned on request' },
    false,
  );
  return started(
    secret,
    moved.rotation.id,
    'done',
    'The credential in use stays; what was minted is being revoked.',
  );
}
