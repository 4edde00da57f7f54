/** The loop: begins what is due, advances what can advance, pays what is owed, sleeps until the next of these. */
import { isRotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import { advance } from './advance.ts';
import { beginNew, firedState } from './begin.ts';
import type { Context } from './context.ts';
import { commit, withData } from './context.ts';
import { readOwn } from './current.ts';
import { pay } from './debts.ts';
import { dueAfter } from './due.ts';
import type { Debt, Rotation, SecretState } from './model.ts';
import { auditEvent } from './store.ts';
import { Lane, Turns } from './turns.ts';

/** The longest sleep: bounds how late anything can be that no timer announced. */
const sleepMostMs = 500;
/** A wait longer than this is journalled, so that other queries skip the row; a shorter one is only remembered. */
const journalWaitsFromMs = 5_000;

/** How far down a list of due work one look goes. */
const lookMost = 8_192;

export interface Driver {
  tick(): Promise<void>;
  run(): Promise<void>;
  /** Wakes the loop; with a key, what it names need not wait any longer. */
  poke(key?: string): void;
  /** An emergency: it takes none of the places that other work may be holding. */
  rush(id: string): void;
  readonly turns: Turns;
  /** Advances one rotation until it waits, parks or ends. */
  follow(id: string): Promise<void>;
  /** What a rotation waits for now, where that was not worth journalling. */
  waitsFor(id: string): string | null;
}

export function createDriver(
  context: Context,
  policies: () => ReadonlyMap<string, Policy>,
  changed: (rotation: Rotation) => void,
): Driver {
  const { ports, store, signal } = context;
  const turns = new Turns();
  const usual = new Lane(ports.parallel);
  // Emergencies have places of their own: work that hangs at an issuer must not keep a leaked key alive.
  const urgent = new Lane(ports.parallel);
  const emergencies = new Set<string>();
  let isKnown = false;
  const working = new Map<string, Promise<void>>();
  const holds = new Map<string, number>();
  const waits = new Map<string, string>();
  let started = 0;
  let fatal: unknown = null;
  let wake = Promise.withResolvers<void>();

  const poke = (key?: string) => {
    if (key !== undefined) holds.delete(key);
    wake.resolve();
  };

  /** In the background, until `task` ends; `leave` gives its place back. */
  function work(key: string, task: () => Promise<void>, leave: () => void = () => {}): void {
    if (working.has(key)) return leave();
    const running = (async () => {
      try {
        await task();
      } catch (error) {
        if (signal.aborted) return;
        if (isRotatedError(error, 'fence-lost', 'state-full', 'state-corrupt', 'state-read-only'))
          fatal ??= error;
        else if (!isRotatedError(error, 'conflict', 'already-active')) {
          ports.log.error(
            {
              key,
              error: isRotatedError(error)
                ? error.toJSON()
                : String(error instanceof Error ? error.name : error),
            },
            'background work failed',
          );
          // Not at once again: whatever broke here is not on a path that counts attempts.
          holds.set(key, (await store.journal.uptimeMs()) + 5_000);
        }
      } finally {
        working.delete(key);
        leave();
        poke();
      }
    })();
    working.set(key, running);
  }

  const issuerOf = (policy: Policy): string => {
    try {
      return ports.provider(policy).issuer;
    } catch {
      return policy.provider.use;
    }
  };

  async function follow(id: string): Promise<void> {
    await turns.take(id, async () => {
      let rotation = await store.rotation(id);
      while (rotation !== null && rotation.active && !rotation.parked && !signal.aborted) {
        const result = await advance(context, rotation);
        if (result.kind === 'wait') {
          await remember(rotation, result.untilUptimeMs, result.waitsFor);
          return;
        }
        rotation = result.rotation;
        waits.delete(id);
        changed(rotation);
      }
      if (rotation !== null && !rotation.active) forget(rotation);
    });
  }

  async function remember(stale: Rotation, untilUptimeMs: number, waitsFor: string): Promise<void> {
    const rotation = (await store.rotation(stale.id)) ?? stale;
    if (rotation.wakeAtUptimeMs === untilUptimeMs) return changed(rotation);
    if (untilUptimeMs - (await store.journal.uptimeMs()) > journalWaitsFromMs) {
      const waiting = { ...withData(rotation, { waitsFor }), wakeAtUptimeMs: untilUptimeMs };
      return changed((await commit(context, waiting)).rotation);
    }
    // Not worth a commit: it is asked again soon.
    holds.set(rotation.id, untilUptimeMs);
    waits.set(rotation.id, waitsFor);
    changed(rotation);
  }

  function forget(rotation: Rotation): void {
    holds.delete(rotation.id);
    emergencies.delete(rotation.id);
    waits.delete(rotation.id);
    for (const key of context.told.keys())
      if (key.startsWith(`${rotation.id}:`)) context.told.delete(key);
  }

  const isHeld = (key: string, uptimeMs: number): boolean => {
    const until = holds.get(key);
    if (until === undefined) return false;
    if (until > uptimeMs) return true;
    holds.delete(key);
    return false;
  };

  /** Starts everything that is due and fits; true where something was started. */
  async function pump(): Promise<boolean> {
    const before = started;
    await startEmergencies();
    // Whatever ends pokes: nothing is read, and its JSON parsed, that could not be started.
    if (usual.isFull()) return started > before;
    const uptimeMs = await store.journal.uptimeMs();
    await startDue(uptimeMs, store.dueRotations, (rotation) => {
      const policy = rotation.data.members[0]?.policy;
      if (policy !== undefined) start(rotation.id, policy, usual, () => follow(rotation.id));
    });
    await startDue(uptimeMs, store.dueDebts, (debt) => {
      if (!context.paying.has(debt.id))
        start(debt.id, debt.data.policy, usual, () => payLater(debt));
    });
    if (!usual.isFull()) {
      for (const row of await store.journal.dueSecrets(ports.scheduleClock.now(), usual.room())) {
        if (working.has(row.name) || isHeld(row.name, uptimeMs)) continue;
        started += 1;
        work(row.name, () => fire(row.name));
      }
    }
    return started > before;
  }

  function start(key: string, policy: Policy, lane: Lane, task: () => Promise<void>): void {
    const leave = lane.enter(issuerOf(policy));
    if (leave === null) return;
    started += 1;
    work(key, task, leave);
  }

  /** Looks further down the list while there are places left: its head may be waiting, or be at an issuer that is full. */
  async function startDue<T extends { readonly id: string }>(
    uptimeMs: number,
    list: (uptimeMs: number, most: number) => Promise<readonly T[]>,
    begin: (one: T) => void,
  ): Promise<void> {
    for (let most = ports.parallel.total + holds.size; !usual.isFull(); most *= 4) {
      const due = await list(uptimeMs, most);
      for (const one of due) if (!working.has(one.id) && !isHeld(one.id, uptimeMs)) begin(one);
      if (due.length < most || most > lookMost) return;
    }
  }

  async function startEmergencies(): Promise<void> {
    if (!isKnown) {
      // Those that an owner before this one began.
      for (const one of await store.unfinished())
        if (one.data.kind === 'emergency') emergencies.add(one.id);
      isKnown = true;
    }
    if (emergencies.size === 0) return;
    const uptimeMs = await store.journal.uptimeMs();
    for (const id of emergencies) {
      if (urgent.isFull()) return;
      if (working.has(id) || isHeld(id, uptimeMs)) continue;
      const rotation = await store.rotation(id);
      const policy = rotation?.data.members[0]?.policy;
      if (rotation === null || policy === undefined || !rotation.active) emergencies.delete(id);
      else if (!rotation.parked && (rotation.wakeAtUptimeMs ?? 0) <= uptimeMs) {
        start(id, policy, urgent, () => follow(id));
      }
    }
  }

  async function payLater(debt: Debt): Promise<void> {
    // In the rotation's turn: the payment notes on its row when the credential died, and a step of it, a mint above all,
    // must find that row as it left it.
    await turns.take(debt.rotation, async () => {
      await pay(context, debt);
    });
    const rotation = await store.rotation(debt.rotation);
    if (rotation !== null) changed(rotation);
  }

  /** A due instant: one rotation of the secret, or of its group. */
  async function fire(name: string): Promise<void> {
    const state = await store.secret(name);
    const policy = policies().get(name);
    if (state === null || state.dueAt === null || state.paused) return;
    if (policy === undefined) return store.write({ secrets: [{ ...state, dueAt: null }] });
    const members = groupOf(policies(), policy);
    if (!state.data.looked && state.generation === 0 && (await wasFound(state, policy))) return;
    const active = await firstActive(members);
    if (active !== null) return skip(state, policy, active);
    // Due, but late: its window closed, or a freeze began. There is nothing to hurt in a secret that does not exist yet.
    const isNew = state.generation === 0 && !state.data.looked;
    if (!isNew && !ports.mayBegin(policy, ports.scheduleClock.now())) {
      return store.write({ secrets: [{ ...state, dueAt: dueAfter(context, state, policy) }] });
    }
    const fired = new Map<string, number>();
    for (const member of members) fired.set(member.name, state.dueAt);
    const rotation = await beginNew(context, {
      policies: members,
      kind: 'scheduled',
      mode: null,
      actor: { id: 'rotated', channel: 'schedule', proven: true },
      reason: null,
      inherited: new Map(),
      fired,
    });
    changed(rotation);
    poke();
  }

  /** A secret seen for the first time: what the backend already holds waits for its schedule; what it does not hold is made now. */
  async function wasFound(state: SecretState, policy: Policy): Promise<boolean> {
    const served = await readOwn(context, policy, 'current');
    if (served === null) return false;
    const looked = { ...state, data: { ...state.data, looked: true } };
    await store.write({ secrets: [{ ...looked, dueAt: dueAfter(context, looked, policy) }] });
    return true;
  }

  async function firstActive(members: readonly Policy[]): Promise<Rotation | null> {
    for (const member of members) {
      const active = await store.activeOf(member.name);
      if (active !== null) return active;
    }
    return null;
  }

  async function skip(state: SecretState, policy: Policy, active: Rotation): Promise<void> {
    if (state.dueAt === null) return;
    const actor = { id: 'rotated', channel: 'schedule', proven: true } as const;
    await store.write({
      secrets: [firedState(context, policy, state, state.dueAt)],
      audit: [
        auditEvent(
          ports.clock.now(),
          { secret: state.name, rotation: active.id, actor, reason: null },
          'schedule.skipped',
          'skipped',
          { dueAt: state.dueAt, phase: active.phase },
        ),
      ],
    });
  }

  function stopIfFatal(): void {
    if (fatal !== null) throw fatal;
  }

  async function sleepUntilNext(): Promise<void> {
    const uptimeMs = await store.journal.uptimeMs();
    const until = [...holds.values()].filter((at) => at > uptimeMs).map((at) => at - uptimeMs);
    const wakeAt = await store.journal.nextWakeUptimeMs();
    if (wakeAt !== null && wakeAt > uptimeMs) until.push(wakeAt - uptimeMs);
    const dueAt = await store.journal.nextDueAt();
    if (dueAt !== null) {
      const dueInMs = dueAt - ports.scheduleClock.now();
      if (dueInMs > 0) until.push(dueInMs);
    }
    const sleeping = new AbortController();
    const timer = ports.clock.sleep(
      Math.min(sleepMostMs, ...until),
      AbortSignal.any([signal, sleeping.signal]),
    );
    await Promise.race([wake.promise, timer.catch(() => undefined)]);
    sleeping.abort();
  }

  return {
    turns,
    poke,
    rush: (id) => {
      emergencies.add(id);
      poke(id);
    },
    follow,
    waitsFor: (id) => waits.get(id) ?? null,
    tick: async () => {
      for (;;) {
        stopIfFatal();
        signal.throwIfAborted();
        wake = Promise.withResolvers<void>();
        const isBusy = await pump();
        if (!isBusy && working.size === 0) return;
        await Promise.race([wake.promise, ...working.values()]);
      }
    },
    run: async () => {
      while (!signal.aborted) {
        stopIfFatal();
        wake = Promise.withResolvers<void>();
        await pump();
        await sleepUntilNext();
      }
      await Promise.allSettled(working.values());
      stopIfFatal();
    },
  };
}

/** The policy alone, or everyone it is grouped with. */
export function groupOf(policies: ReadonlyMap<string, Policy>, policy: Policy): readonly Policy[] {
  if (policy.group === null) return [policy];
  return [...policies.values()].filter((one) => one.group === policy.group);
}
