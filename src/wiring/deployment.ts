/** One deployment, composed: a state directory, a policy folder and a key become a rotation machine. */
import { builtInProviders } from '../../providers/index.ts';
import { createAuditChain } from '../audit/chain.ts';
import type { Shipping, ShippingTiming } from '../audit/shipping.ts';
import type { Backend } from '../backend/backend.ts';
import { createLocalBackend } from '../backend/local.ts';
import { type Clock, type Random, systemClock, systemRandom } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Fetch } from '../http.ts';
import type { Actor } from '../journal/journal.ts';
import { type MemoryState, openSqliteJournal, type SqliteJournal } from '../journal/sqlite.ts';
import { loadPolicies } from '../policy/load.ts';
import type { Policy, PolicyProblem } from '../policy/policy.ts';
import { renderProblem } from '../policy/render.ts';
import { watchPolicies } from '../policy/watch.ts';
import { secretFields } from '../provider/answers.ts';
import type { Registry } from '../provider/registry.ts';
import type { GrantService } from '../hub/service.ts';
import { createMachine, type Machine } from '../rotation/machine.ts';
import type { Log, Ports } from '../rotation/ports.ts';
import type { Ask } from '../rotation/service.ts';
import { createFingerprinter } from '../secret/fingerprint.ts';
import type { KeyRing, KeySource } from '../secret/key-sources.ts';
import { createRedactor, type Redactor } from '../secret/redactor.ts';
import { createSealer } from '../secret/sealer.ts';
import type { Sealer } from '../secret/sealing.ts';
import type { Fields } from '../secret/secret.ts';
import { programVersion } from '../version.ts';
import { auditPurpose, checkpointPurpose } from './audit-copies.ts';
import { type AuditOutside, auditOutside } from './audit-outside.ts';
import { callDeadlineMs } from './owner.ts';
import { createGate, type Gate, withGate } from './gate.ts';
import { createParts, type Parts } from './parts.ts';
import { type LoadedProviders, loadedProviders } from './providers.ts';
import { createScheduling } from './scheduling.ts';
import { createValues, readItem } from './values.ts';

export interface DeploymentOptions {
  /** The state directory, or a memory for simulations. */
  readonly state: string | MemoryState;
  /** The folder of the policy files, or one file. */
  readonly policies: string;
  readonly key: KeySource;
  /** Where audit lines go besides, as `findPlaces` gives them. */
  readonly auditSinks?: readonly string[];
  readonly log: Log;
  readonly clock?: Clock;
  readonly random?: Random;
  /** The same one that the log passes through. */
  readonly redactor?: Redactor;
  /** Changes nothing: works beside an owner, without a lease. */
  readonly readOnly?: boolean;
  readonly overrides?: Overrides;
}

/** What tests and harnesses put in place of the real thing. */
export interface Overrides {
  readonly registry?: Registry;
  readonly fetch?: Fetch;
  readonly at?: Ports['at'];
  readonly parallel?: Ports['parallel'];
  readonly callDeadlineMs?: number;
  readonly wrapBackend?: (backend: Backend) => Backend;
  readonly wrapJournal?: (journal: SqliteJournal) => SqliteJournal;
  readonly auditTiming?: Partial<ShippingTiming>;
}

export interface PolicyReading {
  /** False where the folder itself cannot be read or trusted: whoever has policies running keeps them. */
  readonly complete: boolean;
  readonly policies: ReadonlyMap<string, Policy>;
  readonly problems: readonly PolicyProblem[];
}

export interface Deployment extends AsyncDisposable {
  readonly machine: Machine & GrantService;
  readonly journal: SqliteJournal;
  readonly ports: Ports;
  readonly redactor: Redactor;
  /** The daemon's end of the feed to running servers. */
  readonly gate: Gate;
  /** About the key. */
  readonly warnings: readonly string[];
  /** What stands in current behind `scheme://path[#field]`. Throws `not-found`, `unsupported`, `policy-invalid`. */
  resolveReference(reference: string, signal: AbortSignal): Promise<Fields>;
  readPolicies(): Promise<PolicyReading>;
  /**
   * Reads the folder and puts what is good into use; returns what a person should know, mistakes included, each as text.
   * Throws where the folder itself cannot be read: what was in use stays.
   */
  usePolicies(ask: Ask): Promise<readonly string[]>;
  policyCount(): number;
  /** As owner of the state: delivers audit lines to the sinks. To be finished before the lease is released. */
  shipAudit(fence: number, actor: Actor): Promise<Shipping>;
  /** Calls back after edits until the signal ends it. */
  watchPolicies(onChange: () => Promise<void>, signal: AbortSignal): Promise<void>;
}

/** Rotations and debts worked on at once: what one process keeps up with, and what one issuer account is asked to bear. */
const parallelDefault = { total: 64, perIssuer: 16 };

