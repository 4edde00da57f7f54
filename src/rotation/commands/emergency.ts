/** `--now`: the present key is taken for leaked, whatever rotation it finds. */
import { isRotatedError, RotatedError } from '../../errors.ts';
import type { Policy } from '../../policy/policy.ts';
import type { Beginning } from '../begin.ts';
import { beginning, beginNew, leakedState } from '../begin.ts';
import { decideContain, decideNow } from '../checks.ts';
import type { Context } from '../context.ts';
import { inPhase, withData } from '../context.ts';
import { revokeDebt } from '../debts.ts';
import type { Debt, Known, Rotation } from '../model.ts';
import type { Ask, EmergencyMode } from '../service.ts';
import { auditRotation } from '../store.ts';

/** A neighbour's commit may come between what is read here and what is written: an emergency is not refused for that. */
const triesMost = 5;

/** Treat the present key as leaked. `active`: the rotation that is under way, if any. Returns the rotation to follow. */
export async function emergency(
  context: Context,
  policies: readonly Policy[],
  active: Rotation | null,
  modeAsked: EmergencyMode | null,
  ask: Ask,
): Promise<{ rotation: Rotation; joined: boolean }> {
  for (let tried = 1; ; tried++) {
    try {
      return await declare(context, policies, active, modeAsked, ask);
    } catch (error) {
      if (!isRotatedError(error, 'conflict') || tried === triesMost) throw error;
    }
  }
}

async function declare(
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
  const states = await Promise.all(active.secrets.map((secret) => context.store.secret(secret)));
  await context.store.write({
    rotations: [next],
    secrets: states.filter((state) => state !== null).map(leakedState),
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
