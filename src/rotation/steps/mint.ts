/** minting → minted: one credential for each member, sealed and journalled before anything else happens to it. */
import { asRotatedError, RotatedError } from '../../errors.ts';
import type { Minted, MintRequest, ProviderSession } from '../../provider/provider.ts';
import type { Fields } from '../../secret/secret.ts';
import { fieldsEqual } from '../../secret/secret.ts';
import { decideLeftovers, decideReconciliation } from '../checks.ts';
import type { Context, StepResult } from '../context.ts';
import { commit, effect, moveTo, withData, withSession } from '../context.ts';
import { readOwn } from '../current.ts';
import { payOwn } from '../debts.ts';
import { asKept, toItem } from '../fields.ts';
import type { Intent, Member, Rotation } from '../model.ts';
import { sealIdOf } from '../model.ts';
import { openSeal } from '../seals.ts';
import type { Draft } from '../store.ts';
import { intentKey, listAll } from './intend.ts';

export async function mint(context: Context, before: Rotation): Promise<StepResult> {
  const rotation = before.data.mode === 'contain' ? await containFirst(context, before) : before;
  const member = rotation.data.members.find((one) => one.minted === null);
  if (member === undefined) return moveTo(context, rotation, 'minted');
  if (rotation.data.handIn?.includes(member.secret) === true) {
    throw new RotatedError(
      'needs-person',
      `A person hands in the credential of ${member.secret}.`,
      {
        secret: member.secret,
        next: `rotate supply ${member.secret}`,
      },
    );
  }
  const intent = intentOf(member);
  const key = intentKey(rotation.id, member);
  if (!context.freshIntents.has(key)) {
    const reconciled = await reconcile(context, rotation, member, intent);
    if (reconciled !== null) return reconciled;
  }
  // From here on the outcome is unknown until the answer is sealed.
  context.freshIntents.delete(key);
  const minted = await withSession(context, member.policy, async (session) => {
    const request = await mintRequest(context, rotation, member, intent);
    try {
      return await effect(context, 'mint', () => session.mint(request, context.signal));
    } catch (error) {
      // Nothing came of it, so the next try need not ask the issuer first.
      if (asRotatedError(error, 'unknown').effect === 'none') context.freshIntents.add(key);
      throw error;
    }
  });
  return record(context, rotation, member, intent, minted);
}

/** The leaked credential ends before its successor exists. What fails here stays a debt. */
async function containFirst(context: Context, rotation: Rotation): Promise<Rotation> {
  await payOwn(context, rotation);
  // A payment notes on the rotation when the credential died.
  return (await context.store.rotation(rotation.id)) ?? rotation;
}

/** The first act on the answer is a sealed, durable entry. */
export async function record(
  context: Context,
  rotation: Rotation,
  member: Member,
  intent: Intent,
  minted: Minted,
): Promise<StepResult> {
  const { ports } = context;
  const { secret, policy } = member;
  const sealed = await ports.sealer.seal(
    minted.fields,
    { secret, rotation: rotation.id, purpose: 'new' },
    intent.dataKey,
  );
  const sealId = sealIdOf(rotation.id, secret, 'new');
  const known = {
    ref: minted.ref,
    generation: member.generation,
    fingerprint: ports.fingerprints.of(keptOrAll(policy, minted.fields)),
    sealedBy: rotation.id,
    sealId,
    scopes: minted.scopes,
    owner: minted.owner,
    expiresAt: minted.expiresAt,
  };
  const members = rotation.data.members.map((one) =>
    one.secret === secret ? { ...one, minted: known } : one,
  );
  const extra: Draft = {
    seals: [{ id: sealId, secret, rotation: rotation.id, sealed }],
    removeSeals: intent.preparedRef === null ? [] : [sealIdOf(rotation.id, secret, 'prepared')],
  };
  const done = members.every((one) => one.minted !== null);
  if (done) return moveTo(context, rotation, 'minted', { members }, extra);
  return commit(context, withData(rotation, { members, attempts: 0, lastError: null }), extra);
}

/** A mapping that does not fit is found in the next step, with the credential already safe under its seal. */
function keptOrAll(policy: Member['policy'], fields: Fields): Fields {
  try {
    return asKept(policy, fields);
  } catch {
    return fields;
  }
}

async function mintRequest(
  context: Context,
  rotation: Rotation,
  member: Member,
  intent: Intent,
): Promise<MintRequest> {
  const { secret, policy, previous } = member;
  const served = await readOwn(context, policy, 'current');
  const preparedFields =
    intent.preparedRef === null
      ? null
      : await openSeal(
          context,
          secret,
          rotation.id,
          'prepared',
          sealIdOf(rotation.id, secret, 'prepared'),
        );
  return {
    secret,
    rotation: rotation.id,
    generation: member.generation,
    current: served === null ? null : { ref: previous?.ref ?? null, fields: served.fields },
    name: intent.name,
    idempotencyToken: intent.idempotencyToken,
    inventory: intent.inventory,
    prepared:
      intent.preparedRef === null || preparedFields === null
        ? null
        : { ref: intent.preparedRef, fields: preparedFields },
    predecessor:
      previous === null
        ? null
        : { scopes: previous.scopes, owner: previous.owner, expiresAt: previous.expiresAt },
  };
}

