/** What stands between a provider and the rest: a deadline on every call, answers checked, errors without anything the issuer said. */
import type { Clock } from '../clock.ts';
import {
  asRotatedError,
  type Effect,
  errorCodes,
  type ErrorCode,
  RotatedError,
} from '../errors.ts';
import type { Finding, Verdict } from '../finding.ts';
import { type Fields, fieldsEqual } from '../secret/secret.ts';
import {
  invalidAnswer,
  oneLine,
  parseFindings,
  parseInfo,
  parseMinted,
  parsePrepared,
  parseRef,
  parseVerdict,
  readableFields,
  secretFields,
  UnusableAnswer,
} from './answers.ts';
import type {
  CredentialInfo,
  Minted,
  MintRequest,
  PrepareRequest,
  Prepared,
  ProviderSession,
  Traits,
} from './provider.ts';

/** What the wrapper needs of a redactor: minted values go in before anything else is done with them. */
export interface ValueRedactor {
  add(fields: Fields): void;
  redact(text: string): string;
}

export interface WrapOptions {
  /** Its name, for messages. */
  readonly secret: string;
  /** For each call by itself; must be shorter than the lease of the state directory. */
  readonly deadlineMs: number;
  readonly redactor: ValueRedactor;
  readonly clock: Clock;
  /** Ends every call, whatever signal the call itself is given. */
  readonly signal: AbortSignal;
  /** Where given, a session whose methods do not match its capabilities is refused as `provider-broken`. */
  readonly traits?: Traits | undefined;
}

/** More than any issuer's account holds, small enough for memory: 10,000 infos are a few megabytes. */
const listMax = 10_000;
/** Closing must not hold up what was already achieved. */
const disposeMs = 5_000;

type Call = Exclude<keyof ProviderSession, symbol>;

const mutating: ReadonlySet<Call> = new Set(['mint', 'revoke', 'disable', 'enable']);
/** These codes say by themselves that nobody knows: a forgotten `effect` must not turn them into "nothing happened". */
const uncertain: ReadonlySet<ErrorCode> = new Set([
  'timeout',
  'ambiguous',
  'invalid-answer',
  'unexpected',
]);

/**
 * The same session, made safe. Its calls throw nothing but RotatedErrors that hold neither a cause nor a known secret
 * value; `effect` is none for the calls that change nothing, and unknown for the others unless the provider knows better.
 */
