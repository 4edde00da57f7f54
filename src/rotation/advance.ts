/** One step of one rotation: an exhaustive switch over what is already durable. Recovery is the same switch. */
import { asRotatedError, isRotatedError, type RotatedError } from '../errors.ts';
import { abandon } from './abandon.ts';
import { decideFailure } from './checks.ts';
import type { Context, StepResult } from './context.ts';
import { commit, withData } from './context.ts';
import type { Rotation } from './model.ts';
import { auditRotation } from './store.ts';
import { adopt, distribute, needsDistribution } from './steps/adopt.ts';
import { intend } from './steps/intend.ts';
import { mint } from './steps/mint.ts';
import { promote } from './steps/promote.ts';
import { awaitGrace, retire } from './steps/retire.ts';
import { rollBack } from './steps/roll-back.ts';
import { stage } from './steps/stage.ts';
import { verify } from './steps/verify.ts';

/** A step that keeps failing where there is no giving up is told to a person once, after so many tries. */
const alertAtAttempts = 5;

/** Does what comes next, or says until when there is nothing to do. Throws what the step throws. */
export async function step(context: Context, rotation: Rotation): Promise<StepResult> {
  switch (rotation.phase) {
    case 'planned':
      return intend(context, rotation);
    case 'minting':
      return mint(context, rotation);
    case 'minted':
      return stage(context, rotation);
    case 'staged':
      return needsDistribution(context, rotation)
        ? distribute(context, rotation)
        : verify(context, rotation);
    case 'distributed':
      return verify(context, rotation);
    case 'verified':
      return promote(context, rotation);
    case 'promoted':
      return adopt(context, rotation);
    case 'adopted':
      return awaitGrace(context, rotation);
    case 'retiring':
      return retire(context, rotation);
    case 'rolling-back':
      return rollBack(context, rotation);
    case 'retired':
    case 'rolled-back':
    case 'abandoned':
      return { kind: 'wait', untilUptimeMs: Number.POSITIVE_INFINITY, waitsFor: 'nothing' };
    default:
      return rotation.phase satisfies never;
  }
}

/** One step, its failure decided and journalled: this is what the driver calls. Throws only where the owner must stop or re-read. */
export async function advance(context: Context, rotation: Rotation): Promise<StepResult> {
  try {
    return await step(context, rotation);
  } catch (error) {
    if (context.signal.aborted || isRotatedError(error, 'fence-lost')) throw error;
    // The row changed under us (a command): read it again. A conflict of the backend has the row unchanged, and counts.
    const now = await context.store.rotation(rotation.id);
    if (now === null || now.version !== rotation.version) {
      if (now === null) throw error;
      if (isRotatedError(error, 'conflict')) return { kind: 'moved', rotation: now };
    }
    return fail(context, now ?? rotation, error);
  }
}

async function fail(context: Context, rotation: Rotation, thrown: unknown): Promise<StepResult> {
  const { ports, store } = context;
  const error = asRotatedError(thrown, 'unknown', rotation.secrets[0]);
  if (error.code === 'unexpected')
    ports.log.error(
      {
        rotation: rotation.id,
        secret: rotation.secrets[0],
        phase: rotation.phase,
        stack: stackOf(thrown),
      },
      'a step failed unexpectedly',
    );
  const attempts = rotation.data.attempts + 1;
  const decision = decideFailure({
    phase: rotation.phase,
    kind: rotation.data.kind,
    code: error.code,
    retryAfterMs: error.retryAfterMs,
    attempts,
    attemptsMax: Math.min(...rotation.data.members.map((member) => member.policy.failure.attempts)),
    jitter: ports.random.fraction(),
  });
  const lastError = { code: error.code, message: error.message };
  const at = ports.clock.now();
  switch (decision.kind) {
    case 'retry': {
      const wakeAtUptimeMs = (await store.journal.uptimeMs()) + decision.delayMs;
      const counted = decision.counts ? attempts : rotation.data.attempts;
      const next = { ...withData(rotation, { attempts: counted, lastError }), wakeAtUptimeMs };
      const isFirst = rotation.data.lastError?.code !== error.code;
      await commit(context, next, {
        audit: isFirst
          ? auditRotation(at, rotation, `rotation.${rotation.phase}.failed`, 'failed', () => ({
              code: error.code,
              attempts,
            }))
          : [],
      });
      if (counted === alertAtAttempts) tellAll(context, rotation, 'rotation.stuck', error);
      return { kind: 'wait', untilUptimeMs: wakeAtUptimeMs, waitsFor: error.message };
    }
    case 'park': {
      const parked = { code: error.code, message: error.message, next: error.next, at };
      const next = { ...withData(rotation, { attempts, lastError, parked }), parked: true };
      const moved = await commit(context, next, {
        audit: auditRotation(at, rotation, 'rotation.parked', 'failed', () => ({
          code: error.code,
        })),
      });
      tellAll(context, rotation, 'rotation.parked', error);
      return moved;
    }
    case 'abandon': {
      const moved = await abandon(
        context,
        rotation,
        { code: error.code, message: error.message },
        true,
      );
      tellAll(context, rotation, 'rotation.abandoned', error);
      return moved;
    }
    default:
      return decision satisfies never;
  }
}

function tellAll(context: Context, rotation: Rotation, event: string, error: RotatedError): void {
  for (const { policy, secret } of rotation.data.members) {
    const { message, next } = error;
    context.ports.notify(policy, {
      secret,
      rotation: rotation.id,
      level: 'alert',
      event,
      message,
      next,
    });
  }
}

/** File and line only: a foreign error's text may hold anything. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error) || error.stack === undefined) return '';
  return error.stack
    .split('\n')
    .filter((line) => line.trimStart().startsWith('at '))
    .slice(0, 6)
    .join('\n');
}
