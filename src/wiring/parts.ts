/** What policies name, built when it is first asked for and kept: consumers, checks, notifiers. */
import type { Clock, Random } from '../clock.ts';
import type { Consumer } from '../consumer/consumer.ts';
import { createConsumer } from '../consumer/create.ts';
import type { GateFeed } from '../consumer/gate.ts';
import type { Fetch } from '../http.ts';
import { createNotifier, type Notifier } from '../notify/notifier.ts';
import type { ConsumerSpec, Policy } from '../policy/policy.ts';
import type { Log, Ports } from '../rotation/ports.ts';
import type { Redactor } from '../secret/redactor.ts';
import type { Fields } from '../secret/secret.ts';
import { createVerifier } from '../verify/create.ts';
import type { Values } from './values.ts';

export interface PartsOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly redactor: Redactor;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly fetch: Fetch | undefined;
  readonly gate: GateFeed;
  /** Servers that use this secret though its policy does not say so: they were granted it. */
  serversOf(policy: Policy): readonly string[];
  values(policyOf: (secret: string) => Policy | null): Values;
}

export interface Parts extends Pick<Ports, 'verifiers' | 'consumers' | 'notify'> {
  resolveReference(reference: string, signal: AbortSignal): Promise<Fields>;
  /** Resolves when no notice is on its way any more; each has a deadline of its own. */
  drained(): Promise<void>;
}

/** More than one deployment names; beyond it the oldest are built again when needed. */
const keptMost = 20_000;

export function createParts(options: PartsOptions): Parts {
  const { clock, random, redactor, log, signal } = options;
  const fetch = options.fetch === undefined ? {} : { fetch: options.fetch };
  /** By secret, as last handed over: a rotation's consumers read under the policy that it began with. */
  const policies = new Map<string, Policy>();
  const values = options.values((secret) => policies.get(secret) ?? null);
  /** The same words in the same folder are the same target: its turns and limits are shared by all who name it. */
  const consumers = keeper<Consumer>(keptMost);
  const notifiers = keeper<Notifier>(keptMost);
  const sending = new Set<Promise<void>>();

  return {
    resolveReference: values.resolveReference,
    consumers(policy) {
      policies.set(policy.name, policy);
      const { directory } = policy;
      return [...policy.consumers, ...granted(policy, options.serversOf(policy))].map((spec) =>
        consumers(JSON.stringify([directory, spec]), () =>
          createConsumer(spec, {
            directory,
            read: values.reader,
            resolveReference: values.resolveReference,
            clock,
            random,
            redactor,
            gate: options.gate,
            ...fetch,
          }),
        ),
      );
    },
    verifiers: (policy) =>
      policy.verify
        .filter((spec) => spec.kind !== 'provider')
        .map((spec) =>
          createVerifier(spec, { directory: policy.directory, redactor, clock, ...fetch }),
        ),
    notify(policy, notice) {
      for (const spec of policy.notify) {
        const notifier = notifiers(JSON.stringify([policy.directory, spec]), () =>
          createNotifier(spec, {
            directory: policy.directory,
            clock,
            redactor,
            onFailure: (error, { secret, event }) =>
              log.warn({ notifier: spec.name, secret, event, code: error.code }, 'notice not sent'),
            ...fetch,
          }),
        );
        const sent = notifier.send(notice, signal).finally(() => sending.delete(sent));
        sending.add(sent);
      }
    },
    drained: async () => {
      await Promise.all(sending);
    },
  };
}

/** How long a gate may take to be told: it is a line of this process. */
const tellTimeoutMs = 10_000;

/** A server that was granted the secret goes on using the old one unless it hears of the new. */
function granted(policy: Policy, servers: readonly string[]): readonly ConsumerSpec[] {
  const named = new Set(policy.consumers.map((one) => (one.kind === 'gate' ? one.server : null)));
  return servers
    .filter((server) => !named.has(server))
    .map((server) => ({
      kind: 'gate',
      role: 'user',
      report: null,
      timeoutMs: tellTimeoutMs,
      server,
      command: null,
      settings: {},
    }));
}

function keeper<T>(most: number): (key: string, build: () => T) => T {
  const kept = new Map<string, T>();
  return (key, build) => {
    const before = kept.get(key);
    if (before !== undefined) return before;
    const built = build();
    for (const oldest of kept.keys()) {
      if (kept.size < most) break;
      kept.delete(oldest);
    }
    kept.set(key, built);
    return built;
  };
}
