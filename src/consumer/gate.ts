/** The gate consumer: the running instances of one MCP server, told and asked through the feed they are connected to. */
import type { ConsumerSpec } from '../policy/policy.ts';
import { consumerFailed } from './failures.ts';
import type { InstanceReport } from './consumer.ts';
import type { ConsumerContext, Reporter, Target } from './target.ts';

/** The daemon's end of the feed, as this consumer needs it. Each throws `consumer-failed` where the feed is closed. */
export interface GateFeed {
  probe(server: string): Promise<void>;
  /** Every connected instance asks for its values again. `urgent`: an emergency, calls may be cut. */
  tell(server: string, urgent: boolean): Promise<void>;
  /** Of the instances that use this secret. `known`: those seen before, which may only be proven gone. */
  report(
    server: string,
    secret: string,
    known: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly InstanceReport[]>;
}

type GateSpec = Extract<ConsumerSpec, { kind: 'gate' }>;

/** No instance at all is no failure: a server that does not run reads what is current when it starts. */
export function gateTarget(spec: GateSpec, { gate }: Pick<ConsumerContext, 'gate'>): Target {
  const feed = feedOf(spec, gate);
  return {
    id: gateConsumerId(spec.server),
    probe: () => feed().probe(spec.server),
    reload: (changes) =>
      feed().tell(
        spec.server,
        changes.some(({ urgent }) => urgent === true),
      ),
  };
}

export function gateReporter(spec: GateSpec, { gate }: Pick<ConsumerContext, 'gate'>): Reporter {
  const feed = feedOf(spec, gate);
  return (secret, signal, known) => feed().report(spec.server, secret, known, signal);
}

export function gateConsumerId(server: string): string {
  return `gate:${server}`;
}

function feedOf(spec: GateSpec, gate: ConsumerContext['gate']): () => GateFeed {
  return () => {
    if (gate !== undefined) return gate;
    throw consumerFailed(
      gateConsumerId(spec.server),
      'cannot be reached: this program serves no feed',
      'none',
      'Ask the daemon: rotate status.',
    );
  };
}
