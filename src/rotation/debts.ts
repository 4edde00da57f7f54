/** What is still owed after a rotation: made in one transaction with the phase that owes it, paid now or later by one payer. */
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import type { ProviderSession, Traits } from '../provider/provider.ts';
import type { Fields } from '../secret/secret.ts';
import { backoffMs } from './checks.ts';
import type { Context } from './context.ts';
import { backendOf, effect, withSession } from './context.ts';
import { readOwn } from './current.ts';
import { asKept } from './fields.ts';
import type {
  Debt,
  DebtData,
  DebtKind,
  DebtStep,
  Intent,
  Known,
  Member,
  Rotation,
} from './model.ts';
import { sealIdOf } from './model.ts';
import type { Ports } from './ports.ts';
import { openKnown } from './seals.ts';
import type { Draft } from './store.ts';
import { auditEvent } from './store.ts';
import { sweep } from './sweep.ts';

/** After so many failures a person is told, and once more each time it has doubled. */
const alertAfterAttempts = 5;
/** A debt that waits for a person is proven or looked up again so often. */
const personPollMs = 60_000;

type MakerPorts = Pick<Ports, 'clock' | 'random'>;

function debt(
  ports: MakerPorts,
  rotation: Rotation,
  member: Member,
  kind: DebtKind,
  data: Partial<DebtData>,
): Debt {
  return {
    id: `${rotation.id}-${ports.random.bytes(4).toString('hex')}`,
    secret: member.secret,
    rotation: rotation.id,
    kind,
    version: 0,
    createdAt: ports.clock.now(),
    wakeAtUptimeMs: null,
    parked: false,
    data: {
      policy: member.policy,
      actor: rotation.data.actor,
      reason: rotation.data.reason,
      credential: null,
      intent: null,
      txn: null,
      done: [],
      mayKillCurrent: false,
      version: null,
      attempts: 0,
      lastError: null,
      parked: null,
      ...data,
    },
  };
}

export function revokeDebt(
  ports: MakerPorts,
  rotation: Rotation,
  member: Member,
  credential: Known,
  more: Partial<Pick<DebtData, 'mayKillCurrent' | 'version' | 'done'>> = {},
): Debt {
  return debt(ports, rotation, member, 'revoke', { credential, ...more });
}

export function discardDebt(
  ports: MakerPorts,
  rotation: Rotation,
  member: Member,
  txn: string,
): Debt {
  return debt(ports, rotation, member, 'discard', { txn });
}

export function sweepDebt(
  ports: MakerPorts,
  rotation: Rotation,
  member: Member,
  intent: Intent,
  keep: Known | null,
): Debt {
  return debt(ports, rotation, member, 'sweep', { intent, credential: keep });
}

/** Pays what this rotation owes, once each; what fails stays owed. True where nothing is left. */
export async function payOwn(
  context: Context,
  rotation: Pick<Rotation, 'id' | 'secrets'>,
): Promise<boolean> {
  let clear = true;
  for (const secret of rotation.secrets) {
    const owed = (await context.store.debts(secret)).filter((one) => one.rotation === rotation.id);
    for (const one of owed) clear = (await pay(context, one)) === 'paid' && clear;
  }
  return clear;
}

/** Pays one debt. Never throws for a failed payment: that is journalled and tried again, for ever. */
export async function pay(context: Context, listed: Debt): Promise<'paid' | 'owed'> {
  if (context.paying.has(listed.id)) return 'owed';
  context.paying.add(listed.id);
  let owed = listed;
  const done: DebtStep[] = [];
  try {
    // Another payer may have closed it since it was listed, and the issuer may use its name again.
    const now = (await context.store.debts(listed.secret)).find((one) => one.id === listed.id);
    if (now === undefined) return 'paid';
    owed = now;
    done.push(...owed.data.done);
    await settleByKind(context, owed, done);
    await close(context, owed);
    return 'paid';
  } catch (error) {
    if (isRotatedError(error, 'fence-lost', 'conflict') || context.signal.aborted) throw error;
    await stayOwed(context, owed, done, asRotatedError(error, 'unknown', owed.secret));
    return 'owed';
  } finally {
    context.paying.delete(listed.id);
  }
}

async function settleByKind(context: Context, owed: Debt, done: DebtStep[]): Promise<void> {
  const { policy, txn } = owed.data;
  switch (owed.kind) {
    case 'revoke':
      return revoke(context, owed, done);
    case 'sweep':
      return sweep(context, owed);
    case 'discard':
      if (txn === null) return;
      return effect(context, 'discard', () =>
        backendOf(context, policy).discard(policy.backend.item, txn, context.signal),
      );
    default:
      return owed.kind satisfies never;
  }
}

