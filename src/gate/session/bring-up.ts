/** Starts a process and makes it ready; hands the client over to it. */
import { renderLaunch } from '../entry.ts';
import type { LinkEnd, LinkEvents } from '../link.ts';
import { writeValueFile } from '../process-link.ts';
import type { Resolved } from '../source.ts';
import { announcements } from './announce.ts';
import { type Body, hide, listensOf, releaseHeld, within } from './body.ts';
import { lostTools, type Identity, type Offer } from './compare.ts';
import type { Call } from './path.ts';
import {
  catchUp,
  identityNow,
  introduce,
  type Known,
  listenAgain,
  mayTakeOver,
  offerOf,
  orAbort,
  tryCredential,
  unfit,
} from './prepare.ts';
import { cancel, forget, type Running, startRunning, stopRunning } from './running.ts';

/** How long the old process is asked what it offers before it is done without the answer. */
const lookMs = 3_000;
/** Some servers register their tools only after the handshake: so long a missing one may still come. */
const lateToolsMs = 2_000;

/** A process that can take over, with what its client has to be told then. */
export interface Ready {
  readonly running: Running;
  readonly known: Known | null;
  news(): readonly Buffer[];
}

/** A server whose lists never stand still is taken as it is. */
const listingsMost = 5;

/** Which process is replaced, and whether the new one may be refused for what it is. */
export interface Place {
  /** Null where none serves. */
  readonly before: Running | null;
  /** False where nothing else could serve: better another version, and the client is told, than none. */
  readonly isStrict: boolean;
}

export interface BringUp {
  /** Without waiting for anything: the client itself introduces it. */
  launch(resolved: Resolved): Running;
  /** Throws `swap-failed`, or that the session closes; the process is stopped then. */
  ready(resolved: Resolved, place: Place): Promise<Ready>;
  /** What the process says of itself now; null where it does not answer. */
  look(running: Running): Promise<Known | null>;
  /** From here on it gets every new call; whatever waited is sent. */
  install(ready: Ready): void;
  /** The process serves, after another one did: what the client has set up meanwhile is made up for. */
  catchUp(running: Running): void;
  rewriteFiles(resolved: Resolved, which: 'all' | 'reread'): void;
}