export function wrapSession(session: ProviderSession, options: WrapOptions): ProviderSession {
  const { secret, redactor } = options;
  if (options.traits !== undefined) refuseMismatch(session, options.traits, secret);

  /** Runs one call under deadline and abort; a late answer is dropped, its values still reach the redactor. */
  async function call<T>(
    name: Call,
    signal: AbortSignal,
    run: (signal: AbortSignal) => Promise<unknown>,
    read: (answer: unknown) => T,
  ): Promise<T> {
    const effect: Effect = mutating.has(name) ? 'unknown' : 'none';
    const answer = await underDeadline(name, effect, signal, run);
    try {
      return read(answer);
    } catch (error) {
      if (error instanceof RotatedError) throw error;
      throw invalidAnswer(name, reasonOf(error), { effect, secret });
    }
  }

  async function underDeadline(
    name: Call,
    effect: Effect,
    outer: AbortSignal,
    run: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<unknown> {
    const stop = AbortSignal.any([outer, options.signal]);
    // Not begun, so nothing happened.
    if (stop.aborted) throw stopped(name, 'none');
    const deadline = new AbortController();
    const settled = new AbortController();
    const signal = AbortSignal.any([stop, deadline.signal]);
    // A provider that ignores its signal must not hold the caller.
    const ended = new Promise<never>((_resolve, reject) => {
      signal.addEventListener(
        'abort',
        () => reject(deadline.signal.aborted ? late(name, effect) : stopped(name, effect)),
        { once: true },
      );
    });
    void options.clock.sleep(options.deadlineMs, settled.signal).then(
      () => deadline.abort(new DOMException('The deadline passed.', 'TimeoutError')),
      // The call ended first.
      () => undefined,
    );
    // In a function of its own, so that a synchronous throw is a rejection like any other.
    const answer = (async () => run(signal))();
    answer.then(learnValues, () => undefined);
    try {
      return await Promise.race([answer, ended]);
    } catch (error) {
      throw sanitize(error, name, effect);
    } finally {
      // The default reason is an error with a stack: 3 % of an emergency's time.
      settled.abort('settled');
    }
  }

  /** Before the answer is even checked: whatever is wrong with it, its values are real. */
  function learnValues(answer: unknown): void {
    const fields = secretFields(readableFields(answer));
    if (Object.keys(fields).length > 0) redactor.add(fields);
  }

  function sanitize(error: unknown, name: Call, effect: Effect): RotatedError {
    const own = ownError(error);
    if (own === null) {
      const foreign = asRotatedError(withPlainName(error), effect, secret);
      const { code, message, retryAfterMs } = foreign;
      return new RotatedError(code, `${name}: ${oneLine(redactor.redact(message))}`, {
        effect,
        secret,
        retryAfterMs,
        next: 'See the log of the issuer, or run the provider by itself.',
      });
    }
    return new RotatedError(own.code, oneLine(redactor.redact(own.message)), {
      effect: effectOf(own, effect),
      secret,
      next: oneLine(redactor.redact(own.next)),
      retryAfterMs: own.retryAfterMs,
    });
  }

  function late(name: Call, effect: Effect): RotatedError {
    return new RotatedError('timeout', `${name} did not answer within ${options.deadlineMs} ms.`, {
      effect,
      secret,
      next: 'Check that the issuer can be reached from here.',
    });
  }

  function stopped(name: Call, effect: Effect): RotatedError {
    return new RotatedError('timeout', `${name} was ended before it had answered.`, {
      effect,
      secret,
      next: 'Nothing to do: the rotation resumes where it was.',
    });
  }

  async function* list(outer: AbortSignal): AsyncIterable<CredentialInfo> {
    // One call: all pages under one deadline, then handed out.
    const infos = await call('list', outer, collect, (answer) => answer as CredentialInfo[]);
    yield* infos;
  }

  async function collect(signal: AbortSignal): Promise<CredentialInfo[]> {
    const infos: CredentialInfo[] = [];
    for await (const info of session.list?.(signal) ?? []) {
      if (infos.length === listMax) {
        throw invalidAnswer('list', `it has more than ${listMax} entries`, {
          effect: 'none',
          secret,
        });
      }
      infos.push(readInfo(info));
    }
    return infos;
  }

  function readInfo(info: unknown): CredentialInfo {
    try {
      return parseInfo(info);
    } catch (error) {
      throw invalidAnswer('list', reasonOf(error), { effect: 'none', secret });
    }
  }

  function readMinted(answer: unknown, request: MintRequest): Minted {
    const sent = [request.current?.fields, request.prepared?.fields].filter(
      (one) => one !== undefined,
    );
    const minted = parseMinted(answer, sent);
    refuseUnchanged(minted, request);
    refuseOther(minted, request.prepared);
    return minted;
  }

  const clean = (text: string): string => redactor.redact(text);
  const nothing = (): void => undefined;
  const { prepare, disable, enable, resolve } = session;

  return {
    check: (signal): Promise<Finding[]> =>
      call(
        'check',
        signal,
        (inner) => session.check(inner),
        (answer) => parseFindings(answer, clean),
      ),
    ...(prepare === undefined
      ? {}
      : {
          prepare: (request: PrepareRequest, signal: AbortSignal): Promise<Prepared> =>
            call(
              'prepare',
              signal,
              (inner) => prepare.call(session, request, inner),
              (answer) =>
                parsePrepared(answer, request.current === null ? [] : [request.current.fields]),
            ),
        }),
    mint: (request, signal): Promise<Minted> =>
      call(
        'mint',
        signal,
        (inner) => session.mint(request, inner),
        (answer) => readMinted(answer, request),
      ),
    verify: (credential, signal): Promise<Verdict> =>
      call(
        'verify',
        signal,
        (inner) => session.verify(credential, inner),
        (answer) => parseVerdict(answer, clean),
      ),
    ...(disable === undefined
      ? {}
      : {
          disable: (ref: string, signal: AbortSignal) =>
            call('disable', signal, (inner) => disable.call(session, ref, inner), nothing),
        }),
    ...(enable === undefined
      ? {}
      : {
          enable: (ref: string, signal: AbortSignal) =>
            call('enable', signal, (inner) => enable.call(session, ref, inner), nothing),
        }),
    revoke: (ref, signal) => call('revoke', signal, (inner) => session.revoke(ref, inner), nothing),
    ...(session.list === undefined ? {} : { list }),
    ...(resolve === undefined
      ? {}
      : {
          resolve: (fields: Fields, signal: AbortSignal) =>
            call(
              'resolve',
              signal,
              (inner) => resolve.call(session, fields, inner),
              (answer) => parseRef(answer, [fields]),
            ),
        }),
    async [Symbol.asyncDispose]() {
      const settled = new AbortController();
      try {
        await Promise.race([
          session[Symbol.asyncDispose](),
          options.clock.sleep(disposeMs, settled.signal),
        ]);
      } catch {
        // What the session was opened for is done or has already thrown; a failed goodbye changes neither.
      } finally {
        settled.abort('settled');
      }
    },
  };
}

/** A declared capability without its method would fail in the middle of a rotation; found when the session opens instead. */
function refuseMismatch(session: ProviderSession, traits: Traits, secret: string): void {
  const { capabilities, crashClass } = traits;
  const has = (name: Call): boolean => typeof session[name] === 'function';
  const wrong = [
    ...(['check', 'mint', 'verify', 'revoke'] as const).filter((name) => !has(name)),
    ...(['list', 'disable', 'resolve'] as const).filter((name) => capabilities[name] !== has(name)),
    ...(capabilities.disable && !has('enable') ? (['enable'] as const) : []),
    ...(crashClass === 'chosen' && !has('prepare') ? (['prepare'] as const) : []),
    ...(crashClass === 'listable' && !has('list') ? (['list'] as const) : []),
  ];
  if (wrong.length === 0) return;
  throw new RotatedError(
    'provider-broken',
    `The provider's session does not do what its traits declare: ${[...new Set(wrong)].join(', ')}.`,
    { secret, next: 'Make the traits and the methods of the provider agree.' },
  );
}

/** A mint that hands out the present value again would look like a rotation and be none. */
function refuseUnchanged(minted: Minted, { current }: MintRequest): void {
  if (current === null) return;
  const fresh = secretFields(minted.fields);
  // Compared by the names they share: the backend may keep only some of the fields.
  const shared = Object.keys(fresh).filter((name) => current.fields[name] !== undefined);
  if (shared.length === 0) return;
  const pick = (fields: Fields): Fields =>
    Object.fromEntries(
      shared.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])),
    );
  if (fieldsEqual(pick(fresh), pick(current.fields)))
    throw new UnusableAnswer('the secret did not change');
}

