/** What only a person can do: pause and resume, hand in a credential, vouch for what the machine cannot see. */
import { RotatedError } from '../../errors.ts';
import type { Policy } from '../../policy/policy.ts';
import type { Fields } from '../../secret/secret.ts';
import type { Context } from '../context.ts';
import { commit, moveTo, withData, withSession } from '../context.ts';
import { dueAfter } from '../due.ts';
import { toItem } from '../fields.ts';
import type { Rotation, SecretState } from '../model.ts';
import type { Ask, Started } from '../service.ts';
import { stillAdopted } from '../steps/adopt.ts';
import { nextAttempt, record } from '../steps/mint.ts';
import { auditEvent, auditRotation } from '../store.ts';
import { started } from './outcome.ts';

export async function setPaused(
  context: Context,
  state: SecretState,
  paused: boolean,
  ask: Ask,
): Promise<Started> {
  const { ports, store } = context;
  const now = ports.clock.now();
  if (paused && state.data.pausedFor !== null && ask.reason === null) {
    const { reason } = state.data.pausedFor;
    return started(state.name, null, 'done', `Its schedule was off already: ${reason}.`);
  }
  const data = paused
    ? {
        ...state.data,
        pausedFor: { reason: ask.reason ?? 'paused on request', since: now, actor: ask.actor },
      }
    : { ...state.data, pausedFor: null, failures: 0 };
  const next = { ...state, paused, data };
  const dueAt = paused ? state.dueAt : dueAfter(context, next);
  await store.write({
    secrets: [{ ...next, dueAt }],
    audit: [
      auditEvent(
        now,
        { secret: state.name, rotation: null, ...ask },
        paused ? 'command.pause' : 'command.resume',
        'done',
      ),
    ],
  });
  return started(
    state.name,
    null,
    'done',
    paused ? 'Its schedule is off; a rotation under way goes on.' : 'Its schedule is on.',
  );
}

/** A parked rotation goes on from its last durable fact, and the schedule is on again where it was off. */
export async function resume(
  context: Context,
  state: SecretState,
  active: Rotation | null,
  ask: Ask,
): Promise<Started> {
  const secret = state.name;
  const parked = active?.data.parked ?? null;
  if (active === null || parked === null) return setPaused(context, state, false, ask);
  if (parked.code === 'needs-person') {
    throw new RotatedError('refused', `Only a person can make the next credential of ${secret}.`, {
      secret,
      next: parked.next,
    });
  }
  if (state.paused) await setPaused(context, state, false, ask);
  const by = withData(
    { ...active, parked: false, wakeAtUptimeMs: null },
    { parked: null, attempts: 0, lastError: null, actor: ask.actor },
  );
  const goesOn = {
    audit: auditRotation(context.ports.clock.now(), by, 'command.resume', 'done', () => ({
      code: parked.code,
      phase: active.phase,
    })).map((event) => ({ ...event, reason: ask.reason })),
  };
  const member = active.data.members.find((one) => one.minted === null);
  // Whoever resumes has looked at the issuer: what the lost mint left is gone, or nobody's concern. So another one is sent.
  if (parked.code === 'mint-blind' && active.phase === 'minting' && member?.intent != null) {
    await nextAttempt(context, by, member, member.intent, goesOn);
  } else await commit(context, by, goesOn);
  return started(secret, active.id, 'started', `Its rotation goes on from '${active.phase}'.`);
}

/**
 * Whose credential the rotation that a hand-in begins waits for. Where only people make them, its provider asks by itself;
 * else it is the way out of a loss without a sealed copy, and nothing that a provider needs help with.
 */
export async function handInOf(context: Context, policy: Policy): Promise<readonly string[]> {
  const secret = policy.name;
  if (context.ports.provider(policy).traits.strategy === 'operator') return [];
  const state = await context.store.secret(secret);
  if (state?.data.lost === true) return [secret];
  throw new RotatedError('refused', `${policy.provider.use} makes the credentials of ${secret}.`, {
    secret,
    next: `'rotate run ${secret}' asks it for a new one.`,
  });
}

