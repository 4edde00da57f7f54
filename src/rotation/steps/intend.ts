/** planned → minting: fails cheaply what can fail cheaply, then journals all that recovery needs to find out what a mint did. */
import { RotatedError } from '../../errors.ts';
import type { Finding } from '../../finding.ts';
import type { CredentialInfo, Prepared, ProviderSession, Traits } from '../../provider/provider.ts';
import type { WrappedKey } from '../../secret/sealing.ts';
import { decideContain, hasRoom } from '../checks.ts';
import type { Context, StepResult } from '../context.ts';
import { backendOf, effect, moveTo, withSession } from '../context.ts';
import type { Served } from '../current.ts';
import { describe, readOwn } from '../current.ts';
import { revokeDebt } from '../debts.ts';
import { asKept } from '../fields.ts';
import type { Debt, DebtStep, Intent, Known, Member, Rotation } from '../model.ts';
import { namePrefixOf, rotationOfName, sealIdOf } from '../model.ts';
import type { Draft } from '../store.ts';

type Seals = NonNullable<Draft['seals']>[number][];

export async function intend(context: Context, rotation: Rotation): Promise<StepResult> {
  const blocked = await discardsOwed(context, rotation);
  if (blocked !== null) return blocked;
  const isContain = rotation.data.mode === 'contain';
  const disabled = isContain ? await disableAtOnce(context, rotation) : new Set<string>();
  const members: Member[] = [];
  const seals: Seals = [];
  const debts: Debt[] = [];
  for (const member of rotation.data.members) {
    members.push(await intendMember(context, rotation, member, seals, debts));
  }
  if (isContain) debts.push(...(await containDebts(context, rotation, members, disabled)));
  const moved = await moveTo(context, rotation, 'minting', { members }, { seals, debts });
  for (const member of members) context.freshIntents.add(intentKey(rotation.id, member));
  return moved;
}

export function intentKey(rotation: string, member: Member): string {
  return `${rotation}:${member.secret}:${member.intent?.attempt ?? 0}`;
}

/** A pending version that an earlier rotation owes to drop would be in the way of ours. */
async function discardsOwed(context: Context, rotation: Rotation): Promise<StepResult | null> {
  for (const secret of rotation.secrets) {
    const owed = (await context.store.debts(secret)).filter((debt) => debt.kind === 'discard');
    if (owed.length > 0) {
      const uptimeMs = await context.store.journal.uptimeMs();
      return {
        kind: 'wait',
        untilUptimeMs: uptimeMs + 500,
        waitsFor: `an older pending version of ${secret} to be dropped`,
      };
    }
  }
  return null;
}

/** Where the issuer can disable, the leaked credential is refused before anything else is looked at: that can be undone. */
async function disableAtOnce(context: Context, rotation: Rotation): Promise<ReadonlySet<string>> {
  const disabled = new Set<string>();
  for (const { policy, secret } of rotation.data.members) {
    const ref = (await context.store.secret(secret))?.data.current?.ref ?? null;
    if (ref === null || !context.ports.provider(policy).traits.capabilities.disable) continue;
    await withSession(context, policy, async (session) => {
      const disable = session.disable?.bind(session);
      if (disable === undefined) return;
      refuseSelfAdmin(await checkIfPossible(session, context.signal), secret);
      await effect(context, 'disable', () => disable(ref, context.signal));
      disabled.add(ref);
    });
  }
  return disabled;
}

/** A check that cannot be made does not keep a leaked key alive; the checks before the mint ask again. */
async function checkIfPossible(
  session: ProviderSession,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  try {
    return await session.check(signal);
  } catch {
    return [];
  }
}

/** Disabling the credential that the provider authenticates with would lock everybody out. */
function refuseSelfAdmin(findings: readonly Finding[], secret: string): void {
  const own = findings.filter((finding) => finding.name === 'self-admin');
  refuseRed(own, secret);
}

