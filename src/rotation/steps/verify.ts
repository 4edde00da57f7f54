/** staged | distributed → verified: proof that the value read back from pending works, before anybody uses it. */
import { RotatedError } from '../../errors.ts';
import type { Verdict } from '../../finding.ts';
import { fieldsEqual } from '../../secret/secret.ts';
import { rightsDiffer } from '../checks.ts';
import type { Context, StepResult } from '../context.ts';
import { moveTo, phaseMark, withSession } from '../context.ts';
import type { Served } from '../current.ts';
import { readOwn } from '../current.ts';
import { toItem } from '../fields.ts';
import type { Member, Rotation } from '../model.ts';
import { sealIdOf } from '../model.ts';
import { openSeal } from '../seals.ts';

/** How often a credential that is not accepted yet is tried again while the issuer may still be settling. */
const settlePollMs = 500;

export async function verify(context: Context, rotation: Rotation): Promise<StepResult> {
  for (const member of rotation.data.members) {
    const pending = await readBack(context, rotation, member);
    const verdict = await verdictOf(context, member, pending);
    if (verdict.verdict.ok) {
      assertSameRights(rotation, member, verdict.verdict);
      continue;
    }
    const uptimeMs = await context.store.journal.uptimeMs();
    const settledAt =
      phaseMark(rotation, 'minted').uptimeMs +
      context.ports.provider(member.policy).traits.limits.settleSeconds * 1_000;
    if (uptimeMs < settledAt) {
      return {
        kind: 'wait',
        untilUptimeMs: Math.min(settledAt, uptimeMs + settlePollMs),
        waitsFor: `the issuer to accept the new credential of ${member.secret}`,
      };
    }
    throw new RotatedError(
      'verify-failed',
      `The new credential of ${member.secret} does not work: ${verdict.by} says ${verdict.verdict.reason}.`,
      {
        secret: member.secret,
        next: 'The old credential stays in use. Mend what the check names, then run the rotation again.',
      },
    );
  }
  return moveTo(context, rotation, 'verified');
}

/** What consumers will read, not what we believe to have written. */
async function readBack(context: Context, rotation: Rotation, member: Member): Promise<Served> {
  const pending =
    member.staged === null
      ? null
      : await readOwn(context, member.policy, { version: member.staged.version });
  const sealed = await openSeal(
    context,
    member.secret,
    rotation.id,
    'new',
    sealIdOf(rotation.id, member.secret, 'new'),
  );
  if (pending === null || !fieldsEqual(pending.itemFields, toItem(member.policy, sealed))) {
    throw new RotatedError(
      'ambiguous',
      `The backend's pending version of ${member.secret} is not what was staged.`,
      {
        effect: 'unknown',
        secret: member.secret,
        next: 'Find out who else writes this item.',
      },
    );
  }
  // Fields that only the issuer's answer had (a host, a URL) help its own check; the values are the ones read back.
  return { ...pending, fields: { ...sealed, ...pending.fields } };
}

async function verdictOf(
  context: Context,
  member: Member,
  pending: Served,
): Promise<{ verdict: Verdict; by: string }> {
  const { ports, signal } = context;
  const ref = member.minted?.ref ?? null;
  const fromIssuer = await withSession(context, member.policy, (session) =>
    session.verify({ ref, fields: pending.fields }, signal),
  );
  if (!fromIssuer.ok)
    return { verdict: fromIssuer, by: `the provider ${member.policy.provider.use}` };
  for (const verifier of ports.verifiers(member.policy)) {
    const verdict = await verifier.verify(
      { secret: member.secret, generation: member.generation, fields: pending.itemFields },
      signal,
    );
    if (!verdict.ok) return { verdict, by: verifier.id };
  }
  return { verdict: fromIssuer, by: '' };
}

function assertSameRights(
  rotation: Rotation,
  member: Member,
  verdict: Extract<Verdict, { ok: true }>,
): void {
  const after = { scopes: verdict.scopes, expiresAt: verdict.expiresAt };
  const difference = rightsDiffer(member.previous, after, phaseMark(rotation, 'minted').at);
  if (difference === null) return;
  throw new RotatedError(
    'rights-differ',
    `The new credential of ${member.secret} is not the equal of its predecessor: ${difference}.`,
    {
      secret: member.secret,
      next: 'Give the admin credential the same rights to grant, or change the old credential first if the change is meant.',
    },
  );
}
