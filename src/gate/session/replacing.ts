/** A new generation: which way the process that serves is replaced, one change at a time, the latest wins. */
import { rereadOnly } from '../entry.ts';
import type { Notice, Resolved } from '../source.ts';
import type { BringUp, Place, Ready } from './bring-up.ts';
import {
  type Body,
  isSettled,
  listensOf,
  owesAnswers,
  releaseHeld,
  report,
  within,
} from './body.ts';
import type { Draining } from './draining.ts';
import { orAbort, unfit } from './prepare.ts';
import type { Reviving } from './reviving.ts';
import { cancel, forget, type Running, stopRunning } from './running.ts';
import type { Turns } from './turns.ts';
import { changedReferences } from './values.ts';

export interface Replacing {
  notice(given: Notice): void;
  /** The client has said `initialized`. */
  initialized(): void;
}

/** Since the last try, by how many there were: the first repetition may find that the cause is gone. */
const againAfterMs = [0, 0, 15_000, 30_000, 60_000] as const;

export function createReplacing(
  body: Body,
  turns: Turns,
  { bringUp, draining, reviving }: { bringUp: BringUp; draining: Draining; reviving: Reviving },
): Replacing {
  const { options, processes, carried, hold, closing } = body;
  const { source, clock } = options;
  const introduced = Promise.withResolvers<void>();
  let waiting: Notice | null = null;
  let isFollowing = false;
  /** With the values that failed last. */
  let tries = 0;
  let triedAtMs = 0;

  async function follow(): Promise<void> {
    if (isFollowing) return;
    isFollowing = true;
    while (waiting !== null && !closing.signal.aborted) {
      const { urgent } = waiting;
      waiting = null;
      // What drains must not wait for a new process that takes its time.
      if (urgent) draining.hurry();
      await turns.take(() => attempt(urgent));
    }
    isFollowing = false;
  }

  async function attempt(urgent: boolean): Promise<void> {
    try {
      const resolved = await source.resolve(closing.signal);
      body.latest = resolved;
      if (!urgent && isTooSoon(resolved)) return report(body);
      await replace(resolved, urgent);
      if (processes.serving === null && !body.isIdle) return;
      // An idle instance that could not start with these values has not become able to by being told again.
      const hasFailed =
        body.isIdle &&
        body.failed !== null &&
        body.latest !== null &&
        changedReferences(body.failed, body.latest).length === 0;
      if (!hasFailed) {
        body.problem = null;
        body.failed = null;
      }
      report(body);
    } catch (error) {
      if (!closing.signal.aborted) reviving.note(error);
    }
  }

  /** The daemon repeats what is not adopted, and each try starts a server, in a drain-window even stops one. */
  function isTooSoon(resolved: Resolved): boolean {
    const { failed } = body;
    if (processes.serving === null || failed === null) tries = 0;
    else if (changedReferences(failed, resolved).length > 0) tries = 0;
    const waitMs = againAfterMs[Math.min(tries, againAfterMs.length - 1)] ?? 0;
    if (tries > 0 && clock.monotonicMs() - triedAtMs < waitMs) return true;
    tries += 1;
    triedAtMs = clock.monotonicMs();
    return false;
  }

  async function replace(resolved: Resolved, urgent: boolean): Promise<void> {
    if (urgent) draining.hurry();
    let blue = processes.serving;
    // Idle: the next call finds it. Or it has crashed meanwhile, and its restart waits for this turn.
    if (blue === null) return;
    const changed = changedReferences(blue.resolved, resolved);
    const inFiles = rereadOnly(options.entry);
    if (changed.every((reference) => inFiles.has(reference))) {
      if (changed.length > 0) bringUp.rewriteFiles(resolved, 'reread');
      blue.resolved = resolved;
      body.served = resolved.generations;
      return;
    }
    const { swap, emergency } = source.settings();
    if (swap === 'pin-sessions' && !(urgent && emergency === 'cut')) {
      throw unfit('sessions are pinned to their process, until the client ends this one');
    }
    if (mayRest(blue) && (await rest(blue))) return;
    await handshake(blue);
    options.at?.('replacing');
    blue = processes.serving;
    if (blue === null) return;
    if (swap === 'drain-window') return oneAtATime(blue, resolved, urgent);
    const ready = await readied(resolved, { before: blue, isStrict: true });
    // It may have crashed, or have been flipped away from, while the new one was made ready.
    const now = processes.serving;
    if (now === null) bringUp.install(ready);
    else flip(ready, now, urgent);
  }

  /** In one turn of the event loop, so that no call falls between the two. */
  function flip(ready: Ready, blue: Running, urgent: boolean): void {
    processes.old.add(blue);
    const listens = listensOf(blue);
    bringUp.install(ready);
    for (const call of listens) {
      forget(blue, call.id);
      cancel(blue, call.id, 'continued in another process');
    }
    body.routing.flush();
    draining.begin(blue, urgent);
  }

  /** The old one answers what it holds and ends; then the new one starts, and takes what waited. */
  async function oneAtATime(blue: Running, resolved: Resolved, urgent: boolean): Promise<void> {
    const { drainMs, emergency } = source.settings();
    body.known = (await bringUp.look(blue)) ?? body.known;
    if (processes.serving !== blue) return again(urgent);
    const outlasting = !urgent && (await tasksOutlast(blue, drainMs));
    const isDone = outlasting ? draining.answeredAll : draining.settled;
    let isCut = false;
    hold.begin('calls');
    options.at?.('holding');
    try {
      await within(body, drainMs, (signal) => isDone(blue, signal));
    } catch (error) {
      closing.signal.throwIfAborted();
      if (processes.serving !== blue) return again(urgent);
      isCut = urgent && emergency === 'cut';
      // Rounds and tasks that nobody comes back for are given up at the limit; calls are not.
      if (!isCut && owesAnswers(blue)) {
        releaseHeld(body);
        throw error;
      }
    }
    if (processes.serving !== blue) return again(urgent);
    processes.serving = null;
    hold.begin('all');
    processes.old.add(blue);
    // Only now: what may be sent again must not go to the one that ends.
    if (isCut) draining.cut(blue);
    else body.orphans.push(...listensOf(blue));
    blue.calls.clear();
    await stopRunning(blue, isCut ? 'now' : 'gentle');
    try {
      bringUp.install(await readied(resolved, { before: null, isStrict: true }));
    } catch (error) {
      closing.signal.throwIfAborted();
      if (await asBefore(blue)) throw error;
    }
  }

  /** A task may take an hour: calls do not wait for one. True where they are given up at the limit. */
  async function tasksOutlast(blue: Running, drainMs: number): Promise<boolean> {
    try {
      await within(body, drainMs, (signal) => draining.withoutTasks(blue, signal));
      return false;
    } catch {
      closing.signal.throwIfAborted();
      return true;
    }
  }

  /** An instance that comes to rest later must not pass for one that takes what was refused here. */
  async function readied(resolved: Resolved, place: Place): Promise<Ready> {
    try {
      return await bringUp.ready(resolved, place);
    } catch (error) {
      body.failed = resolved;
      throw error;
    }
  }

  /** The old credential still lives: better the old generation than none. False where the newest serves after all. */
  async function asBefore(blue: Running): Promise<boolean> {
    try {
      bringUp.install(await bringUp.ready(blue.resolved, { before: null, isStrict: false }));
      return true;
    } catch (error) {
      closing.signal.throwIfAborted();
      reviving.note(error);
      await reviving.restart();
      return body.problem !== null;
    }
  }

  /** The process that was to be replaced serves no more: whoever serves now is looked at anew. */
  function again(urgent: boolean): void {
    if (processes.serving !== null) releaseHeld(body);
    waiting = { urgent: urgent || waiting?.urgent === true };
  }

  function mayRest(running: Running): boolean {
    const hasBegun =
      carried.meta !== null || (carried.initialize !== null && carried.isInitialized);
    const isQuiet =
      isSettled(body, running) &&
      running.calls.size === 0 &&
      carried.setup.subscriptions.size === 0;
    // One that could not take the new credential will not be able to at its next call either.
    if (body.problem !== null) return false;
    const { idleMs } = source.settings();
    return hasBegun && isQuiet && clock.monotonicMs() - body.lastCallAtMs >= idleMs;
  }

  /** Nobody calls: the process ends now, and the next call starts one with the newest generation. */
  async function rest(blue: Running): Promise<boolean> {
    body.known = (await bringUp.look(blue)) ?? body.known;
    if (processes.serving !== blue || !mayRest(blue)) return false;
    processes.serving = null;
    processes.old.add(blue);
    body.isIdle = true;
    // It may have been behind with what it was sent; nobody else will say that the client can go on.
    options.client.hold(!body.routing.flush());
    options.at?.('resting');
    await stopRunning(blue, 'gentle');
    return true;
  }

  /** Between `initialize` and `initialized` there is nothing yet that could be said to another process. */
  async function handshake(blue: Running): Promise<void> {
    const isAsking = () => [...blue.calls.values()].some((call) => call.method === 'initialize');
    if (carried.isInitialized || (carried.initialize === null && !isAsking())) return;
    options.at?.('deferred');
    const { startMs } = source.settings();
    await within(body, startMs, (signal) =>
      orAbort(Promise.race([introduced.promise, blue.link.ended]), signal),
    ).catch(() => closing.signal.throwIfAborted());
    // A client that never says `initialized` is taken as it is; a server that never answers cannot be replayed.
    if (isAsking()) throw unfit('the handshake of the client is still under way');
  }

  return {
    notice(given) {
      waiting = { urgent: given.urgent || waiting?.urgent === true };
      void follow();
    },
    initialized: () => introduced.resolve(),
  };
}
