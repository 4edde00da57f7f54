/** The gate's daemon end, composed: the hub over the journal, the policies and the backends, and what it adds to the service. */
import type { GateFeed } from '../consumer/gate.ts';
import { gateConsumerId } from '../consumer/gate.ts';
import { systemProcesses } from '../consumer/processes.ts';
import { gateSocketPath } from '../control/socket-path.ts';
import { type PrivateServer, servePrivately } from '../control/socket-server.ts';
import type { Clock } from '../clock.ts';
import { defaultSettings, type ServerSettings } from '../gate/settings.ts';
import { answerTo, type ReadCurrent } from '../hub/answers.ts';
import { createGrants } from '../hub/grants.ts';
import { createHub, type Hub } from '../hub/hub.ts';
import { indexReferences } from '../hub/references.ts';
import type { GrantService } from '../hub/service.ts';
import type { Journal } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { Machine } from '../rotation/machine.ts';
import type { Log } from '../rotation/ports.ts';
import type { InstanceView } from '../rotation/service.ts';
import type { Redactor } from '../secret/redactor.ts';
import { programVersion } from '../version.ts';

export interface Gate extends GrantService {
  readonly feed: GateFeed;
  /** A shim's line: from a socket, or from a gate inside this process. */
  readonly accept: Hub['accept'];
  readonly serversOf: (policy: Policy) => readonly string[];
  own(fence: number): void;
  /** Without grants: they are read when they are asked for. */
  show(policies: ReadonlyMap<string, Policy>): void;
  usePolicies(policies: ReadonlyMap<string, Policy>): Promise<void>;
  /** As owner of the state: listens beside the control socket, and expects the instances that the journal knows. */
  serve(state: string, fence: number): Promise<PrivateServer>;
  /** The instances of a secret as they stand now; `noted` as the journal has them. */
  instancesNow(secret: string, noted: readonly InstanceView[]): readonly InstanceView[];
  /** What a person should know. */
  warnings(): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface GateOptions {
  readonly journal: Pick<Journal, 'grants' | 'commit' | 'instances'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly redactor: Redactor;
  readonly readCurrent: ReadCurrent;
}

/** Every client keeps a shim for each of its servers. */
const connectionsMax = 1_024;

export function createGate(options: GateOptions): Gate {
  const { journal, clock, log, redactor } = options;
  let index = indexReferences(new Map());
  let settings: ReadonlyMap<string, ServerSettings> = new Map();
  let fence: number | null = null;
  let serving = false;

  const uid = process.getuid?.();
  const grants = createGrants({
    journal,
    clock,
    index: () => index,
    // Whoever reaches the feed's socket is the account that its folder belongs to.
    account: { id: uid === undefined ? 'gate' : `uid ${uid}`, channel: 'socket', proven: true },
    onAllowed: (server) => hub.granted(server),
  });

  function show(policies: ReadonlyMap<string, Policy>): void {
    index = indexReferences(policies);
    settings = mergedSettings(policies);
  }

  async function commit(change: Omit<Parameters<Journal['commit']>[0], 'fence'>): Promise<void> {
    if (fence !== null) await journal.commit({ fence, ...change });
  }

  const hub = createHub({
    version: programVersion(),
    clock,
    log,
    processes: systemProcesses(() => clock.now()),
    redact: (text) => redactor.redact(text),
    settings: (server) => settings.get(server) ?? defaultSettings,
    resolve: (asker, signal) => answerTo(asker, grants, options.readCurrent, signal),
    secretsOf: (references) => index.secretsOf(references),
    remember: (server, instance, generations) =>
      commit({
        instances: Object.entries(generations).map(([secret, generation]) => ({
          consumer: gateConsumerId(server),
          secret,
          instance,
          data: { state: 'serving', generation },
        })),
      }),
    forget: (server, instance, secrets) =>
      commit({
        removeInstances: secrets.map((secret) => ({
          consumer: gateConsumerId(server),
          secret,
          instance,
        })),
      }),
  });

  async function expected() {
    const found: { server: string; secrets: string[]; instance: string }[] = [];
    for (const policy of index.policies.values()) {
      const stated = policy.consumers.flatMap((one) => (one.kind === 'gate' ? [one.server] : []));
      for (const server of new Set([...stated, ...grants.serversOf(policy)])) {
        const rows = await journal.instances(policy.name);
        const ours = rows.filter(({ consumer }) => consumer === gateConsumerId(server));
        found.push(...ours.map(({ instance }) => ({ server, secrets: [policy.name], instance })));
      }
    }
    return found;
  }

  return {
    feed: hub,
    accept: hub.accept,
    serversOf: grants.serversOf,
    grants: grants.grants,
    allow: grants.allow,
    disallow: grants.disallow,
    own(given) {
      fence = given;
      grants.own(given);
    },
    show,
    async usePolicies(policies) {
      show(policies);
      await grants.load();
      hub.refresh();
    },
    async serve(state, given) {
      hub.expect(await expected());
      const server = await servePrivately({
        path: gateSocketPath(state),
        ownName: `g${given.toString(36)}.sock`,
        connectionsMax,
        onConnection: hub.accept,
      });
      serving = true;
      return {
        path: server.path,
        close: async () => {
          const closed = server.close();
          await hub.close();
          await closed;
        },
      };
    },
    instancesNow(secret, noted) {
      if (!serving) return noted;
      const live = hub
        .view()
        .filter(({ secrets }) => secrets.includes(secret))
        .map((one): InstanceView => {
          const { instance, generation, state } = one.report(secret);
          return { consumer: gateConsumerId(one.server), instance, generation, state };
        });
      const seen = new Set(live.map(({ instance }) => instance));
      const others = noted
        .filter(({ instance }) => !seen.has(instance))
        .map((one) => (one.consumer.startsWith('gate:') ? { ...one, state: 'unreachable' } : one));
      return [...others, ...live];
    },
    async warnings() {
      const { refused } = await grants.grants();
      const problems = hub
        .view()
        .flatMap(({ server, instance, problem }) =>
          problem === null
            ? []
            : [`${server} keeps its old credential (${instance}): ${problem.message}`],
        );
      const asked = refused.map(
        ({ server, references }) =>
          `${server} asks for ${references.join(', ')}, which nobody granted it. Next: rotate allow ${server}`,
      );
      return [...problems, ...asked];
    },
    close: () => hub.close(),
  };
}

/** Several policies may speak of one server: what one leaves unsaid another may say; the first by name wins. */
function mergedSettings(
  policies: ReadonlyMap<string, Policy>,
): ReadonlyMap<string, ServerSettings> {
  const merged = new Map<string, ServerSettings>();
  const inOrder = [...policies.values()].sort((a, b) => (a.name < b.name ? 1 : -1));
  for (const policy of inOrder) {
    for (const one of policy.consumers) {
      if (one.kind !== 'gate') continue;
      merged.set(one.server, { ...(merged.get(one.server) ?? defaultSettings), ...one.settings });
    }
  }
  return merged;
}

/** What the gate adds to the answers about the whole, and the questions about grants. */
export function withGate(machine: Machine, gate: Gate): Machine & GrantService {
  return {
    ...machine,
    grants: gate.grants,
    allow: gate.allow,
    disallow: gate.disallow,
    own(fence) {
      machine.own(fence);
      gate.own(fence);
    },
    showPolicies(policies) {
      machine.showPolicies(policies);
      gate.show(policies);
    },
    async usePolicies(policies, ask) {
      const warnings = await machine.usePolicies(policies, ask);
      await gate.usePolicies(policies);
      return warnings;
    },
    async status(selector) {
      const status = await machine.status(selector);
      return {
        ...status,
        secrets: status.secrets.map((one) => ({
          ...one,
          instances: gate.instancesNow(one.secret, one.instances),
        })),
        warnings: [...status.warnings, ...(await gate.warnings())],
      };
    },
  };
}
