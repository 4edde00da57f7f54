/** Tells people: a command or a webhook hears of a notice, once for each repeat, and no failure of it reaches a rotation. */
import { resolve } from 'node:path';
import { runChild } from '../child.ts';
import type { Clock } from '../clock.ts';
import { asRotatedError, RotatedError } from '../errors.ts';
import { callHttp, checkedUrl, type Fetch, statusFailure } from '../http.ts';
import type { NotifySpec } from '../policy/policy.ts';
import type { Redactor } from '../secret/redactor.ts';
import { createGate, type GateLimits } from './gate.ts';

/** Something a person should hear of. */
export interface Notice {
  readonly secret: string;
  readonly rotation: string | null;
  readonly level: 'info' | 'warn' | 'alert';
  readonly event: string;
  readonly message: string;
  readonly next: string | null;
}

export interface NotifierContext {
  /** The folder of the policy file: relative commands count from here. */
  readonly directory: string;
  readonly clock: Clock;
  readonly redactor: Pick<Redactor, 'redact'>;
  /** Hears of every notice that could not be delivered: for the log. */
  onFailure(error: RotatedError, notice: Notice): void;
  /** The runtime's own where absent. */
  readonly fetch?: Fetch;
  readonly timeoutMs?: number;
  readonly limits?: GateLimits;
}

export interface Notifier {
  readonly name: string;
  /**
   * Delivers the notice, or leaves it out where the same was said lately. Never rejects. What was left out is counted in
   * the next delivery's `suppressed`.
   */
  send(notice: Notice, signal: AbortSignal): Promise<void>;
}

/** Long enough for a slow chat service; nobody waits for it. */
const timeoutMsDefault = 10_000;

/** Opens nothing. Throws `policy-invalid` where the address cannot be used. */
export function createNotifier(spec: NotifySpec, context: NotifierContext): Notifier {
  const deliver = spec.kind === 'exec' ? byCommand(spec, context) : byWebhook(spec, context);
  const gate = createGate(context.clock, context.limits);
  return {
    name: spec.name,
    async send(notice, signal) {
      // One notice may differ from the next by its rotation alone: a person wants to hear of each.
      const key = JSON.stringify([
        notice.secret,
        notice.rotation,
        notice.level,
        notice.event,
        notice.message,
      ]);
      const pass = gate.enter(key);
      if (pass === null) return;
      try {
        await deliver(plain(notice, pass.suppressed, context), signal);
      } catch (error) {
        // So that saying it again is not taken for a repeat.
        gate.undo(key, pass);
        context.onFailure(asRotatedError(error, 'unknown', notice.secret), notice);
      }
    },
  };
}

type Deliver = (body: string, signal: AbortSignal) => Promise<void>;

/** JSON on stdin; exit 0 means delivered. */
function byCommand(
  spec: Extract<NotifySpec, { kind: 'exec' }>,
  { directory, timeoutMs = timeoutMsDefault }: NotifierContext,
): Deliver {
  const [program, ...args] = spec.command;
  const command = [program.includes('/') ? resolve(directory, program) : program, ...args] as const;
  return async (input, signal) => {
    const { exitCode, endedBy } = await runChild({
      command,
      cwd: directory,
      input,
      timeoutMs,
      signal,
    });
    if (exitCode === 0) return;
    throw new RotatedError(
      'unavailable',
      `The notifier ${spec.name} ended with ${endedBy ?? `exit code ${exitCode}`}.`,
      { effect: 'unknown', next: `Run ${program} by hand with a notice on its stdin.` },
    );
  };
}

/** A POST of JSON; any 2xx means delivered. The path of a webhook is often its password: no message carries it. */
function byWebhook(spec: Extract<NotifySpec, { kind: 'http' }>, context: NotifierContext): Deliver {
  const url = checkedUrl(spec.url, 'loopback');
  const fetch = context.fetch ?? globalThis.fetch;
  const place = `The notifier ${spec.name} at ${url.host}`;
  return async (body, signal) => {
    const answer = await callHttp(fetch, {
      url,
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      timeoutMs: context.timeoutMs ?? timeoutMsDefault,
      signal,
      place,
    });
    if (answer.status >= 200 && answer.status < 300) return;
    throw (
      statusFailure(answer, place, 'unknown') ??
      new RotatedError('invalid-answer', `${place} answered with status ${answer.status}.`, {
        next: 'Check the address of the webhook; redirects are not followed.',
      })
    );
  };
}

/** Field by field, so that nothing else that a caller's object carries goes out. */
function plain(notice: Notice, suppressed: number, { redactor, clock }: NotifierContext): string {
  const { secret, rotation, level, event, message, next } = notice;
  return JSON.stringify({
    secret,
    rotation,
    level,
    event,
    message: redactor.redact(message),
    next: next === null ? null : redactor.redact(next),
    at: new Date(clock.now()).toISOString(),
    suppressed,
  });
}
