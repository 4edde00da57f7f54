/** Which exit code says what: the table of the command line, and the way an error becomes one. */
import { asRotatedError, type ErrorCode, type RotatedError } from '../errors.ts';
import type { Started } from '../rotation/service.ts';
import type { Io } from './io.ts';

export const exitCodes = {
  ok: 0,
  unexpected: 1,
  usage: 2,
  refused: 3,
  /** Failed and rolled back, or abandoned: the old credential is still the one in use. */
  failed: 4,
  /** The new credential is in use; the old one is not dead yet, or something else is still owed. */
  debts: 5,
  person: 6,
  silent: 7,
} as const;

export type Exit = keyof typeof exitCodes;

/** The codes that are neither a defect nor a fault of the machine: what was asked is not done as it stands. */
const refused: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'policy-invalid',
  'policy-unsafe',
  'policy-unknown',
  'policy-change-refused',
  'unsupported',
  'state-busy',
  'state-newer',
  'state-network',
  'state-missing',
  'key-unknown',
  'key-unsafe',
  'key-missing',
  'provider-unknown',
  'provider-options',
  'limit-reached',
  'self-admin',
  'already-active',
  'not-active',
  'way-back-closed',
  'item-locked',
  'pending-foreign',
  'item-lost',
  'would-kill-current',
  'paused',
  'contain-refused',
  'escrow-missing',
  'denied',
  'not-found',
  'not-granted',
  'swap-failed',
  'too-large',
  'refused',
]);

function exitOfCode(code: ErrorCode): Exit {
  if (code === 'usage') return 'usage';
  if (code === 'daemon-silent') return 'silent';
  if (code === 'needs-person') return 'person';
  return refused.has(code) ? 'refused' : 'unexpected';
}

/** Message, next step, code. With `verbose` also where it was thrown, for our own defects. */
export function printError(
  io: Io,
  thrown: unknown,
  options: { readonly json: boolean; readonly verbose: boolean },
): Exit {
  const error = asRotatedError(thrown, 'unknown');
  if (options.json) {
    io.out(`${JSON.stringify({ ok: false, error: error.toJSON() })}\n`);
  } else {
    io.err(errorText(io.program, error));
  }
  if (options.verbose && thrown instanceof Error && thrown.stack !== undefined) {
    // The stack's frames alone: the first line repeats the message, which for a foreign error may hold anything.
    const frames = thrown.stack.split('\n').filter((line) => /^\s+at /.test(line));
    io.err(`${frames.join('\n')}\n`);
  } else if (error.code === 'unexpected' && !options.json) {
    io.err('Next: run it again with --verbose to see where this was thrown.\n');
  }
  return exitOfCode(error.code);
}

function errorText(program: string, error: RotatedError): string {
  const about = error.secret === undefined ? '' : `${error.secret}: `;
  const next = error.next === '' ? '' : `Next: ${error.next}\n`;
  return `${program}: ${about}${error.message} (${error.code})\n${next}`;
}

/** The worst of several: what needs attention first comes first. */
export function worst(exits: Iterable<Exit>): Exit {
  const order: readonly Exit[] = [
    'unexpected',
    'usage',
    'silent',
    'failed',
    'person',
    'refused',
    'debts',
    'ok',
  ];
  const all = new Set(exits);
  return order.find((exit) => all.has(exit)) ?? 'ok';
}

export function exitOfStarted(started: Started): Exit {
  switch (started.outcome) {
    case 'started':
    case 'joined':
    case 'done':
      return 'ok';
    case 'refused':
      return 'refused';
    case 'waits-for-person':
      return 'person';
    default:
      return started.outcome satisfies never;
  }
}