/** Verifiers forget it, the issuer disables and deletes it, a try proves it dead, the backend drops it, the new one still works. */
async function revoke(context: Context, owed: Debt, done: DebtStep[]): Promise<void> {
  const { policy, credential } = owed.data;
  if (credential === null) return;
  const { traits } = context.ports.provider(policy);
  const fields = await openKnown(context, owed.secret, credential);
  const once = async (step: DebtStep, work: () => Promise<void>) => {
    if (done.includes(step)) return;
    await work();
    done.push(step);
  };
  await assertNotInUse(context, owed, credential);
  await withSession(context, policy, async (session) => {
    await once('verifiers', () => dropAtVerifiers(context, owed, credential));
    await once('revoked', async () => {
      try {
        refuseFamily(traits, owed);
        if (!done.includes('disabled')) {
          await disable(context, session, credential);
          done.push('disabled');
        }
        await revokeAtIssuer(context, session, owed, credential, fields);
      } catch (error) {
        // A person has to end it. They may have: a proof of death closes the debt without asking them to say so.
        if (
          !isRotatedError(error, 'needs-person') ||
          traits.capabilities.proof !== 'safe' ||
          fields === null
        )
          throw error;
        if ((await session.verify({ ref: credential.ref, fields }, context.signal)).ok) throw error;
      }
    });
    await once('proven', async () => {
      if (traits.capabilities.proof !== 'safe' || fields === null) return;
      const verdict = await session.verify({ ref: credential.ref, fields }, context.signal);
      if (verdict.ok) {
        throw new RotatedError(
          'still-alive',
          `The revoked credential of ${owed.secret} is still accepted.`,
          {
            effect: 'applied',
            secret: owed.secret,
            next: 'Nothing to do yet: it is tried again. If this lasts, end it at the issuer by hand.',
          },
        );
      }
    });
    await once('dropped', () => dropVersion(context, owed));
    await once('reverified', () => assertCurrentWorks(context, session, owed));
  });
}

/** The credential that the backend serves now is never ended, unless that is what was asked for. */
async function assertNotInUse(context: Context, owed: Debt, credential: Known): Promise<void> {
  if (owed.data.mayKillCurrent) return;
  const { policy } = owed.data;
  const served = await readOwn(context, policy, 'current');
  const servedFingerprint =
    served === null ? null : context.ports.fingerprints.of(asKept(policy, served.fields));
  const state = await context.store.secret(owed.secret);
  const active = await context.store.activeOf(owed.secret);
  const minted =
    active?.id === owed.rotation
      ? undefined
      : active?.data.members.find((one) => one.secret === owed.secret)?.minted;
  const inUse =
    servedFingerprint === credential.fingerprint ||
    state?.data.current?.fingerprint === credential.fingerprint ||
    (credential.ref !== null &&
      (state?.data.current?.ref === credential.ref || minted?.ref === credential.ref));
  if (inUse) {
    throw new RotatedError(
      'would-kill-current',
      `Revoking ${credential.ref ?? 'this credential'} would end what ${owed.secret} uses now.`,
      {
        secret: owed.secret,
        next: `Find out who wrote the old value back; then 'rotate run ${owed.secret}' replaces it and pays this debt.`,
      },
    );
  }
}

async function dropAtVerifiers(context: Context, owed: Debt, credential: Known): Promise<void> {
  const generation = (await context.store.secret(owed.secret))?.generation ?? 0;
  if (generation <= credential.generation && owed.data.mayKillCurrent) return;
  for (const consumer of context.ports.consumers(owed.data.policy)) {
    if (consumer.role !== 'verifier') continue;
    await effect(context, 'reload', () =>
      consumer.reload([{ secret: owed.secret, generation, stage: 'retired' }], context.signal),
    );
  }
}

/** Ending one would end its relatives, the credential in use among them; so would disabling it. */
function refuseFamily(traits: Traits, owed: Debt): void {
  if (traits.revokeScope === 'family') {
    throw new RotatedError(
      'needs-person',
      `Revoking the old credential of ${owed.secret} would end its successors too.`,
      {
        secret: owed.secret,
        next: 'Wait until it expires by itself, or end it at the issuer by hand when its successors are gone.',
      },
    );
  }
}

async function disable(
  context: Context,
  session: ProviderSession,
  credential: Known,
): Promise<void> {
  const { ref } = credential;
  if (ref === null || session.disable === undefined) return;
  const call = session.disable.bind(session);
  try {
    await effect(context, 'disable', () => call(ref, context.signal));
  } catch (error) {
    // A payment that was cut off after its revoke begins anew: what is gone need not be disabled.
    if (!isRotatedError(error, 'not-found')) throw error;
  }
}

async function revokeAtIssuer(
  context: Context,
  session: ProviderSession,
  owed: Debt,
  credential: Known,
  fields: Fields | null,
): Promise<void> {
  const ref =
    credential.ref ??
    (fields === null ? null : ((await session.resolve?.(fields, context.signal)) ?? null));
  if (ref === null) {
    throw new RotatedError(
      'needs-person',
      `The issuer's id of the old credential of ${owed.secret} is unknown.`,
      {
        secret: owed.secret,
        next: `End it at the issuer by hand (fingerprint ${credential.fingerprint}). The proof of its death closes this; where none is possible: 'rotate confirm ${owed.secret} --debt ${owed.id}'.`,
      },
    );
  }
  await effect(context, 'revoke', () => session.revoke(ref, context.signal));
}