/** Prepared material was sealed before the call: a different answer is one that nobody has sealed. */
function refuseOther(minted: Minted, prepared: Prepared | null): void {
  if (prepared === null) return;
  if (minted.ref !== prepared.ref)
    throw new UnusableAnswer('it names another ref than was prepared');
  for (const [name, value] of Object.entries(prepared.fields)) {
    if (minted.fields[name]?.equals(value) !== true) {
      throw new UnusableAnswer('it holds other values than were prepared');
    }
  }
}

interface OwnError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly effect: Effect;
  readonly next: string;
  readonly retryAfterMs: number | undefined;
}

/** By shape, not by class: a plugin may bring its own copy of this package. */
function ownError(error: unknown): OwnError | null {
  if (!(error instanceof Error) || error.name !== 'RotatedError') return null;
  const { code, message, effect, next, retryAfterMs } = error as Partial<RotatedError>;
  if (typeof code !== 'string' || !Object.hasOwn(errorCodes, code)) return null;
  return {
    code,
    message: typeof message === 'string' ? message : '',
    effect: effect === 'none' || effect === 'applied' ? effect : 'unknown',
    next: typeof next === 'string' ? next : '',
    retryAfterMs:
      typeof retryAfterMs === 'number' && Number.isFinite(retryAfterMs) && retryAfterMs >= 0
        ? retryAfterMs
        : undefined,
  };
}

function effectOf(own: OwnError, most: Effect): Effect {
  if (most === 'none') return 'none';
  return own.effect === 'none' && uncertain.has(own.code) ? 'unknown' : own.effect;
}

/** A plugin can name its error class after anything, a value included. */
function withPlainName(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const known = ['TimeoutError', 'AbortError', 'TypeError', 'RangeError', 'SyntaxError'];
  const plain = new Error('');
  plain.name = known.includes(error.name) ? error.name : 'Error';
  const code = (error as { code?: unknown }).code;
  const isSystemCode = typeof code === 'string' && /^E[A-Z0-9]{2,15}$/.test(code);
  return isSystemCode ? Object.assign(plain, { code }) : plain;
}

/** Reasons of our own checks quote nothing; anything else (a throwing getter) is not repeated. */
function reasonOf(error: unknown): string {
  return error instanceof UnusableAnswer ? error.message : 'it cannot be read';
}
