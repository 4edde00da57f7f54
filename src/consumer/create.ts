/** Builds a consumer from its policy: the half that is told, the half that reports, and the errors that leave either. */
import { asRotatedError, type Effect, isRotatedError } from '../errors.ts';
import type { ConsumerSpec } from '../policy/policy.ts';
import type { Consumer } from './consumer.ts';
import { execTarget } from './exec.ts';
import { fileTarget } from './file.ts';
import { gateReporter, gateTarget } from './gate.ts';
import { httpTarget } from './http.ts';
import { createReporter } from './report.ts';
import { signalTarget } from './signal.ts';
import type { ConsumerContext, Target } from './target.ts';

export type { ConsumerContext } from './target.ts';

/** Opens nothing. Throws `policy-invalid` where the policy asks for something that cannot work. */
export function createConsumer(spec: ConsumerSpec, context: ConsumerContext): Consumer {
  const target = createTarget(spec, context);
  // A gate's instances tell through the line they are connected by.
  const reporter =
    spec.kind === 'gate'
      ? gateReporter(spec, context)
      : createReporter(spec.report, spec.timeoutMs, context);
  return {
    // A server that both uses a secret and checks it is told as each: two consumers.
    id: spec.role === 'user' ? target.id : `${target.id}#verifier`,
    role: spec.role,
    reports: reporter !== null,
    probe: (signal) => sanitized(signal, 'none', () => target.probe(signal)),
    reload: (changes, signal) =>
      changes.length === 0
        ? Promise.resolve()
        : sanitized(signal, 'unknown', () => target.reload(changes, signal)),
    report: async (secret, signal, known = []) =>
      reporter === null
        ? 'unknown'
        : sanitized(signal, 'none', () => reporter(secret, signal, known)),
  };
}

function createTarget(spec: ConsumerSpec, context: ConsumerContext): Target {
  switch (spec.kind) {
    case 'signal':
      return signalTarget(spec, context);
    case 'http':
      return httpTarget(spec, context);
    case 'exec':
      return execTarget(spec, context);
    case 'file':
      return fileTarget(spec, context);
    case 'gate':
      return gateTarget(spec, context);
    default:
      return spec satisfies never;
  }
}

/** Nothing but RotatedErrors leaves, and an abort, whatever its reason, is a `timeout`. */
async function sanitized<T>(
  signal: AbortSignal,
  effect: Effect,
  work: () => Promise<T>,
): Promise<T> {
  try {
    signal.throwIfAborted();
    return await work();
  } catch (error) {
    if (isRotatedError(error)) throw error;
    if (!signal.aborted) throw asRotatedError(error, effect);
    throw asRotatedError(new DOMException('', 'AbortError'), effect);
  }
}
