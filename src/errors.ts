/** The one table of error codes, and the error that carries what happened, whether it took effect, and the next step. */

/** Whether the call that failed changed anything outside: decides if a retry is safe. */
export type Effect = 'none' | 'applied' | 'unknown';

/**
 * Every code this program can print, with what it means in one line.
 * `docs/errors.md` holds the same codes (a test compares the two).
 */
export const errorCodes = {
  // policy and configuration
  'policy-invalid': 'a policy file has mistakes',
  'policy-unsafe': 'a policy file, key file or pidfile can be changed or read by others',
  'policy-unknown': 'no policy has this name',
  'policy-change-refused': 'a policy edit cannot apply while a rotation is active',
  usage: 'the command line has a mistake',
  unsupported: 'this version does not do what was asked',
  // state directory
  'state-busy': 'another process owns the state directory',
  'state-corrupt': 'the state database is damaged',
  'state-newer': 'the state directory was written by a newer version',
  'state-read-only': 'the state directory cannot be written',
  'state-full': 'the disk is full',
  'state-network': 'the state directory is on a network file system',
  'state-missing': 'the state directory does not exist',
  'fence-lost': 'another process took this state directory over',
  conflict: 'the record changed under this writer',
  // keys and sealing
  'key-unknown': 'a sealed record names a key that is not available',
  'key-unsafe': 'a key file can be read by others',
  'key-missing': 'the key-encryption key cannot be read',
  'seal-broken': 'a sealed record does not open: damaged, or moved from another record',
  // remote calls
  timeout: 'a remote call did not answer within its deadline',
  unavailable: 'a remote service is unreachable or answers with a server error',
  throttled: 'a remote service asks to slow down',
  denied: 'the credential used lacks a right',
  unauthenticated: 'the credential used was not accepted',
  'not-found': 'the named thing does not exist',
  'invalid-answer': 'a remote service answered with something that cannot be understood',
  'too-large': 'the value exceeds the size limit of the backend',
  ambiguous: 'a write may or may not have landed',
  // provider
  'provider-unknown': 'no provider has this name',
  'provider-options': 'the options of a provider have mistakes',
  'provider-broken': 'a provider module does not follow the interface',
  'limit-reached': 'the issuer allows no further live credential',
  'self-admin': 'the credential to be revoked is the one the provider authenticates with',
  // rotation
  'already-active': 'a rotation of this secret is active',
  'not-active': 'no rotation of this secret is active',
  'way-back-closed': 'the old credential is being retired: there is nothing to roll back to',
  'item-locked': 'another rotation is writing this item of the backend',
  'pending-foreign': 'the backend holds a pending version that is not ours',
  'item-lost': 'the backend no longer has an item that it had',
  'verify-failed': 'the new credential does not work',
  'rights-differ': 'the new credential has other rights, owner or lifetime than its predecessor',
  'would-kill-current': 'revoking this would end the credential that the backend serves now',
  'mint-blind': 'a mint whose outcome is unknown cannot be looked up at this issuer',
  'needs-person': 'a person has to act',
  paused: 'the schedule of this secret is paused',
  'adoption-timeout': 'consumers did not confirm the new generation in time',
  'still-alive': 'a revoked credential is still accepted',
  'contain-refused': 'revoking first is not safe here',
  'escrow-missing': 'no sealed copy of the current credential is kept',
  // consumers
  'consumer-failed': 'a consumer could not be reloaded',
  'consumer-unsafe': 'a consumer target is not what the policy says: reused pid or other owner',
  'report-unsigned': 'a consumer report carries no valid signature',
  // gate
  'not-granted': 'a server asks for a value that nobody granted it',
  'swap-failed': 'a running server did not take the new credential over',
  // audit
  'audit-broken': 'the audit chain was edited, cut or reordered',
  // command and daemon
  'daemon-silent': 'the daemon does not answer',
  refused: 'the command is refused as it stands',
  'node-too-old': 'this Node is too old',
  unexpected: 'a defect in this program',
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface ErrorDetail {
  readonly effect?: Effect;
  /** The secret concerned: its name, never its value. */
  readonly secret?: string | undefined;
  /** What the reader should do now, as an imperative sentence. */
  readonly next?: string;
  /** Only errors that are known to hold no secret: our own, or sanitized where they entered. */
  readonly cause?: unknown;
  /** How long the remote side asked to wait, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

export class RotatedError extends Error {
  override readonly name = 'RotatedError';
  readonly code: ErrorCode;
  readonly effect: Effect;
  readonly secret: string | undefined;
  readonly next: string;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.effect = detail.effect ?? 'none';
    this.secret = detail.secret;
    this.next = detail.next ?? '';
    this.retryAfterMs = detail.retryAfterMs;
  }

  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      message: this.message,
      effect: this.effect,
      ...(this.secret === undefined ? {} : { secret: this.secret }),
      ...(this.next === '' ? {} : { next: this.next }),
    };
  }
}

/** A RotatedError's JSON, read back: from the other end of a line of our own. */
export interface ErrorJson {
  readonly code: string;
  readonly message: string;
  readonly effect?: string;
  readonly secret?: string;
  readonly next?: string;
}

export function errorFromJson(error: ErrorJson): RotatedError {
  const known = Object.hasOwn(errorCodes, error.code);
  return new RotatedError(known ? (error.code as ErrorCode) : 'unexpected', error.message, {
    effect: error.effect === 'applied' || error.effect === 'unknown' ? error.effect : 'none',
    secret: error.secret,
    ...(error.next === undefined ? {} : { next: error.next }),
  });
}

export function isRotatedError(
  error: unknown,
  ...codes: readonly ErrorCode[]
): error is RotatedError {
  return error instanceof RotatedError && (codes.length === 0 || codes.includes(error.code));
}

/**
 * Turns whatever was thrown into a RotatedError. A foreign error's message may hold anything that
 * the issuer or a child process printed, so only its class name is kept, never its text.
 */
export function asRotatedError(error: unknown, effect: Effect, secret?: string): RotatedError {
  if (error instanceof RotatedError) return error;
  const kind = error instanceof Error ? className(error.name) : typeof error;
  if (error instanceof Error && (error.name === 'TimeoutError' || error.name === 'AbortError')) {
    return new RotatedError('timeout', 'The call was ended at its deadline.', { effect, secret });
  }
  const systemCode = (error as { code?: unknown } | null)?.code;
  const suffix =
    typeof systemCode === 'string' && /^(E[A-Z]{2,20}|(UND_)?ERR_[A-Z_]{2,40})$/.test(systemCode)
      ? ` (${systemCode})`
      : '';
  return new RotatedError('unexpected', `Unexpected ${kind}${suffix}.`, { effect, secret });
}

/** `name` can be set to anything, a value too: only what reads like a class of errors is repeated. */
function className(name: unknown): string {
  return typeof name === 'string' && /^[A-Z][A-Za-z]{0,40}(Error|Exception)$/.test(name)
    ? name
    : 'Error';
}