/** A person's credential takes the place of the mint's answer; everything after it is as ever. */
export async function supply(
  context: Context,
  secret: string,
  active: Rotation,
  fields: Fields,
  ask: Ask,
): Promise<Started> {
  const member = active.data.members.find((one) => one.secret === secret);
  if (active.phase !== 'minting' || member?.intent == null || member.minted !== null) {
    throw new RotatedError(
      'refused',
      `The rotation of ${secret} is at '${active.phase}' and does not wait for a credential.`,
      { secret, next: `'rotate status ${secret}' shows what it waits for.` },
    );
  }
  toItem(member.policy, fields);
  const ref =
    (await withSession(
      context,
      member.policy,
      async (session) => (await session.resolve?.(fields, context.signal)) ?? null,
    )) ?? `supplied-${active.id}`;
  const by = withData(
    { ...active, parked: false, wakeAtUptimeMs: null },
    { parked: null, actor: ask.actor, reason: ask.reason ?? active.data.reason },
  );
  const result = await record(context, by, member, member.intent, { ref, fields });
  const id = result.kind === 'moved' ? result.rotation.id : active.id;
  return started(
    secret,
    id,
    'started',
    'The supplied credential is sealed; it is verified, promoted and adopted from here on.',
  );
}

/** The consumers that a rotation waits for use the new generation: a person says so. */
export async function confirmAdoption(
  context: Context,
  secret: string,
  active: Rotation | null,
  ask: Ask,
): Promise<Started> {
  if (active === null || (active.phase !== 'promoted' && active.phase !== 'staged')) {
    throw new RotatedError('refused', `No rotation of ${secret} waits for its consumers.`, {
      secret,
      next: `'rotate status ${secret}' shows what it waits for.`,
    });
  }
  const rows = (
    await Promise.all(active.secrets.map((name) => context.store.journal.instances(name)))
  ).flat();
  const unreachable = rows.filter(
    (row) => (row.data as { state?: string }).state === 'unreachable',
  );
  const adoption = await stillAdopted(context, active);
  const unconfirmed = [
    ...new Set([...adoption.unconfirmed, ...adoption.waitingFor.map((one) => one.consumer)]),
  ];
  const by = withData(active, { actor: ask.actor, reason: ask.reason });
  const moved = await moveTo(
    context,
    by,
    active.phase === 'promoted' ? 'adopted' : 'distributed',
    { unconfirmed },
    {
      removeInstances: unreachable,
      audit: auditRotation(context.ports.clock.now(), by, 'command.confirm', 'done', () => ({
        unconfirmed,
      })),
    },
  );
  return started(secret, moved.rotation.id, 'done', 'Counted as adopted on your word.');
}

export async function confirmDebt(
  context: Context,
  secret: string,
  id: string,
  ask: Ask,
): Promise<Started> {
  const debt = (await context.store.debts(secret)).find((one) => one.id === id);
  if (debt === undefined)
    throw new RotatedError('not-found', `${secret} has no debt ${id}.`, {
      secret,
      next: `'rotate status ${secret} --json' lists them.`,
    });
  if (debt.data.parked === null) {
    throw new RotatedError(
      'refused',
      `The debt ${id} needs no person: it is tried again by itself.`,
      { secret, next: 'Wait, or mend what its last error names.' },
    );
  }
  const { credential } = debt.data;
  await context.store.write({
    closeDebts: [debt],
    removeSeals: debt.kind === 'revoke' && credential?.sealId != null ? [credential.sealId] : [],
    audit: [
      auditEvent(
        context.ports.clock.now(),
        { secret, rotation: debt.rotation, ...ask },
        `debt.${debt.kind}.confirmed`,
        'done',
        { ref: credential?.ref ?? null, fingerprint: credential?.fingerprint ?? null },
      ),
    ],
  });
  return started(secret, debt.rotation, 'done', 'Closed on your word; no proof was possible.');
}
