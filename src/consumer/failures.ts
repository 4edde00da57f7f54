/** The two ways in which reaching a consumer fails: it could not be told, or it is not the one that the policy means. */
import { type Effect, RotatedError } from '../errors.ts';

/** `place` says which consumer and where, never a value. */
export function consumerFailed(
  place: string,
  what: string,
  effect: Effect,
  next: string,
  cause?: RotatedError,
): RotatedError {
  return new RotatedError('consumer-failed', `${place} ${what}.`, {
    effect,
    next,
    ...(cause === undefined ? {} : { cause, retryAfterMs: cause.retryAfterMs }),
  });
}

export function consumerUnsafe(place: string, what: string, next: string): RotatedError {
  return new RotatedError('consumer-unsafe', `${place} ${what}.`, { next });
}