/** Throws what `openSqliteJournal` and the key source throw; whatever it throws, an existing state is as it was. */
export async function openDeployment(options: DeploymentOptions): Promise<Deployment> {
  const { log, readOnly = false, overrides = {} } = options;
  const clock = options.clock ?? systemClock();
  const random = options.random ?? systemRandom();
  const redactor = options.redactor ?? createRedactor();
  const ring = await options.key.load();
  const derived = async (purpose: string) => ring.anchor.derive(purpose);
  const auditChain = createAuditChain(await derived(auditPurpose));
  const checkpointSeed = await derived(checkpointPurpose);
  const opened = await openSqliteJournal({
    directory: options.state,
    clock,
    chain: auditChain,
    readOnly,
  });
  const wrapped = overrides.wrapJournal?.(opened) ?? opened;
  const outside = auditOutside({
    sinks: options.auditSinks ?? [],
    journal: wrapped,
    directory: typeof options.state === 'string' ? options.state : '/',
    checkpointSeed,
    clock,
    random,
    log,
    timing: overrides.auditTiming ?? {},
  });
  const hasSinks = (options.auditSinks ?? []).length > 0;
  const journal = hasSinks ? telling(wrapped, outside) : wrapped;
  const stop = new AbortController();
  try {
    await refuseUnknownKeys(journal, ring);
    const sealer = learning(createSealer(ring, random), redactor);
    const local = createLocalBackend({
      rows: journal.localRows,
      sealer,
      digestKey: await derived('local backend digest'),
      clock,
    });
    const backend = overrides.wrapBackend?.(local) ?? local;
    const backendOf = (scheme: string): Backend => {
      if (scheme === backend.id) return backend;
      throw new RotatedError('unsupported', `This version has no backend ${scheme}.`, {
        next: 'Use a local:// reference.',
      });
    };
    const gate = createGate({
      journal,
      clock,
      log,
      redactor,
      readCurrent: (scheme, item, signal) => readItem(backendOf(scheme), item, 'current', signal),
    });
    const parts = createParts({
      gate: gate.feed,
      serversOf: gate.serversOf,
      clock,
      random,
      redactor,
      log,
      signal: stop.signal,
      fetch: overrides.fetch,
      values: (policyOf) => createValues(backendOf, policyOf),
    });
    const providers = loadedProviders({
      registry: overrides.registry ?? builtInProviders(),
      clock,
      random,
      redactor,
      deadlineMs: overrides.callDeadlineMs ?? callDeadlineMs,
      signal: stop.signal,
      resolveReference: (reference, signal) => parts.resolveReference(reference, signal),
    });
    const ports: Ports = {
      journal,
      sealer,
      fingerprints: createFingerprinter(await derived('fingerprint')),
      clock,
      random,
      log,
      provider: (policy) => providers.of(policy),
      backend: (policy) => backendOf(policy.backend.scheme),
      verifiers: parts.verifiers,
      consumers: parts.consumers,
      notify: parts.notify,
      ...(await createScheduling(journal, clock)),
      parallel: overrides.parallel ?? parallelDefault,
      auditChain,
      ...(overrides.at === undefined ? {} : { at: overrides.at }),
    };
    await providers.load(usesOfUnfinished(await journal.unfinished()));
    const machine = withGate(withOutside(createMachine(ports), outside), gate);
    return compose(options, {
      machine,
      ports,
      journal,
      providers,
      redactor,
      ring,
      stop,
      clock,
      parts,
      outside,
      gate,
    });
  } catch (error) {
    stop.abort();
    await journal[Symbol.asyncDispose]();
    throw error;
  }
}

interface Composed {
  readonly machine: Machine & GrantService;
  readonly ports: Ports;
  readonly journal: SqliteJournal;
  readonly providers: LoadedProviders;
  readonly redactor: Redactor;
  readonly ring: KeyRing;
  readonly stop: AbortController;
  readonly clock: Clock;
  readonly parts: Parts;
  readonly outside: AuditOutside;
  readonly gate: Gate;
}