export function createBringUp(
  body: Body,
  nextId: () => number,
  onEnded: (running: Running, end: LinkEnd) => void,
): BringUp {
  const { options, processes, carried, routing, closing } = body;
  const { client, source } = options;

  function events(running: () => Running): LinkEvents {
    return {
      onFrames(frames) {
        routing.fromServer(running(), frames);
        routing.flush();
      },
      onDrain() {
        if (running() === processes.serving) client.hold(false);
      },
      onLog(lines) {
        client.log(source.settings().redact ? body.redactor.cleanText(lines) : lines);
      },
      onTooLong(head, tail) {
        routing.tooLong(running(), head, tail);
        routing.flush();
      },
    };
  }

  function launch(resolved: Resolved): Running {
    hide(body, resolved);
    const running = startRunning(options.startLink, resolved, nextId, events);
    void running.link.ended.then((end) => onEnded(running, end));
    return running;
  }

  async function look(running: Running): Promise<Known | null> {
    try {
      return await within(body, lookMs, async (signal) => {
        const identity = await identityNow(running, carried, signal);
        if (identity === null) return null;
        const offer = await offerOf(running, identity, carried, signal);
        const firstTools = running.known?.firstTools ?? carried.firstTools;
        return { identity, offer, firstTools: firstTools ?? new Set(offer.tools.keys()) };
      });
    } catch {
      closing.signal.throwIfAborted();
      return null;
    }
  }

  async function prepare(
    running: Running,
    { before, isStrict }: Place,
    signal: AbortSignal,
  ): Promise<Ready> {
    const settings = source.settings();
    const identity = await introduce(running, carried, signal);
    if (identity === null) return { running, known: null, news: () => [] };
    const was = (before === null ? null : await look(before)) ?? body.known;
    if (before !== null) before.known = was;
    const offer = await offered(running, identity, was?.firstTools ?? null, signal);
    const known = { identity, offer, firstTools: new Set(offer.tools.keys()) };
    if (was !== null && isStrict) mayTakeOver(was, known, settings);
    if (settings.canary !== null) await tryCredential(running, settings.canary, carried, signal);
    const open = before === null ? body.orphans.filter((call) => call.isListen) : listensOf(before);
    await listenAgain(running, open, signal);
    return {
      running,
      known,
      news: () => announcements(was, known, carried, listensOf(running), running.changed),
    };
  }

  /** What it offers, once it offers what the one before did, or will not. */
  async function offered(
    running: Running,
    identity: Identity,
    before: ReadonlySet<string> | null,
    signal: AbortSignal,
  ): Promise<Offer> {
    let offer = await steady();
    if (before === null) return offer;
    const patienceMs = Math.min(lateToolsMs, source.settings().startMs / 4);
    const late = options.clock.sleep(patienceMs, signal).then(() => true);
    late.catch(() => undefined);
    while (lostTools(before, offer).length > 0) {
      const changed = new Promise<false>((resolve) => {
        running.onChanged = () => resolve(false);
      });
      if (running.changed.size === 0 && (await orAbort(Promise.race([changed, late]), signal)))
        break;
      offer = await steady();
    }
    return offer;

    /** As it stands: what it says of changes before and during a listing is in the next one. */
    async function steady(): Promise<Offer> {
      for (let tries = 0; ; tries++) {
        running.changed.clear();
        const listed = await offerOf(running, identity, carried, signal);
        if (running.changed.size === 0 || tries === listingsMost) return listed;
      }
    }
  }

  function rewriteFiles(resolved: Resolved, which: 'all' | 'reread'): void {
    const filled = renderLaunch(options.entry.launch, resolved.values);
    if (filled.kind !== 'process') return;
    for (const file of filled.files) {
      if (which === 'all' || file.reread) writeValueFile(file);
    }
  }

  /** Listens that were opened, or ended, while the new process acknowledged those before. */
  function moveListens(running: Running, open: readonly Call[]): void {
    const ids = new Set(open.map((call) => call.id));
    for (const call of listensOf(running)) {
      if (!ids.has(call.id)) {
        forget(running, call.id);
        cancel(running, call.id, 'ended by the client');
        continue;
      }
      const acknowledgement = running.heard.get(call.id);
      if (call.isAcknowledged || acknowledgement == null) continue;
      call.isAcknowledged = true;
      routing.tell(acknowledgement);
    }
    running.heard.clear();
    for (const call of open) routing.send(running, call);
  }

  return {
    launch,
    look,
    async ready(resolved, place) {
      closing.signal.throwIfAborted();
      const running = launch(resolved);
      body.preparing = running;
      options.at?.('preparing');
      try {
        const { startMs } = source.settings();
        const ready = await within(body, startMs, (signal) => prepare(running, place, signal));
        if (running.hasEnded()) throw unfit('it ended at once');
        return ready;
      } catch (error) {
        running.calls.clear();
        await stopRunning(running, 'gentle');
        // Where a value stands in a file, the one that goes on would find the new one there.
        if (place.before !== null) rewriteFiles(place.before.resolved, 'all');
        throw error;
      } finally {
        if (body.preparing === running) body.preparing = null;
      }
    },
    install({ running, known, news }) {
      const before = processes.serving;
      const orphans = body.orphans.splice(0);
      const open = before === null ? orphans.filter((call) => call.isListen) : listensOf(before);
      running.isPreparing = false;
      processes.serving = running;
      body.isIdle = false;
      body.latest = running.resolved;
      body.served = running.resolved.generations;
      body.good = running.resolved;
      body.known = known;
      running.known = known;
      moveListens(running, open);
      for (const frame of news()) routing.tell(frame);
      if (known !== null) catchUp(running, carried, closing.signal);
      routing.releaseEarly(running);
      for (const call of orphans) if (!call.isListen) routing.send(running, call);
      releaseHeld(body);
      options.at?.('flipped');
    },
    catchUp: (running) => catchUp(running, carried, closing.signal),
    rewriteFiles,
  };
}