async function intendMember(
  context: Context,
  rotation: Rotation,
  member: Member,
  seals: Seals,
  debts: Debt[],
): Promise<Member> {
  const { policy, secret } = member;
  const { ports, store, signal } = context;
  const emergency = rotation.data.kind === 'emergency';
  refuseRed(await backendOf(context, policy).preflight(policy.backend.item, signal), secret);
  // In an emergency a consumer that is down must not keep a leaked key alive.
  if (!emergency) for (const consumer of ports.consumers(policy)) await consumer.probe(signal);

  const state = await describe(context, policy);
  const served = await readOwn(context, policy, 'current');
  const row = await store.secret(secret);
  const generation = Math.max(row?.generation ?? 0, served?.note?.generation ?? 0);
  // What was lost for good comes back from a person's hand.
  const isHandedIn = rotation.data.handIn?.includes(secret) === true;
  if (served === null && generation > 0 && !isHandedIn) {
    throw new RotatedError(
      'item-lost',
      `The backend no longer has ${policy.backend.scheme}://${policy.backend.item}, which held generation ${generation}.`,
      {
        secret,
        next: `Find out who deleted it; 'rotate restore ${secret}' writes the sealed copy back.`,
      },
    );
  }
  if (state.pending !== null && !state.pending.txn?.startsWith(rotation.id)) {
    throw new RotatedError(
      'pending-foreign',
      'The backend holds a pending version that no rotation of this journal wrote.',
      {
        secret,
        next: `Find out who staged it. Remove it from the backend, then 'rotate resume ${secret}'.`,
      },
    );
  }

  return withSession(context, policy, async (session) => {
    const { traits } = ports.provider(policy);
    refuseRed(await session.check(signal), secret);
    const inventory = await listAll(session, signal);
    const dataKey = await ports.sealer.newKey(signal);
    const previous =
      served === null
        ? null
        : await identify(context, rotation, member, served, session, inventory, dataKey, seals);
    const olds = oldsOf(member, previous, row?.data.current ?? null);
    debts.push(...(await strays(context, rotation, member, inventory, olds)));
    const owed = (await store.debts(secret)).filter((debt) => debt.kind !== 'discard').length;
    if (!hasRoom({ traits, inventory, hasCurrent: served !== null, owed }))
      throw noRoom(secret, traits, owed);
    const attempt = 1;
    const current = served === null ? null : { ref: previous?.ref ?? null, fields: served.fields };
    const prepared = await session.prepare?.(
      { secret, rotation: rotation.id, generation: generation + 1, current },
      signal,
    );
    if (prepared !== undefined)
      await sealPrepared(context, rotation, secret, prepared, dataKey, seals);
    const intent: Intent = {
      attempt,
      namePrefix: namePrefixOf(secret, rotation.id),
      name: `${namePrefixOf(secret, rotation.id)}${attempt}`,
      idempotencyToken: ports.random.bytes(16).toString('hex'),
      inventory,
      dataKey,
      preparedRef: prepared?.ref ?? null,
      settleUntilUptimeMs: null,
    };
    return { ...member, generation: generation + 1, previous, olds, intent };
  });
}

/** Credentials of our own earlier mints that nothing names any more, as one that landed long after its answer was lost. */
async function strays(
  context: Context,
  rotation: Rotation,
  member: Member,
  inventory: readonly CredentialInfo[],
  olds: readonly Known[],
): Promise<Debt[]> {
  const { secret } = member;
  const owed = await context.store.debts(secret);
  const isNamed = (ref: string) =>
    olds.some((old) => old.ref === ref) || owed.some((debt) => debt.data.credential?.ref === ref);
  const debts: Debt[] = [];
  for (const { ref, name } of inventory) {
    const id = name === undefined ? null : rotationOfName(secret, name);
    if (id === null || isNamed(ref)) continue;
    // The name alone proves nothing: the rotation must stand in this journal and have ended.
    const before = await context.store.rotation(id);
    if (before === null || before.active || !before.secrets.includes(secret)) continue;
    // The fingerprint only tells debts apart: the value of a stray was never seen.
    const stray = { ref, generation: 0, fingerprint: `stray ${ref}`, sealedBy: id, sealId: null };
    debts.push(revokeDebt(context.ports, rotation, member, stray));
  }
  return debts;
}

async function sealPrepared(
  context: Context,
  rotation: Rotation,
  secret: string,
  prepared: Prepared,
  dataKey: WrappedKey,
  seals: Seals,
): Promise<void> {
  const sealContext = { secret, rotation: rotation.id, purpose: 'prepared' };
  const sealed = await context.ports.sealer.seal(
    prepared.fields,
    sealContext,
    dataKey,
    context.signal,
  );
  seals.push({
    id: sealIdOf(rotation.id, secret, 'prepared'),
    secret,
    rotation: rotation.id,
    sealed,
  });
}