/** Finds out what an unanswered mint did. null: nothing stands in the way of minting now. */
async function reconcile(
  context: Context,
  rotation: Rotation,
  member: Member,
  intent: Intent,
): Promise<StepResult | null> {
  const { ports, store, signal } = context;
  const { traits } = ports.provider(member.policy);
  const decision = decideReconciliation(traits);
  if (decision.kind === 'repeat') return null;
  if (decision.kind === 'park' || !traits.capabilities.list) {
    throw new RotatedError(
      'mint-blind',
      'A mint was sent and its answer was lost; this issuer cannot be asked what came of it.',
      {
        secret: member.secret,
        next: `Look at the issuer for a credential made at ${new Date(rotation.startedAt).toISOString()} or later and delete it there; then 'rotate resume ${member.secret}' mints another.`,
      },
    );
  }
  return withSession(context, member.policy, async (session) => {
    const uptimeMs = await store.journal.uptimeMs();
    const settleUntil = intent.settleUntilUptimeMs;
    const settled = settleUntil !== null && uptimeMs >= settleUntil;
    const leftovers = decideLeftovers({
      traits,
      intent,
      listed: await listAll(session, signal),
      settled,
    });
    switch (leftovers.kind) {
      case 'delete':
        await endLeftovers(context, session, leftovers.refs);
        return nextAttempt(context, rotation, member, intent);
      case 'settle': {
        const until = settleUntil ?? uptimeMs + traits.limits.settleSeconds * 1_000;
        if (settleUntil !== null || until > uptimeMs) {
          const waiting = withIntent(rotation, member, { ...intent, settleUntilUptimeMs: until });
          if (settleUntil === null) return commit(context, waiting);
          return {
            kind: 'wait',
            untilUptimeMs: until,
            waitsFor: 'the issuer to show what the lost mint did',
          };
        }
        return nextAttempt(context, rotation, member, intent);
      }
      case 'none':
        return nextAttempt(context, rotation, member, intent);
      case 'unattributable':
        throw new RotatedError(
          'mint-blind',
          `Since the mint whose answer was lost, ${leftovers.refs.length} credential(s) appeared at the issuer that carry no name of ours.`,
          {
            secret: member.secret,
            next: `Look at ${leftovers.refs.join(', ')} at the issuer, delete what nobody uses, then 'rotate resume ${member.secret}' mints another.`,
          },
        );
      default:
        return leftovers satisfies never;
    }
  });
}

async function endLeftovers(
  context: Context,
  session: ProviderSession,
  refs: readonly string[],
): Promise<void> {
  for (const ref of refs)
    await effect(context, 'revoke-leftover', () => session.revoke(ref, context.signal));
}

/** A new mint gets a name of its own, so that a late answer to the old one can be told from it. */
export async function nextAttempt(
  context: Context,
  rotation: Rotation,
  member: Member,
  intent: Intent,
  extra: Draft = {},
): Promise<StepResult> {
  const attempt = intent.attempt + 1;
  const next: Intent = {
    ...intent,
    attempt,
    name: `${intent.namePrefix}${attempt}`,
    settleUntilUptimeMs: null,
  };
  const moved = await commit(context, withIntent(rotation, member, next), extra);
  context.freshIntents.add(intentKey(rotation.id, { ...member, intent: next }));
  return moved;
}

function withIntent(rotation: Rotation, member: Member, intent: Intent): Rotation {
  const members = rotation.data.members.map((one) =>
    one.secret === member.secret ? { ...one, intent } : one,
  );
  return withData(rotation, { members });
}

function intentOf(member: Member): Intent {
  if (member.intent === null)
    throw new RotatedError('unexpected', `No mint of ${member.secret} was intended.`);
  return member.intent;
}

/** The machine's own check of an answer: a key that did not change, or that the item cannot hold, is a failed mint. */
export async function assertUsable(
  context: Context,
  rotation: Rotation,
  member: Member,
): Promise<void> {
  const fields = await openSeal(
    context,
    member.secret,
    rotation.id,
    'new',
    sealIdOf(rotation.id, member.secret, 'new'),
  );
  toItem(member.policy, fields);
  const served = await readOwn(context, member.policy, 'current');
  if (
    served !== null &&
    fieldsEqual(asKept(member.policy, fields), asKept(member.policy, served.fields))
  ) {
    throw new RotatedError(
      'verify-failed',
      'The issuer answered with the credential that is already in use.',
      {
        secret: member.secret,
        next: 'Check the provider: its mint must create a new credential.',
      },
    );
  }
}
