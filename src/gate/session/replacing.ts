/** A new generation: which way the process that serves is replaced, one change at a time, the latest wins. */
import { renderLaunch, rereadOnly } from '../entry.ts';
import { writeValueFile } from '../process-link.ts';
import type { Notice, Resolved } from '../source.ts';
import type { BringUp, Ready } from './bring-up.ts';
import { type Body, releaseHeld, report, within } from './body.ts';
import type { Draining } from './draining.ts';
import { orAbort, unfit } from './prepare.ts';
import type { Reviving } from './reviving.ts';
import { cancel, forget, type Running } from './running.ts';
import { changedReferences } from './values.ts';

export interface Replacing {
  notice(given: Notice): void;
  /** The client has said `initialized`. */
  initialized(): void;
}

export function createReplacing(
  body: Body,
  { bringUp, draining, reviving }: { bringUp: BringUp; draining: Draining; reviving: Reviving },
): Replacing {
  const { options, processes, carried, hold, closing } = body;
  const { source, clock } = options;
  const introduced = Promise.withResolvers<void>();
  let waiting: Notice | null = null;
  let isFollowing = false;

  async function follow(): Promise<void> {
    if (isFollowing) return;
    isFollowing = true;
    while (waiting !== null && !closing.signal.aborted) {
      const { urgent } = waiting;
      waiting = null;
      try {
        await replace(urgent);
        body.problem = null;
        report(body);
      } catch (error) {
        if (closing.signal.aborted) break;
        reviving.note(error);
      }
    }
    isFollowing = false;
  }

  async function replace(urgent: boolean): Promise<void> {
    // A process that is on its way takes what it was given first.
    await reviving.pending();
    const resolved = await source.resolve(closing.signal);
    body.latest = resolved;
    if (urgent) draining.hurry();
    const blue = processes.serving;
    if (blue === null) return;
    const changed = changedReferences(blue.resolved, resolved);
    const inFiles = rereadOnly(options.entry);
    if (changed.every((reference) => inFiles.has(reference))) {
      if (changed.length > 0) rewriteFiles(resolved);
      blue.resolved = resolved;
      return;
    }
    const { swap, emergency } = source.settings();
    if (swap === 'pin-sessions' && !(urgent && emergency === 'cut')) {
      throw unfit('sessions are pinned to their process, until the client ends this one');
    }
    if (mayRest(blue)) return rest(blue);
    await handshake(blue);
    options.at?.('replacing');
    if (swap === 'drain-window') return oneAtATime(blue, resolved, urgent);
    const ready = await bringUp.ready(resolved, blue);
    // It may have crashed while the new one was made ready.
    const now = processes.serving;
    if (now === null) bringUp.install(ready);
    else flip(ready, now, urgent);
  }

  /** In one turn of the event loop, so that no call falls between the two. */
  function flip(ready: Ready, blue: Running, urgent: boolean): void {
    processes.serving = ready.running;
    processes.old.add(blue);
    for (const call of [...blue.calls.values()].filter((one) => one.isListen)) {
      forget(blue, call.id);
      cancel(blue, call.id, 'continued in another process');
    }
    bringUp.install(ready);
    draining.begin(blue, urgent);
  }

  /** The old one answers what it holds and ends; then the new one starts, and takes what waited. */
  async function oneAtATime(blue: Running, resolved: Resolved, urgent: boolean): Promise<void> {
    const { drainMs, emergency } = source.settings();
    body.known = (await bringUp.look(blue)) ?? body.known;
    hold.begin('calls');
    options.at?.('holding');
    const listens = [...blue.calls.values()].filter((call) => call.isListen);
    for (const call of listens) forget(blue, call.id);
    try {
      await within(body, drainMs, (signal) => draining.settled(blue, signal));
    } catch (error) {
      closing.signal.throwIfAborted();
      if (!urgent || emergency !== 'cut') {
        for (const call of listens) blue.calls.set(call.id, call);
        releaseHeld(body);
        throw error;
      }
      draining.cut(blue);
    }
    body.orphans.push(...listens);
    if (processes.serving !== blue) return;
    processes.serving = null;
    hold.begin('all');
    processes.old.add(blue);
    await blue.link.stop('gentle');
    let failure: unknown = null;
    const ready = await bringUp.ready(resolved, null).catch((error: unknown) => {
      closing.signal.throwIfAborted();
      failure = error;
      // The old credential still lives: better the old generation than none.
      return bringUp.ready(blue.resolved, null);
    });
    bringUp.install(ready);
    if (failure !== null) throw failure;
  }

  function mayRest(running: Running): boolean {
    const isQuiet =
      running.calls.size === 0 && running.asked.size === 0 && carried.subscriptions.size === 0;
    const hasBegun =
      carried.meta !== null || (carried.initialize !== null && carried.isInitialized);
    const { idleMs } = source.settings();
    return hasBegun && isQuiet && clock.monotonicMs() - body.lastCallAtMs >= idleMs;
  }

  /** Nobody calls: the process ends now, and the next call starts one with the newest generation. */
  async function rest(blue: Running): Promise<void> {
    body.known = (await bringUp.look(blue)) ?? body.known;
    if (processes.serving !== blue || !mayRest(blue)) {
      waiting ??= { urgent: false };
      return;
    }
    processes.serving = null;
    processes.old.add(blue);
    body.isIdle = true;
    options.at?.('resting');
    await blue.link.stop('gentle');
  }

  /** Between `initialize` and `initialized` there is nothing yet that could be said to another process. */
  async function handshake(blue: Running): Promise<void> {
    const isAsking = [...blue.calls.values()].some((call) => call.method === 'initialize');
    if (carried.isInitialized || (carried.initialize === null && !isAsking)) return;
    options.at?.('deferred');
    // A client that never says `initialized` is taken as it is.
    const { startMs } = source.settings();
    await within(body, startMs, (signal) => orAbort(introduced.promise, signal)).catch(() =>
      closing.signal.throwIfAborted(),
    );
  }

  function rewriteFiles(resolved: Resolved): void {
    const filled = renderLaunch(options.entry.launch, resolved.values);
    if (filled.kind !== 'process') return;
    for (const file of filled.files) if (file.reread) writeValueFile(file);
  }

  return {
    notice(given) {
      waiting = { urgent: given.urgent || waiting?.urgent === true };
      void follow();
    },
    initialized: () => introduced.resolve(),
  };
}