export async function listAll(
  session: ProviderSession,
  signal: AbortSignal,
): Promise<CredentialInfo[]> {
  const all: CredentialInfo[] = [];
  if (session.list !== undefined) for await (const one of session.list(signal)) all.push(one);
  return all;
}

/** Who is the credential that the backend serves, and its value under a seal: the way back, and the proof of its death. */
async function identify(
  context: Context,
  rotation: Rotation,
  member: Member,
  served: Served,
  session: ProviderSession,
  inventory: readonly CredentialInfo[],
  dataKey: WrappedKey,
  seals: Seals,
): Promise<Known> {
  const { ports, store, signal } = context;
  const { secret, policy } = member;
  const fields = asKept(policy, served.fields);
  const fingerprint = ports.fingerprints.of(fields);
  const journalled = (await store.secret(secret))?.data.current ?? null;
  const isJournalled = journalled?.fingerprint === fingerprint;
  let ref = isJournalled ? journalled.ref : null;
  // A journal that was lost: the id stands beside the item, as long as nobody changed the value under it.
  if (ref === null && served.note !== undefined && journalled === null) ref = served.note.ref;
  ref ??= (await session.resolve?.(served.fields, signal)) ?? null;
  const listed = inventory.find((one) => one.ref === ref);
  const sealed = await ports.sealer.seal(
    fields,
    { secret, rotation: rotation.id, purpose: 'old' },
    dataKey,
    signal,
  );
  const sealId = sealIdOf(rotation.id, secret, 'old');
  seals.push({ id: sealId, secret, rotation: rotation.id, sealed });
  return {
    ref,
    generation: isJournalled ? journalled.generation : (served.note?.generation ?? 0),
    fingerprint,
    sealedBy: rotation.id,
    sealId,
    scopes: listed?.scopes ?? (isJournalled ? journalled.scopes : undefined),
    owner: listed?.owner ?? (isJournalled ? journalled.owner : undefined),
    expiresAt: listed?.expiresAt ?? (isJournalled ? journalled.expiresAt : undefined),
  };
}

/** What must end once the new one is in use: what is served now, what we minted last if somebody replaced it, what was inherited. */
function oldsOf(
  member: Member,
  previous: Known | null,
  journalled: Known | null,
): readonly Known[] {
  const olds = new Map<string, Known>();
  for (const one of [...member.olds, journalled, previous])
    if (one !== null) olds.set(one.fingerprint, one);
  return [...olds.values()];
}

function refuseRed(findings: readonly Finding[], secret: string): void {
  const red = findings.find((finding) => finding.level === 'red');
  if (red === undefined) return;
  const code = red.name === 'self-admin' ? 'self-admin' : 'denied';
  throw new RotatedError(
    code,
    `${red.message}${red.place === undefined ? '' : ` (${red.place})`}`,
    {
      secret,
      next: red.mend ?? 'Give the admin credential the missing right.',
    },
  );
}

function noRoom(secret: string, traits: Traits, owed: number): RotatedError {
  const most = traits.limits.liveMax;
  return new RotatedError(
    'limit-reached',
    `The issuer allows ${most} live credentials and all are taken.`,
    {
      secret,
      next:
        owed > 0
          ? `${owed} revoked credential(s) are still owed: see 'rotate status ${secret}'.`
          : 'End one that nobody uses, at the issuer. rotated never ends a credential that it did not mint.',
    },
  );
}

async function containDebts(
  context: Context,
  rotation: Rotation,
  members: readonly Member[],
  disabled: ReadonlySet<string>,
): Promise<Debt[]> {
  const debts: Debt[] = [];
  for (const member of members) {
    const decision = decideContain(context.ports.provider(member.policy).traits);
    if ('refused' in decision) {
      throw new RotatedError(
        'contain-refused',
        `Revoking first is not possible for ${member.secret}: ${decision.refused}.`,
        {
          secret: member.secret,
          next: `Use 'rotate --now ${member.secret} --mode continuity'.`,
        },
      );
    }
    const open = await context.store.debts(member.secret);
    for (const old of member.olds) {
      if (open.some((debt) => debt.data.credential?.fingerprint === old.fingerprint)) continue;
      const done: DebtStep[] = old.ref !== null && disabled.has(old.ref) ? ['disabled'] : [];
      debts.push(revokeDebt(context.ports, rotation, member, old, { mayKillCurrent: true, done }));
    }
  }
  return debts;
}
