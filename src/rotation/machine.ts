/** The rotation machine as one object: the driver, the commands, and the answers of `Service`. */
import { asRotatedError, RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { Fields } from '../secret/secret.ts';
import { beginNew } from './begin.ts';
import { emergency } from './commands/emergency.ts';
import { readAudited, restore } from './commands/item.ts';
import { keep } from './commands/keep.ts';
import { isRefusal, recordRefusal, refusedBy, started } from './commands/outcome.ts';
import {
  confirmAdoption,
  confirmDebt,
  handInOf,
  resume,
  setPaused,
  supply,
} from './commands/person.ts';
import { abandonAsked, rollBack } from './commands/way-back.ts';
import type { Context } from './context.ts';
import { createDriver, groupOf } from './driver.ts';
import { dueContextOf } from './due.ts';
import type { Rotation, SecretState } from './model.ts';
import { planOf, runsFrom, whilePaused } from './plan.ts';
import { applyPolicies } from './policies.ts';
import type { Ports } from './ports.ts';
import { createStore } from './store.ts';
import type {
  Ask,
  InstanceView,
  Progress,
  RotationView,
  SecretStatus,
  Selector,
  Service,
  Started,
} from './service.ts';
import { progressOf, rotationView, secretStatus } from './views.ts';

export interface Machine extends Service {
  /** The newest set of good policies, live. Returns warnings: edits that must wait. */
  usePolicies(policies: ReadonlyMap<string, Policy>, ask: Ask): Promise<readonly string[]>;
  /** Without changing anything: for commands that only look. */
  showPolicies(policies: ReadonlyMap<string, Policy>): void;
  /** Owns the state directory from now on: every commit carries this fence. */
  own(fence: number): void;
  /** One pass: begin what is due, advance what can advance, pay due debts, until nothing is due. */
  tick(signal: AbortSignal): Promise<void>;
  /** For ever: sleeps until the next instant anything is due, or a poke. Returns when aborted, everything resumable. */
  serve(signal: AbortSignal): Promise<void>;
  poke(): void;
  /** Called after each durable step of any rotation, until the returned function is. */
  subscribe(listener: (rotation: RotationView) => void): () => void;
}

export function createMachine(ports: Ports): Machine {
  const owned = { fence: 0 };
  const stop = new AbortController();
  const store = createStore(ports.journal, () => owned.fence, ports.log);
  let policies: ReadonlyMap<string, Policy> = new Map();
  let warnings: readonly string[] = [];
  /** A set of policies of which an edit was refused: tried again when a rotation has ended. */
  let held: { readonly wanted: ReadonlyMap<string, Policy>; readonly ask: Ask } | null = null;
  const listeners = new Set<(rotation: Rotation) => void>();
  const context: Context = {
    ports,
    store,
    fence: () => owned.fence,
    policyOf: (secret) => policies.get(secret) ?? null,
    signal: stop.signal,
    freshIntents: new Set(),
    told: new Map(),
    paying: new Set(),
  };
  const changed = (rotation: Rotation) => {
    for (const listener of listeners) listener(rotation);
    if (!rotation.active && held !== null) void applyHeld(held);
  };
  const driver = createDriver(context, () => policies, changed);

  let followed: AbortSignal | null = null;

  /** Aborting the caller's signal ends the machine: a machine serves one owner of the state directory. */
  function until(signal: AbortSignal): void {
    if (signal === followed) return;
    followed = signal;
    if (signal.aborted) stop.abort(signal.reason);
    else signal.addEventListener('abort', () => stop.abort(signal.reason), { once: true });
  }

  async function usePolicies(
    wanted: ReadonlyMap<string, Policy>,
    ask: Ask,
  ): Promise<readonly string[]> {
    const change = await applyPolicies(context, policies, wanted, ask);
    policies = change.policies;
    warnings = change.warnings;
    held = change.warnings.length > 0 ? { wanted, ask } : null;
    driver.poke();
    return change.warnings;
  }

  async function applyHeld({ wanted, ask }: NonNullable<typeof held>): Promise<void> {
    try {
      await usePolicies(wanted, ask);
    } catch (error) {
      // The set stays held: the end of the next rotation, or the next edit, tries again.
      ports.log.error(
        { error: asRotatedError(error, 'none').toJSON() },
        'held policies could not be applied',
      );
    }
  }

  function select(selector: Selector): Policy[] {
    const unknown = selector.names.filter((name) => !policies.has(name));
    if (unknown.length > 0) throw unknownPolicy(unknown[0] ?? '');
    return [...policies.values()].filter(
      (policy) =>
        selector.all ||
        selector.names.includes(policy.name) ||
        policy.tags.some((tag) => selector.tags.includes(tag)) ||
        selector.providers.includes(policy.provider.use) ||
        ports.consumers(policy).some((consumer) => selector.consumers.includes(consumer.id)),
    );
  }

  function policyOf(secret: string): Policy {
    const policy = policies.get(secret);
    if (policy === undefined) throw unknownPolicy(secret);
    return policy;
  }

  function unknownPolicy(name: string): RotatedError {
    return new RotatedError('policy-unknown', `No policy is named ${name}.`, {
      secret: name,
      next: `'rotate status' lists the names there are.`,
    });
  }

  async function stateOf(secret: string): Promise<SecretState> {
    const state = await store.secret(secret);
    if (state === null) throw unknownPolicy(secret);
    return state;
  }

  /** Holds the turn of the secret's active rotation, so that no step of it is under way while the command decides. */
  async function inTurn<T>(
    secret: string,
    work: (active: Rotation | null) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const id = (await store.activeOf(secret))?.id;
      if (id === undefined)
        return driver.turns.take(`secret:${secret}`, async () =>
          work(await store.activeOf(secret)),
        );
      const result = await driver.turns.take(id, async () => {
        const active = await store.activeOf(secret);
        // It ended, or another began, while this command waited for its turn.
        return active?.id === id ? { value: await work(active) } : null;
      });
      if (result !== null) return result.value;
    }
  }

  async function asked(
    command: string,
    secret: string,
    ask: Ask,
    work: () => Promise<Started>,
  ): Promise<Started> {
    try {
      const result = await work();
      driver.poke(result.rotation ?? undefined);
      return result;
    } catch (error) {
      if (!isRefusal(error)) throw asRotatedError(error, 'unknown', secret);
      await recordRefusal(context, command, secret, ask, error);
      return refusedBy(secret, error);
    }
  }

  /** One unit for each group, in the order of its first member. */
  function units(selected: readonly Policy[]): (readonly [Policy, ...Policy[]])[] {
    const seen = new Set<string>();
    const result: [Policy, ...Policy[]][] = [];
    for (const policy of selected) {
      if (seen.has(policy.name)) continue;
      const [first, ...rest] = groupOf(policies, policy);
      if (first === undefined) continue;
      for (const member of [first, ...rest]) seen.add(member.name);
      result.push([first, ...rest]);
    }
    return result;
  }

  async function runOne(
    group: readonly [Policy, ...Policy[]],
    ask: Ask,
    handIn: readonly string[] = [],
  ): Promise<Started> {
    const secret = group[0].name;
    return asked('run', secret, ask, () =>
      inTurn(secret, async (active) => {
        if (active !== null) {
          return started(
            secret,
            active.id,
            'joined',
            `A rotation is under way, at '${active.phase}'.`,
          );
        }
        const wanted = {
          policies: group,
          kind: 'asked',
          mode: null,
          ...ask,
          inherited: new Map(),
          fired: new Map(),
          handIn,
        } as const;
        const rotation = await beginNew(context, wanted);
        changed(rotation);
        return started(
          secret,
          rotation.id,
          'started',
          group.length === 1
            ? 'A rotation has begun.'
            : `A rotation of the group ${group[0].group} has begun.`,
        );
      }),
    );
  }

  async function nowOne(
    group: readonly [Policy, ...Policy[]],
    mode: Parameters<Service['now']>[1],
    ask: Ask,
  ): Promise<Started> {
    const secret = group[0].name;
    return asked('now', secret, ask, () =>
      inTurn(secret, async (active) => {
        const { rotation, joined } = await emergency(context, group, active, mode, ask);
        driver.rush(rotation.id);
        changed(rotation);
        if (rotation.parked) {
          return {
            ...started(
              secret,
              rotation.id,
              'waits-for-person',
              rotation.data.parked?.message ?? 'It waits for a person.',
            ),
            next: rotation.data.parked?.next ?? null,
          };
        }
        const deadlineMs = Math.min(...group.map((policy) => policy.emergency.deadlineMs));
        const dead =
          rotation.data.mode === 'contain'
            ? 'The old credential is being revoked now.'
            : `The old credential will be dead as soon as the new one is adopted, at the latest in ${Math.round(deadlineMs / 1_000)} s.`;
        return started(secret, rotation.id, joined ? 'joined' : 'started', dead);
      }),
    );
  }

  async function statusOf(state: SecretState): Promise<SecretStatus> {
    const instances: InstanceView[] = (await ports.journal.instances(state.name)).map(
      ({ consumer, instance, data }) => {
        const { state: instanceState, generation } = data as {
          state: string;
          generation: number | null;
        };
        return { consumer, instance, generation, state: instanceState };
      },
    );
    const active = await store.activeOf(state.name);
    return secretStatus({
      state,
      policy: policies.get(state.name) ?? null,
      active,
      waitsNow: active === null ? null : driver.waitsFor(active.id),
      debts: await store.debts(state.name),
      instances,
      now: ports.clock.now(),
      uptimeMs: await ports.journal.uptimeMs(),
    });
  }

  return {
    own: (fence) => {
      owned.fence = fence;
    },
    showPolicies: (wanted) => {
      policies = wanted;
    },
    usePolicies,
    tick: (signal) => {
      until(signal);
      return driver.tick();
    },
    serve: (signal) => {
      until(signal);
      return driver.run();
    },
    poke: () => driver.poke(),
    subscribe: (listener) => {
      const inner = (rotation: Rotation) => listener(rotationView(rotation, 0));
      listeners.add(inner);
      return () => listeners.delete(inner);
    },

    status: async (selector) => {
      // A removed policy may have left a rotation or a debt behind: its name is still one to ask for.
      const names = selector.names.filter((name) => policies.has(name));
      const wanted =
        selector.all || isEmpty(selector)
          ? null
          : new Set([...selector.names, ...select({ ...selector, names }).map(({ name }) => name)]);
      const states = (await store.secrets()).filter(
        (state) => wanted === null || wanted.has(state.name),
      );
      const secrets = (await Promise.all(states.map(statusOf))).filter(
        (one) => policies.has(one.secret) || one.active !== null || one.debts.length > 0,
      );
      const isShown = (name: string) => secrets.some(({ secret }) => secret === name);
      const unknown = selector.names.find((name) => !policies.has(name) && !isShown(name));
      if (unknown !== undefined) throw unknownPolicy(unknown);
      const setBackMs = ports.scheduleClock.setBackMs();
      const clock =
        setBackMs > 60_000
          ? [
              `The wall clock is ${Math.round(setBackMs / 1_000)} s behind what the journal has seen: schedules go on from the newest instant.`,
            ]
          : [];
      const lease = await ports.journal.currentLease();
      return {
        secrets,
        warnings: [...warnings, ...clock],
        owner: lease === null ? null : { pid: lease.holder.pid, what: lease.holder.what },
      };
    },
    plan: async (selector, now) => {
      const selected = select(isEmpty(selector) ? { ...selector, all: true } : selector);
      return Promise.all(
        selected.map(async (policy) => {
          const state = await store.secret(policy.name);
          const scheduleNow = ports.scheduleClock.now();
          const due =
            state === null
              ? {
                  now: scheduleNow,
                  firedAt: null,
                  currentSince: null,
                  expiresAt: null,
                  knownSince: scheduleNow,
                }
              : dueContextOf(state, scheduleNow);
          const consumers = ports.consumers(policy).map((consumer) => consumer.id);
          const runs = runsFrom(policy, state, scheduleNow, ports.nextRuns(policy, due, 5));
          return whilePaused(planOf(policy, ports.provider(policy), consumers, runs, now), state);
        }),
      );
    },
    run: async (selector, ask) =>
      Promise.all(units(select(selector)).map((group) => runOne(group, ask))),
    now: async (selector, mode, ask) =>
      Promise.all(units(select(selector)).map((group) => nowOne(group, mode, ask))),
    rollback: (secret, ask) =>
      asked('rollback', secret, ask, () =>
        inTurn(secret, (active) => rollBack(context, secret, active, ask)),
      ),
    abandon: (secret, ask) =>
      asked('abandon', secret, ask, () =>
        inTurn(secret, (active) => abandonAsked(context, secret, active, ask)),
      ),
    confirm: (secret, debt, ask) =>
      asked('confirm', secret, ask, () =>
        debt === null
          ? inTurn(secret, (active) => confirmAdoption(context, secret, active, ask))
          : confirmDebt(context, secret, debt, ask),
      ),
    pause: (secret, ask) =>
      asked('pause', secret, ask, async () => setPaused(context, await stateOf(secret), true, ask)),
    resume: (secret, ask) =>
      asked('resume', secret, ask, () =>
        inTurn(secret, async (active) => resume(context, await stateOf(secret), active, ask)),
      ),
    supply: (secret, fields, ask) =>
      asked('supply', secret, ask, () => supplied(secret, fields, ask)),
    restore: (secret, ask) =>
      asked('restore', secret, ask, () =>
        inTurn(secret, async () => restore(context, policyOf(secret), await stateOf(secret), ask)),
      ),
    keep: (item, fields, look, ask) => keep(context, item, fields, look, ask),
    read: async (secret, stage, ask) => readAudited(context, policyOf(secret), stage, ask),
    history: async (secret, most) => {
      const uptimeMs = await ports.journal.uptimeMs();
      return (await store.history(secret, most)).map((rotation) =>
        rotationView(rotation, uptimeMs, driver.waitsFor(rotation.id)),
      );
    },
    rotation: async (id) => {
      const rotation = await store.rotation(id);
      return rotation === null
        ? null
        : rotationView(rotation, await ports.journal.uptimeMs(), driver.waitsFor(id));
    },
    audit: async (secret, from, most) => {
      if (secret !== null) return ports.journal.auditOf(secret, most);
      const first =
        from >= 0 ? from : Math.max(1, ((await ports.journal.auditHead())?.seq ?? 0) + from + 1);
      return ports.journal.auditLines(first, most);
    },
    auditVerify: async () => {
      const head = await ports.journal.auditHead();
      const problem = await ports.auditChain.verify(allAuditLines(), head);
      return { ok: problem === null, lines: head?.seq ?? 0, head, problem };
    },
    watch,
  };

  async function supplied(secret: string, fields: Fields, ask: Ask): Promise<Started> {
    const policy = policies.get(secret);
    let active = await store.activeOf(secret);
    if (active === null) {
      if (policy === undefined) throw unknownPolicy(secret);
      const others = groupOf(policies, policy).filter((one) => one !== policy);
      await runOne([policy, ...others], ask, await handInOf(context, policy));
      active = await store.activeOf(secret);
    }
    if (active?.phase === 'planned') await driver.follow(active.id);
    return inTurn(secret, (found) => {
      if (found === null) {
        throw new RotatedError(
          'not-active',
          `The rotation of ${secret} ended before the credential was needed.`,
          { secret, next: `'rotate status ${secret}' says why.` },
        );
      }
      return supply(context, secret, found, fields, ask);
    });
  }

  async function* allAuditLines() {
    const pageSize = 1_000;
    let from = 1;
    for (;;) {
      const page = await ports.journal.auditLines(from, pageSize);
      yield* page;
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return;
      from = last.seq + 1;
    }
  }

  async function* watch(
    ids: readonly string[],
    patienceMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<Progress> {
    const open = new Set(ids);
    const told = new Map<string, string>();
    let stir = Promise.withResolvers<void>();
    const listener = () => stir.resolve();
    listeners.add(listener);
    signal.addEventListener('abort', listener, { once: true });
    try {
      while (open.size > 0 && !signal.aborted) {
        stir = Promise.withResolvers<void>();
        for (const id of open) {
          const rotation = await store.rotation(id);
          if (rotation === null) {
            open.delete(id);
            continue;
          }
          const progress = progressOf(rotation, await ports.journal.uptimeMs(), patienceMs);
          const key = JSON.stringify([progress.phase, progress.message, progress.final]);
          if (told.get(id) !== key) {
            told.set(id, key);
            yield progress;
          }
          if (progress.final !== null) open.delete(id);
        }
        if (open.size > 0) await stir.promise;
      }
    } finally {
      listeners.delete(listener);
      signal.removeEventListener('abort', listener);
    }
  }
}

function isEmpty(selector: Selector): boolean {
  const { names, tags, providers, consumers } = selector;
  return names.length + tags.length + providers.length + consumers.length === 0;
}