function compose(options: DeploymentOptions, composed: Composed): Deployment {
  const { machine, journal, providers, stop } = composed;
  const readOnly = options.readOnly === true;
  const registry = options.overrides?.registry ?? builtInProviders();
  let count = 0;

  async function readPolicies(): Promise<PolicyReading> {
    // Built-in modules load in milliseconds, their SDKs only when a session opens.
    await providers.load(registry.ids.map((use) => ({ use, directory: options.policies })));
    const loaded = await loadPolicies(options.policies, {
      backends: new Set(['local']),
      providers: registry.ids,
      providerSchema: (use, directory) => providers.at(use, directory)?.options,
      loadProvider: (use, directory) => providers.load([{ use, directory }]),
      cacheTag: programVersion(),
      cache: {
        get: (key) => journal.cached(key),
        put: async (entries) => {
          if (!readOnly) await journal.cache(entries);
        },
      },
    });
    // A file that came from the cache was not parsed, so its providers may not be at hand yet.
    await providers.load(
      loaded.policies.map(({ provider, directory }) => ({ use: provider.use, directory })),
    );
    return {
      complete: loaded.complete,
      policies: new Map(loaded.policies.map((policy) => [policy.name, policy])),
      problems: loaded.problems,
    };
  }

  return {
    machine,
    journal,
    ports: composed.ports,
    redactor: composed.redactor,
    gate: composed.gate,
    warnings: composed.ring.warnings,
    resolveReference: composed.parts.resolveReference,
    readPolicies,
    usePolicies: async (ask) => {
      const { complete, policies, problems } = await readPolicies();
      if (!complete) throw unreadable(problems);
      const refused = await machine.usePolicies(policies, ask);
      count = policies.size;
      return [...problems.map((problem) => renderProblem(problem)), ...refused];
    },
    policyCount: () => count,
    shipAudit: (fence, actor) => composed.outside.ship(fence, actor),
    watchPolicies: (onChange, signal) =>
      watchPolicies(options.policies, onChange, { clock: composed.clock, signal }),
    [Symbol.asyncDispose]: async () => {
      stop.abort(new DOMException('The deployment closes.', 'AbortError'));
      await composed.gate.close();
      await composed.parts.drained();
      await journal[Symbol.asyncDispose]();
    },
  };
}

/** The sinks hear of new lines when these are on disk. */
function telling(journal: SqliteJournal, outside: AuditOutside): SqliteJournal {
  return {
    ...journal,
    commit: async (change) => {
      await journal.commit(change);
      if (change.audit !== undefined && change.audit.length > 0) outside.poke();
    },
  };
}

/** What the sinks say belongs to the answers about the audit trail and the whole. */
function withOutside(machine: Machine, outside: AuditOutside): Machine {
  return {
    ...machine,
    status: async (selector) => {
      const status = await machine.status(selector);
      return { ...status, warnings: [...status.warnings, ...(await outside.warnings())] };
    },
    auditVerify: async () => outside.compare(await machine.auditVerify()),
  };
}

function unreadable(problems: readonly PolicyProblem[]): RotatedError {
  const [first] = problems;
  const code = first?.code === 'policy-unsafe' ? 'policy-unsafe' : 'policy-invalid';
  return new RotatedError(
    code,
    first === undefined ? 'The policies cannot be read.' : `${first.file}: ${first.message}`,
    {
      next:
        first?.example ??
        'Name the folder of the policy files: --policies DIR. A first one: rotate init',
    },
  );
}

/** Before anything is changed: a record that nobody can open would be found out in the middle of a rotation. */
async function refuseUnknownKeys(journal: SqliteJournal, ring: KeyRing): Promise<void> {
  const known = new Set(ring.all.map((key) => key.id));
  const missing = (await journal.keysUsed()).filter((id) => !known.has(id));
  if (missing.length === 0) return;
  throw new RotatedError(
    'key-unknown',
    `Records of this state are sealed with the key ${missing.join(', ')}, which is not at hand.`,
    { next: 'Put the line of that key back into the key file, or name the right one with --key.' },
  );
}

/** Every value that is sealed or opened is one to keep out of the log. */
function learning(sealer: Sealer, redactor: Redactor): Sealer {
  return {
    newKey: (signal) => sealer.newKey(signal),
    seal: (fields, context, key, signal) => {
      redactor.add(hidden(fields));
      return sealer.seal(fields, context, key, signal);
    },
    open: async (sealed, context, signal) => {
      const fields = await sealer.open(sealed, context, signal);
      redactor.add(hidden(fields));
      return fields;
    },
  };
}

/** A login's name or host is no secret, and hiding it by value would blank ordinary words out of the log. */
const plainName = /^(pg|mysql_?|redis_?|db_?)?(user|username|host|hostname|port|database|dbname)$/i;

function hidden(fields: Fields): Fields {
  return Object.fromEntries(
    Object.entries(secretFields(fields)).filter(([name]) => !plainName.test(name)),
  );
}

/** A rotation keeps the policy it began with: its provider may be one that no policy names any more. */
function usesOfUnfinished(rows: Awaited<ReturnType<SqliteJournal['unfinished']>>) {
  return rows.flatMap(({ data }) => {
    const { members = [] } = data as unknown as {
      members?: readonly { readonly policy: Policy }[];
    };
    return members.map(({ policy }) => ({ use: policy.provider.use, directory: policy.directory }));
  });
}
