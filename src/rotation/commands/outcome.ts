/** How a command's outcome is said: started, done, or refused with the next step. */
import { isRotatedError, type RotatedError } from '../../errors.ts';
import type { Started } from '../service.ts';

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

export function isRefusal(error: unknown): error is RotatedError {
  return isRotatedError(error) && error.code !== 'fence-lost' && error.code !== 'unexpected';
}
