/** adopted → retiring → retired: the grace, the point of no return, the end of the old credential. */
import type { Context, StepResult } from '../context.ts';
import { backendOf, effect, moveTo, phaseMark, withSession } from '../context.ts';
import type { Waiting } from '../checks.ts';
import { decideQuiet } from '../checks.ts';
import { payOwn, revokeDebt, sweepDebt } from '../debts.ts';
import { readOwn } from '../current.ts';
import type { Debt, Known, Member, Rotation, SecretState } from '../model.ts';
import { itemOf } from '../model.ts';
import { openKnown } from '../seals.ts';
import { alert, sentence, stillAdopted } from './adopt.ts';
import { listAll } from './intend.ts';
import { byItem } from './stage.ts';

/** How often a use of the old credential, or an instance that went missing, is looked at again. */
const recheckMs = 5_000;

/** Grace, instances and quiet; then `retiring` commits together with the debts, and the way back is closed. */
export async function awaitGrace(context: Context, rotation: Rotation): Promise<StepResult> {
  const uptimeMs = await context.store.journal.uptimeMs();
  const hasOlds = rotation.data.members.some((member) => member.olds.length > 0);
  if (rotation.data.kind !== 'emergency' && hasOlds) {
    const graceMs = Math.max(...rotation.data.members.map((member) => member.policy.graceMs));
    const graceUntil = phaseMark(rotation, 'adopted').uptimeMs + graceMs;
    if (uptimeMs < graceUntil)
      return { kind: 'wait', untilUptimeMs: graceUntil, waitsFor: 'the end of the grace' };
    const missing = await missingAgain(context, rotation);
    const waitsFor =
      missing.length > 0
        ? sentence(missing, [])
        : ((await stillUsed(context, rotation)) ?? (await newRefused(context, rotation)));
    if (waitsFor !== null) {
      const timeoutMs = Math.max(
        ...rotation.data.members.map((member) => member.policy.adoption.timeoutMs),
      );
      const isLong = uptimeMs >= graceUntil + timeoutMs && !rotation.data.alerted;
      if (isLong) return alert(context, rotation, waitsFor, rotation.data.unconfirmed);
      return { kind: 'wait', untilUptimeMs: uptimeMs + recheckMs, waitsFor };
    }
  }
  const debts: Debt[] = [];
  for (const member of rotation.data.members)
    debts.push(...(await debtsOf(context, rotation, member)));
  return moveTo(context, rotation, 'retiring', {}, { debts });
}

/** Instances that had adopted and are not there now. Consumers that the policy or a person let pass do not count. */
async function missingAgain(context: Context, rotation: Rotation): Promise<readonly Waiting[]> {
  const { waitingFor } = await stillAdopted(context, rotation);
  return waitingFor.filter((one) => !rotation.data.unconfirmed.includes(one.consumer));
}

async function stillUsed(context: Context, rotation: Rotation): Promise<string | null> {
  for (const { policy, olds, secret } of rotation.data.members) {
    if (!context.ports.provider(policy).traits.capabilities.lastUsed) continue;
    const refs = new Set(olds.map((one) => one.ref));
    const listed = await withSession(context, policy, (session) =>
      listAll(session, context.signal),
    );
    for (const { ref, lastUsedAt } of listed) {
      if (!refs.has(ref)) continue;
      const quiet = decideQuiet({
        lastUsedAt,
        // A wall clock that was set back would make every use look recent.
        now: context.ports.scheduleClock.now(),
        quietMs: policy.quietMs,
      });
      if (!quiet.quiet)
        return `the old credential of ${secret} to be quiet (last used ${new Date(quiet.lastUsedAt).toISOString()})`;
    }
  }
  return null;
}

/** Read as a consumer reads it, and tried: while the old one lives there is a way back, so now is the time to find out. */
async function newRefused(context: Context, rotation: Rotation): Promise<string | null> {
  for (const { policy, secret, minted } of rotation.data.members) {
    const served = await readOwn(context, policy, 'current');
    if (served === null) return `${itemOf(policy)} to hold ${secret} again`;
    const sealed = minted === null ? null : await openKnown(context, secret, minted);
    const credential = { ref: minted?.ref ?? null, fields: { ...sealed, ...served.fields } };
    const verdict = await withSession(context, policy, (session) =>
      session.verify(credential, context.signal),
    );
    if (!verdict.ok) return `the new credential of ${secret} to be accepted (${verdict.reason})`;
  }
  return null;
}

async function debtsOf(context: Context, rotation: Rotation, member: Member): Promise<Debt[]> {
  const open = await context.store.debts(member.secret);
  const debts: Debt[] = [];
  for (const old of member.olds) {
    if (
      open.some(
        (debt) => debt.data.credential?.fingerprint === old.fingerprint && debt.kind === 'revoke',
      )
    )
      continue;
    if (await isPaid(context, old)) continue;
    debts.push(
      revokeDebt(context.ports, rotation, member, old, { version: versionOf(member, old) }),
    );
  }
  // More than one mint was sent: one of unknown outcome may still land.
  if (member.intent !== null && member.intent.attempt > 1) {
    debts.push(sweepDebt(context.ports, rotation, member, member.intent, member.minted));
  }
  return debts;
}

/** In contain the old one was ended before its successor was minted: its seal went with the debt. */
async function isPaid(context: Context, old: Known): Promise<boolean> {
  return old.sealId !== null && (await context.store.journal.sealed(old.sealId)) === null;
}

function versionOf(member: Member, old: Known): string | null {
  return old.fingerprint === member.previous?.fingerprint
    ? (member.promoted?.replaced ?? null)
    : null;
}

/** Pays at once what can be paid; the rotation ends either way, a debt lives on by itself. */
export async function retire(context: Context, rotation: Rotation): Promise<StepResult> {
  await payOwn(context, rotation);
  if (rotation.data.kind === 'emergency') {
    for (const [{ policy }] of byItem(rotation.data.members)) {
      await effect(context, 'purge', () =>
        backendOf(context, policy).purge(policy.backend.item, context.signal),
      );
    }
  }
  // Payments updated the row: deadAt.
  const fresh = (await context.store.rotation(rotation.id)) ?? rotation;
  const secrets: SecretState[] = [];
  const removeSeals: string[] = [];
  for (const member of fresh.data.members) {
    const state = await context.store.secret(member.secret);
    if (state === null) continue;
    const { current } = state.data;
    const dropEscrow =
      !member.policy.escrow && current?.sealId != null && current.sealedBy === fresh.id;
    if (dropEscrow) removeSeals.push(current.sealId);
    secrets.push({
      ...state,
      data: {
        ...state.data,
        failures: 0,
        current: dropEscrow ? { ...current, sealId: null } : current,
        lastResult: { phase: 'retired', at: context.ports.clock.now(), error: null },
      },
    });
  }
  return moveTo(context, fresh, 'retired', {}, { secrets, removeSeals });
}