async function dropVersion(context: Context, owed: Debt): Promise<void> {
  const { policy, version } = owed.data;
  if (version === null) return;
  await effect(context, 'retire-previous', () =>
    backendOf(context, policy).retirePrevious(policy.backend.item, version, context.signal),
  );
}

/** A revoke can take relatives along: the credential in use is tried again after each. */
async function assertCurrentWorks(
  context: Context,
  session: ProviderSession,
  owed: Debt,
): Promise<void> {
  if (owed.data.mayKillCurrent) return;
  const served = await readOwn(context, owed.data.policy, 'current');
  const state = await context.store.secret(owed.secret);
  if (served === null || state?.data.current == null) return;
  const escrow = await openKnown(context, owed.secret, state.data.current);
  const fields = { ...escrow, ...served.fields };
  const verdict = await session.verify({ ref: state.data.current.ref, fields }, context.signal);
  if (verdict.ok) return;
  context.ports.notify(owed.data.policy, {
    secret: owed.secret,
    rotation: owed.rotation,
    level: 'alert',
    event: 'current.refused',
    message: `After the revoke of an older credential the one in use is refused: ${verdict.reason}.`,
    next: `Mint a new one: 'rotate run ${owed.secret}'. This provider should declare revokeScope: family.`,
  });
  throw new RotatedError(
    'verify-failed',
    `After the revoke the credential in use of ${owed.secret} is refused: ${verdict.reason}.`,
    {
      effect: 'applied',
      secret: owed.secret,
      next: `Mint a new one: 'rotate run ${owed.secret}'.`,
    },
  );
}

async function close(context: Context, owed: Debt): Promise<void> {
  const now = context.ports.clock.now();
  const { credential, actor, reason } = owed.data;
  const rotation = await context.store.rotation(owed.rotation);
  const isRevoke = owed.kind === 'revoke' && credential !== null;
  const sealId = isRevoke ? credential.sealId : null;
  const draft: Draft = {
    closeDebts: [owed],
    removeSeals: [
      ...(sealId === null ? [] : [sealId]),
      ...(owed.kind === 'sweep' ? [sealIdOf(owed.rotation, owed.secret, 'prepared')] : []),
    ],
    audit: [
      auditEvent(
        now,
        { secret: owed.secret, rotation: owed.rotation, actor, reason },
        `debt.${owed.kind}.paid`,
        'done',
        {
          ref: isRevoke ? credential.ref : null,
          fingerprint: isRevoke ? credential.fingerprint : null,
          attempts: owed.data.attempts,
        },
      ),
    ],
  };
  await context.ports.at?.('before:commit:paid');
  await context.store.write(
    rotation === null || !isRevoke
      ? draft
      : {
          ...draft,
          rotations: [
            {
              ...rotation,
              data: { ...rotation.data, deadAt: { ...rotation.data.deadAt, [owed.secret]: now } },
            },
          ],
        },
  );
  await context.ports.at?.('after:commit:paid');
}

async function stayOwed(
  context: Context,
  owed: Debt,
  done: readonly DebtStep[],
  error: RotatedError,
): Promise<void> {
  const { ports, store } = context;
  const now = ports.clock.now();
  const attempts = owed.data.attempts + 1;
  const forPerson = error.code === 'needs-person' || error.code === 'mint-blind';
  const delayMs = forPerson
    ? personPollMs
    : Math.max(error.retryAfterMs ?? 0, backoffMs(attempts, ports.random.fraction()));
  const wakeAtUptimeMs = (await store.journal.uptimeMs()) + delayMs;
  const lastError = { code: error.code, message: error.message };
  const parked = forPerson
    ? {
        code: error.code,
        message: error.message,
        next: error.next,
        at: owed.data.parked?.at ?? now,
      }
    : null;
  await store.write({
    debts: [{ ...owed, wakeAtUptimeMs, data: { ...owed.data, done, attempts, lastError, parked } }],
    audit: [
      auditEvent(
        now,
        {
          secret: owed.secret,
          rotation: owed.rotation,
          actor: owed.data.actor,
          reason: owed.data.reason,
        },
        `debt.${owed.kind}.owed`,
        'failed',
        {
          code: error.code,
          attempts,
        },
      ),
    ],
  });
  const isTold = forPerson
    ? owed.data.parked === null
    : attempts >= alertAfterAttempts && Number.isInteger(Math.log2(attempts / alertAfterAttempts));
  if (!isTold) return;
  ports.notify(owed.data.policy, {
    secret: owed.secret,
    rotation: owed.rotation,
    level: 'alert',
    event: `debt.${owed.kind}`,
    message: error.message,
    next: error.next === '' ? null : error.next,
  });
}
