/** The whole machine over a simulated clock, issuer and consumers: real journal, real local backend, no process, no waiting. */
import { createAuditChain } from '../../../src/audit/chain.ts';
import { createLocalBackend } from '../../../src/backend/local.ts';
import type { Backend } from '../../../src/backend/backend.ts';
import type { Actor, Journal } from '../../../src/journal/journal.ts';
import { memoryState, openSqliteJournal, type MemoryState } from '../../../src/journal/sqlite.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import { createMachine, type Machine } from '../../../src/rotation/machine.ts';
import type { DueContext, Notice, Ports } from '../../../src/rotation/ports.ts';
import type { Ask, RotationView, Selector } from '../../../src/rotation/service.ts';
import { createFingerprinter } from '../../../src/secret/fingerprint.ts';
import { localKey } from '../../../src/secret/key-encryption-key.ts';
import { createSealer } from '../../../src/secret/sealer.ts';
import type { Verifier } from '../../../src/verify/verifier.ts';
import { createIssuer, type Issuer, type KeyTruth } from '../issuer/issuer.ts';
import { testIssuerOver, type Send, type TestIssuerOptions } from '../issuer/provider.ts';
import { callOf } from '../issuer/route.ts';
import type { PrincipalSettings } from '../issuer/settings.ts';
import { openIssuerStore } from '../issuer/store.ts';
import { simulatedClock, type SimulatedClock } from './clock.ts';
import { testConsumer, type TestConsumer } from './consumer.ts';
import { seededRandom } from './random.ts';

const leaseMs = 10_000;

export interface WorldOptions {
  readonly seed?: number;
  readonly startAt?: number;
  /** Wraps the ports of every machine that is started: sabotage for mutants. */
  readonly alter?: (ports: Ports) => Ports;
  readonly nextDue?: (policy: Policy, context: DueContext) => number | null;
  readonly mayBegin?: (policy: Policy, now: number) => boolean;
}

export const everyone: Ask = {
  actor: { id: 'tester', channel: 'command', proven: true } satisfies Actor,
  reason: 'a test',
};

export function byName(...names: string[]): Selector {
  return { names, tags: [], providers: [], consumers: [], all: false };
}

export class World {
  readonly clock: SimulatedClock;
  readonly issuer: Issuer;
  readonly notices: Notice[] = [];
  readonly logged: unknown[] = [];
  /** By consumer id. */
  readonly consumers = new Map<string, TestConsumer>();
  readonly consumersOf = new Map<string, readonly TestConsumer[]>();
  readonly verifiersOf = new Map<string, readonly Verifier[]>();
  readonly policies = new Map<string, Policy>();
  /** Called at each point of the machine; a promise that never settles stops the process there. */
  at: ((point: string) => Promise<void> | void) | null = null;
  machine!: Machine;
  journal!: Journal;
  backend!: Backend;
  readonly #store = openIssuerStore(':memory:', {});
  readonly #state: MemoryState = memoryState();
  readonly #options: WorldOptions;
  readonly #random;
  /** Every policy there ever was: what a removed one left can still be looked at. */
  readonly #known = new Map<string, Policy>();
  #fence = 0;
  #owner = 0;
  #stop = new AbortController();

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.clock = simulatedClock(options.startAt);
    this.#random = seededRandom(options.seed ?? 1);
    this.issuer = createIssuer(this.#store, () => this.clock.trueTime());
  }

  configure(principal: string, settings: Partial<PrincipalSettings>): void {
    this.#store.configure(principal, settings);
  }

  /** The issuer's own record of what was asked of it. */
  events(principal: string): readonly string[] {
    return this.#store.events(principal, 0).map((event) => event.kind);
  }

  keys(principal: string): readonly KeyTruth[] {
    return this.issuer.keys(principal);
  }

  live(principal: string): readonly KeyTruth[] {
    return this.keys(principal).filter((key) => key.live);
  }

  /** What the backend serves now. */
  async served(
    name: string,
  ): Promise<{ value: string; generation: number; key: KeyTruth | null } | null> {
    const policy = this.policies.get(name) ?? this.#known.get(name);
    if (policy === undefined) return null;
    const options = policy.provider.options as unknown as TestIssuerOptions;
    try {
      const item = await this.backend.read(
        policy.backend.item,
        'current',
        AbortSignal.timeout(5_000),
      );
      const itemField = Object.keys(policy.backend.fields ?? { value: 'value' })[0] as string;
      const value = item.fields[itemField]?.reveal();
      if (value === undefined) return null;
      return {
        value,
        generation: item.owners[name]?.generation ?? 0,
        key: this.issuer.probe(options.principal, value),
      };
    } catch {
      return null;
    }
  }

  consumer(id: string, role: 'user' | 'verifier', ...secrets: string[]): TestConsumer {
    const made = testConsumer(id, role, async (secret) => this.served(secret));
    this.consumers.set(id, made);
    for (const secret of secrets)
      this.consumersOf.set(secret, [...(this.consumersOf.get(secret) ?? []), made]);
    return made;
  }

