/** Finding and ending what mints of unknown outcome left at an issuer, after the rotation that sent them has ended. */
import { RotatedError } from '../errors.ts';
import type { Context } from './context.ts';
import { effect, withSession } from './context.ts';
import type { Debt } from './model.ts';
import { sealIdOf } from './model.ts';
import { openSeal } from './seals.ts';

export async function sweep(context: Context, owed: Debt): Promise<void> {
  const { policy, intent, credential: keep } = owed.data;
  if (intent === null) return;
  const { traits } = context.ports.provider(policy);
  waitForLateMints(owed, traits.limits.settleSeconds);
  switch (traits.crashClass) {
    case 'chosen': {
      const ref = intent.preparedRef;
      if (ref === null || ref === keep?.ref) return;
      return withSession(context, policy, (session) =>
        effect(context, 'revoke', () => session.revoke(ref, context.signal)),
      );
    }
    case 'token':
      // The same token names the same credential: asking once more tells its id, and makes none if it exists.
      return withSession(context, policy, async (session) => {
        const again = await effect(context, 'mint', async () =>
          session.mint(
            {
              secret: owed.secret,
              rotation: owed.rotation,
              generation: 0,
              current: null,
              name: intent.name,
              idempotencyToken: intent.idempotencyToken,
              inventory: intent.inventory,
              prepared: await preparedOf(context, owed),
              predecessor: null,
            },
            context.signal,
          ),
        );
        if (again.ref === keep?.ref) return;
        await effect(context, 'revoke', () => session.revoke(again.ref, context.signal));
      });
    case 'listable':
      return withSession(context, policy, async (session) => {
        if (session.list === undefined || !traits.capabilities.tag) throw blind(owed);
        for await (const one of session.list(context.signal)) {
          if (!one.name?.startsWith(intent.namePrefix) || one.ref === keep?.ref) continue;
          await effect(context, 'revoke', () => session.revoke(one.ref, context.signal));
        }
      });
    case 'blind':
      throw blind(owed);
    default:
      return traits.crashClass satisfies never;
  }
}

/** A mint may land after its connection broke: look only when the issuer has had its time to settle. */
function waitForLateMints(owed: Debt, settleSeconds: number): void {
  if (owed.data.attempts > 0 || settleSeconds === 0) return;
  throw new RotatedError(
    'unavailable',
    'Waiting for the issuer to settle before looking for what a lost mint left.',
    {
      secret: owed.secret,
      retryAfterMs: settleSeconds * 1_000,
    },
  );
}

async function preparedOf(
  context: Context,
  owed: Debt,
): Promise<{ ref: string; fields: Awaited<ReturnType<typeof openSeal>> } | null> {
  const ref = owed.data.intent?.preparedRef ?? null;
  if (ref === null) return null;
  return {
    ref,
    fields: await openSeal(
      context,
      owed.secret,
      owed.rotation,
      'prepared',
      sealIdOf(owed.rotation, owed.secret, 'prepared'),
    ),
  };
}

function blind(owed: Debt): RotatedError {
  return new RotatedError(
    'mint-blind',
    `A mint for ${owed.secret} was sent and its answer was lost; this issuer cannot be asked what came of it.`,
    {
      effect: 'unknown',
      secret: owed.secret,
      next: `Delete at the issuer any credential made around ${new Date(owed.createdAt).toISOString()} that nobody uses, then 'rotate confirm ${owed.secret} --debt ${owed.id}'.`,
    },
  );
}
