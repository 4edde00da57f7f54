/** How a command's outcome is said: started, done, or refused with the next step. */
import { isRotatedError, type RotatedError } from '../../errors.ts';
import type { Context } from '../context.ts';
import type { Ask, Started } from '../service.ts';
import { auditEvent } from '../store.ts';

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

/** Who tried what and was refused is a line of the trail as well. */
export async function recordRefusal(
  context: Context,
  command: string,
  secret: string,
  ask: Ask,
  { code }: RotatedError,
): Promise<void> {
  const subject = { secret, rotation: null, ...ask };
  const at = context.ports.clock.now();
  await context.store.write({
    audit: [auditEvent(at, subject, `command.${command}`, 'refused', { code })],
  });
}

export function isRefusal(error: unknown): error is RotatedError {
  return isRotatedError(error) && error.code !== 'fence-lost' && error.code !== 'unexpected';
}