  /** A new process takes the state over: everything in memory is gone, everything durable is there. */
  async start(...policies: Policy[]): Promise<void> {
    for (const policy of policies) {
      this.policies.set(policy.name, policy);
      this.#known.set(policy.name, policy);
    }
    this.#stop = new AbortController();
    this.#owner += 1;
    const key = localKey(Buffer.alloc(32, 7), this.#random);
    const chain = createAuditChain(await key.derive('audit'));
    const journal = await openSqliteJournal({ directory: this.#state, clock: this.clock, chain });
    const sealer = createSealer({ current: key, all: [key] }, this.#random);
    const fingerprints = createFingerprinter(await key.derive('fingerprint'));
    this.journal = journal;
    this.backend = createLocalBackend({
      rows: journal.localRows,
      sealer,
      digestKey: await key.derive('digest'),
      clock: this.clock,
    });
    const provider = testIssuerOver(this.#send());
    const startedAt = Math.max(this.clock.now(), await journal.newestInstant());
    const monotonic = this.clock.monotonicMs();
    const scheduleNow = () =>
      Math.max(this.clock.now(), startedAt + this.clock.monotonicMs() - monotonic);
    const backend = this.backend;
    const ports: Ports = {
      journal,
      sealer,
      fingerprints,
      clock: this.clock,
      random: this.#random,
      log: {
        info: () => {},
        warn: (fields, message) => this.logged.push([message, fields]),
        error: (fields, message) => this.logged.push([message, fields]),
      },
      provider: (policy) => {
        const options = provider.options.parse(policy.provider.options);
        const context = {
          secret: policy.name,
          admin: async () => ({}),
          clock: this.clock,
          random: this.#random,
          directory: '/',
        };
        return {
          traits: provider.traits(options),
          issuer: options.principal,
          open: () => provider.open(options, context),
        };
      },
      backend: () => backend,
      verifiers: (policy) => this.verifiersOf.get(policy.name) ?? [],
      consumers: (policy) => this.consumersOf.get(policy.name) ?? [],
      notify: (_, notice) => this.notices.push(notice),
      nextDue: this.#options.nextDue ?? everyDue,
      mayBegin: this.#options.mayBegin ?? (() => true),
      nextRuns: () => [],
      scheduleClock: { now: scheduleNow, setBackMs: () => scheduleNow() - this.clock.now() },
      parallel: { total: 64, perIssuer: 64 },
      auditChain: chain,
      at: (point) => this.at?.(point),
    };
    this.machine = createMachine(this.#options.alter?.(ports) ?? ports);
    for (;;) {
      try {
        const lease = await journal.acquire(
          { pid: this.#owner, host: 'sim', what: `owner ${this.#owner}` },
          leaseMs,
        );
        this.#fence = lease.fence;
        break;
      } catch {
        this.clock.pass(leaseMs);
      }
    }
    this.machine.own(this.#fence);
    await this.apply();
  }

  async apply(): Promise<readonly string[]> {
    return this.machine.usePolicies(this.policies, {
      actor: { id: 'rotated', channel: 'policy', proven: true },
      reason: null,
    });
  }

  /** The process ends in the middle of whatever it does. */
  kill(): void {
    this.#stop.abort(new Error('killed'));
  }

  async restart(): Promise<void> {
    this.kill();
    this.at = null;
    await this.start();
  }

  async tick(): Promise<void> {
    await this.journal.renew(this.#fence, leaseMs);
    await this.machine.tick(this.#stop.signal);
  }

  /** Lets time pass until `done`, in steps that follow what the machine waits for; throws when it takes too many. */
  async until(
    done: () => Promise<boolean> | boolean,
    { stepMs = 250, stepsMax = 4_000 } = {},
  ): Promise<void> {
    for (let step = 0; step < stepsMax; step++) {
      await this.tick();
      if (await done()) return;
      this.clock.pass(stepMs);
    }
    throw new Error(
      `still not done: ${JSON.stringify(await this.machine.history(null, 5), null, 1)} ${JSON.stringify(this.logged)}`,
    );
  }

  /** The newest rotation of the secret. */
  async newest(secret: string): Promise<RotationView> {
    const [rotation] = await this.machine.history(secret, 1);
    if (rotation === undefined) throw new Error(`no rotation of ${secret}`);
    return rotation;
  }

  async untilPhase(
    secret: string,
    phase: string,
    options?: { stepMs?: number; stepsMax?: number },
  ): Promise<RotationView> {
    await this.until(async () => (await this.newest(secret)).phase === phase, options);
    return this.newest(secret);
  }

  /** A first credential, minted, promoted and retired. */
  async bootstrap(name: string): Promise<void> {
    await this.machine.run(byName(name), everyone);
    await this.untilPhase(name, 'retired', { stepMs: 5_000 });
  }

  async debts(
    secret: string,
  ): Promise<
    readonly { kind: string; needsPerson: boolean; lastError: string | null; id: string }[]
  > {
    const status = await this.machine.status(byName(secret));
    return status.secrets[0]?.debts ?? [];
  }

  #send(): Send {
    return async (ask, signal) => {
      signal?.throwIfAborted();
      const url = new URL(ask.url);
      const path = url.pathname
        .split('/')
        .filter((part) => part !== '')
        .map(decodeURIComponent);
      const body = ask.body === undefined ? {} : (JSON.parse(ask.body) as Record<string, unknown>);
      const call = callOf(ask.method, path, ask.headers?.['authorization'], body);
      if (call === null) return { status: 404, text: '' };
      const answer = this.issuer.handle(call);
      if (answer.kind !== 'answer')
        throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
      return { status: answer.status, text: answer.text ?? JSON.stringify(answer.body ?? {}) };
    };
  }
}

/** `every` counts from the promotion, or from when the policy was first seen. */
function everyDue(policy: Policy, context: DueContext): number | null {
  const { trigger } = policy.schedule;
  if (trigger.kind !== 'every') return null;
  const from = Math.max(context.currentSince ?? context.knownSince, context.firedAt ?? 0);
  return Math.max(context.now, from + trigger.everyMs);
}
