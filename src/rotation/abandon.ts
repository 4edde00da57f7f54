/** How a rotation ends before its credential was promoted: the old one stays, what came of the new one is owed. */
import type { Context, Moved } from './context.ts';
import { moveTo } from './context.ts';
import { retryAfterFailure } from './due.ts';
import { discardDebt, revokeDebt, sweepDebt } from './debts.ts';
import type { Debt, Member, Rotation, SecretState } from './model.ts';
import { sealIdOf } from './model.ts';
import { txnOf } from './steps/stage.ts';

export interface Cause {
  readonly code: string;
  readonly message: string;
}

/** `failed`: counts towards the pause. A person who abandons does not make it fail. */
export async function abandon(
  context: Context,
  rotation: Rotation,
  cause: Cause,
  failed: boolean,
): Promise<Moved> {
  const debts: Debt[] = [];
  const secrets: SecretState[] = [];
  const removeSeals: string[] = [];
  for (const member of rotation.data.members) {
    const state = await context.store.secret(member.secret);
    debts.push(
      ...debtsOf(context, rotation, member),
      ...inheritedDebts(context, rotation, member, state),
    );
    if (isUntouched(context, rotation, member))
      removeSeals.push(sealIdOf(rotation.id, member.secret, 'prepared'));
    // A contained predecessor is still to be proven dead, and a roll back leads to no other: its seal goes with its debt.
    if (rotation.data.mode !== 'contain')
      removeSeals.push(sealIdOf(rotation.id, member.secret, 'old'));
    if (state === null) continue;
    const unfailed = { ...state, data: { ...state.data, lastResult: lastResult(context, cause) } };
    secrets.push(failed ? failedState(context, rotation, member, state, cause) : unfailed);
  }
  for (const state of secrets.filter((one) => one.paused)) tellPaused(context, rotation, state);
  return moveTo(
    context,
    rotation,
    'abandoned',
    { failure: cause },
    { debts, secrets, removeSeals, releaseLocksOf: [rotation.id] },
  );
}

/** What an ended rotation left to this one to revoke, and what nobody else remembers. */
function inheritedDebts(
  context: Context,
  rotation: Rotation,
  member: Member,
  state: SecretState | null,
): Debt[] {
  return member.olds
    .filter(
      (old) => old.sealedBy !== rotation.id && old.fingerprint !== state?.data.current?.fingerprint,
    )
    .map((old) => revokeDebt(context.ports, rotation, member, old));
}

function debtsOf(context: Context, rotation: Rotation, member: Member): Debt[] {
  const debts: Debt[] = [];
  if (member.staged !== null)
    debts.push(discardDebt(context.ports, rotation, member, member.staged.txn));
  // The lock is taken right before staging: a stage of unknown outcome carries the transaction that comes next.
  else if (rotation.phase === 'minted')
    debts.push(discardDebt(context.ports, rotation, member, txnOf(rotation)));
  if (member.minted !== null)
    debts.push(revokeDebt(context.ports, rotation, member, member.minted));
  const mayHaveMinted =
    member.intent !== null && (member.minted === null || member.intent.attempt > 1);
  if (mayHaveMinted && member.intent !== null && !isUntouched(context, rotation, member)) {
    debts.push(sweepDebt(context.ports, rotation, member, member.intent, null));
  }
  return debts;
}

/** The intent was journalled by this process and no mint was sent: nothing can be left at the issuer. */
function isUntouched(context: Context, rotation: Rotation, member: Member): boolean {
  return (
    member.minted === null &&
    member.intent?.attempt === 1 &&
    context.freshIntents.has(`${rotation.id}:${member.secret}:1`)
  );
}

function failedState(
  context: Context,
  rotation: Rotation,
  member: Member,
  before: SecretState,
  cause: Cause,
): SecretState {
  const state =
    rotation.data.kind === 'scheduled'
      ? { ...before, dueAt: retryAfterFailure(context, before) }
      : before;
  const failures = state.data.failures + 1;
  const isLost = cause.code === 'item-lost';
  const pauses = !state.paused && (isLost || failures >= member.policy.failure.pauseAfter);
  const now = context.ports.clock.now();
  return {
    ...state,
    paused: state.paused || pauses,
    data: {
      ...state.data,
      failures,
      lost: state.data.lost || isLost,
      lastResult: lastResult(context, cause),
      pausedFor: pauses
        ? {
            reason: isLost
              ? `the backend lost the item; 'rotate restore ${member.secret}' writes it back`
              : `${failures} rotations in a row failed: ${cause.message}`,
            since: now,
            actor: rotation.data.actor,
          }
        : state.data.pausedFor,
    },
  };
}

function lastResult(context: Context, cause: Cause): SecretState['data']['lastResult'] {
  return { phase: 'abandoned', at: context.ports.clock.now(), error: cause.message };
}

function tellPaused(context: Context, rotation: Rotation, state: SecretState): void {
  const member = rotation.data.members.find((one) => one.secret === state.name);
  if (member === undefined || state.data.pausedFor === null) return;
  context.ports.notify(member.policy, {
    secret: state.name,
    rotation: rotation.id,
    level: 'alert',
    event: 'secret.paused',
    message: `The schedule is paused: ${state.data.pausedFor.reason}`,
    next: `Mend the cause, then 'rotate resume ${state.name}'.`,
  });
}
