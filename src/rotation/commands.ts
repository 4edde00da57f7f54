/** What people ask of one secret, each as one commit that the driver then follows. Callers hold the rotation's turn. */
import { isRotatedError, RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import { abandon } from './abandon.ts';
import type { Beginning } from './begin.ts';
import { beginning } from './begin.ts';
import { decideContain, decideNow } from './checks.ts';
import type { Context } from './context.ts';
import { backendOf, effect, inPhase, moveTo, withData, withSession } from './context.ts';
import { describe, readOwn } from './current.ts';
import { revokeDebt } from './debts.ts';
import { dueAfter } from './due.ts';
import { fromItem, toItem } from './fields.ts';
import type { Debt, Known, Rotation, SecretState } from './model.ts';
import { itemOf, unpromotedPhases } from './model.ts';
import { openKnown } from './seals.ts';
import type { Ask, EmergencyMode, Started } from './service.ts';
import { stillAdopted } from './steps/adopt.ts';
import { record } from './steps/mint.ts';
import { auditEvent, auditRotation } from './store.ts';
import type { Fields } from '../secret/secret.ts';

export function started(
  secret: string,
  rotation: string | null,
  outcome: Started['outcome'],
  message: string,
): Started {
  return { secret, rotation, outcome, message, code: null, next: null };
}

export function refusedBy(secret: string, error: RotatedError): Started {
  return {
    secret,
    rotation: null,
    outcome: 'refused',
    message: error.message,
    code: error.code,
    next: error.next,
  };
}

export async function beginNew(context: Context, wanted: Beginning): Promise<Rotation> {
  const { rotation, draft } = await beginning(context, wanted);
  await context.ports.at?.('before:commit:planned');
  await context.store.write({ ...draft, rotations: [rotation] });
  await context.ports.at?.('after:commit:planned');
  return { ...rotation, version: 1 };
}

/** Treat the present key as leaked. `active`: the rotation that is under way, if any. Returns the rotation to follow. */
export async function emergency(
  context: Context,
  policies: readonly Policy[],
  active: Rotation | null,
  modeAsked: EmergencyMode | null,
  ask: Ask,
): Promise<{ rotation: Rotation; joined: boolean }> {
  const mode =
    modeAsked ??
    (policies.some((policy) => policy.emergency.mode === 'contain') ? 'contain' : 'continuity');
  if (mode === 'contain') for (const policy of policies) assertContainable(context, policy);
  const decision = decideNow(
    active === null
      ? null
      : { phase: active.phase, kind: active.data.kind, mode: active.data.mode },
  );
  const wanted: Beginning = {
    policies,
    kind: 'emergency',
    mode,
    ...ask,
    inherited: new Map(),
    fired: new Map(),
  };
  switch (decision.kind) {
    case 'begin':
      return { rotation: await beginNew(context, wanted), joined: false };
    case 'convert':
      if (active === null)
        throw new RotatedError('unexpected', 'There is no rotation to make the emergency.');
      return { rotation: await convert(context, active, mode, ask), joined: true };
    case 'supersede':
      if (active === null)
        throw new RotatedError('unexpected', 'There is no rotation to supersede.');
      return {
        rotation: await supersede(context, active, wanted, decision.inherit),
        joined: false,
      };
    default:
      return decision satisfies never;
  }
}

function assertContainable(context: Context, policy: Policy): void {
  const decision = decideContain(context.ports.provider(policy).traits);
  if ('refused' in decision) {
    throw new RotatedError(
      'contain-refused',
      `Revoking first is not possible for ${policy.name}: ${decision.refused}.`,
      {
        secret: policy.name,
        next: `Use 'rotate --now ${policy.name} --mode continuity'.`,
      },
    );
  }
}

/** An unpromoted rotation becomes the emergency: it goes on from where it is, without waits, with a deadline. */
async function convert(
  context: Context,
  active: Rotation,
  mode: EmergencyMode,
  ask: Ask,
): Promise<Rotation> {
  const uptimeMs = await context.store.journal.uptimeMs();
  const deadlineMs = Math.min(
    ...active.data.members.map((member) => member.policy.emergency.deadlineMs),
  );
  // A park that waits for a person stays one: nobody else can make that credential.
  const staysParked =
    active.data.parked?.code === 'needs-person' || active.data.parked?.code === 'mint-blind';
  const next: Rotation = {
    ...withData(active, {
      kind: 'emergency',
      mode,
      actor: ask.actor,
      reason: ask.reason,
      deadlineUptimeMs: uptimeMs + deadlineMs,
      attempts: 0,
      parked: staysParked ? active.data.parked : null,
    }),
    wakeAtUptimeMs: null,
    parked: staysParked,
  };
  const debts =
    mode === 'contain' && active.phase !== 'planned' ? await containNow(context, next) : [];
  await context.store.write({
    rotations: [next],
    debts,
    audit: auditRotation(context.ports.clock.now(), next, 'rotation.emergency', 'done', () => ({
      mode,
      phase: active.phase,
    })),
  });
  return { ...next, version: next.version + 1 };
}

async function containNow(context: Context, rotation: Rotation): Promise<Debt[]> {
  const debts: Debt[] = [];
  for (const member of rotation.data.members) {
    const open = await context.store.debts(member.secret);
    for (const old of member.olds) {
      if (open.some((debt) => debt.data.credential?.fingerprint === old.fingerprint)) continue;
      debts.push(revokeDebt(context.ports, rotation, member, old, { mayKillCurrent: true }));
    }
  }
  return debts;
}

/** Ends a promoted rotation whose new key leaked and starts its successor, in one transaction. */
async function supersede(
  context: Context,
  active: Rotation,
  wanted: Beginning,
  inherit: 'olds' | 'olds-and-new' | 'new',
): Promise<Rotation> {
  const inherited = new Map<string, readonly Known[]>();
  const debts: Debt[] = [];
  const open = await Promise.all(active.secrets.map((secret) => context.store.debts(secret)));
  for (const member of active.data.members) {
    const state = await context.store.secret(member.secret);
    const live = [...member.olds, ...(member.minted === null ? [] : [member.minted])];
    const notServed = live.filter((one) => one.fingerprint !== state?.data.current?.fingerprint);
    if (inherit === 'olds-and-new') {
      inherited.set(member.secret, notServed);
      continue;
    }
    // Nobody uses these any more: their revoke is due now. In retiring it is already owed.
    for (const old of notServed) {
      if (open.flat().some((debt) => debt.data.credential?.fingerprint === old.fingerprint))
        continue;
      debts.push(
        revokeDebt(context.ports, active, member, old, {
          version: member.promoted?.replaced ?? null,
        }),
      );
    }
  }
  const { rotation, draft } = await beginning(context, { ...wanted, inherited });
  const ended = await inPhase(
    context,
    active,
    active.phase === 'rolling-back' ? 'rolled-back' : 'retired',
    { supersededBy: rotation.id },
  );
  await context.ports.at?.('before:commit:supersede');
  await context.store.write({
    ...draft,
    rotations: [ended, rotation],
    debts,
    releaseLocksOf: [active.id],
    audit: [
      ...auditRotation(context.ports.clock.now(), ended, 'rotation.superseded', 'done', () => ({
        by: rotation.id,
      })),
      ...(draft.audit ?? []),
    ],
  });
  await context.ports.at?.('after:commit:supersede');
  return { ...rotation, version: 1 };
}

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
  for (const member of active.data.members) await assertWayBack(context, active, member);
  const by = withData(active, {
    actor: ask.actor,
    reason: ask.reason,
    failure: { code: 'refused', message: ask.reason ?? 'rolled back on request' },
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
  active: Rotation,
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
  if (active.data.kind === 'emergency' || previous.generation <= (state?.data.leakedThrough ?? 0)) {
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
    { code: 'refused', message: ask.reason ?? 'abandoned on request' },
    false,
  );
  return started(
    secret,
    moved.rotation.id,
    'done',
    'The credential in use stays; what was minted is being revoked.',
  );
}

export async function setPaused(
  context: Context,
  state: SecretState,
  paused: boolean,
  ask: Ask,
): Promise<Started> {
  const { ports, store } = context;
  const now = ports.clock.now();
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

/** The sealed copy of current, written back to a backend that lost its item. */
export async function restore(
  context: Context,
  policy: Policy,
  state: SecretState,
  ask: Ask,
): Promise<Started> {
  const { ports, store, signal } = context;
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
  if (served !== null) {
    throw new RotatedError('refused', `${itemOf(policy)} still holds ${secret}.`, {
      secret,
      next: `If its value is wrong: 'rotate run ${secret}'.`,
    });
  }
  const { backend } = policy;
  const item = await describe(context, policy);
  const own = toItem(policy, fields);
  const note = {
    secret,
    generation: state.generation,
    ref: current.ref,
    rotation: current.sealedBy,
    fields: Object.keys(own).sort(),
  };
  const txn = `restore-${ports.random.bytes(8).toString('hex')}`;
  const expectCurrent = item.current?.version ?? null;
  const pending = await effect(context, 'restore', () =>
    backendOf(context, policy).stage(backend.item, own, [note], { txn, expectCurrent }, signal),
  );
  const version = await effect(context, 'restore', () =>
    backendOf(context, policy).promote(backend.item, { txn, expectCurrent, pending }, signal),
  );
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

export async function readAudited(
  context: Context,
  policy: Policy,
  stage: 'current' | 'pending' | 'previous',
  ask: Ask,
): Promise<{ generation: number | null; fields: Fields }> {
  const secret = policy.name;
  const served = await readOwn(context, policy, stage);
  if (served === null) {
    throw new RotatedError(
      'not-found',
      `${itemOf(policy)} holds no ${stage} version of ${secret}.`,
      { secret, next: `'rotate status ${secret}' shows its state.` },
    );
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

export function isRefusal(error: unknown): error is RotatedError {
  return isRotatedError(error) && error.code !== 'fence-lost' && error.code !== 'unexpected';
}
