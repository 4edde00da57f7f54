/** Starts a process and makes it ready; hands the client over to it. */
import type { LinkEnd, LinkEvents } from '../link.ts';
import type { Resolved } from '../source.ts';
import { announcements } from './announce.ts';
import { type Body, hide, releaseHeld, within } from './body.ts';
import {
  identityNow,
  introduce,
  type Known,
  listenAgain,
  mayTakeOver,
  offerOf,
  tryCredential,
  unfit,
} from './prepare.ts';
import { type Running, startRunning } from './running.ts';

/** How long the old process is asked what it offers before it is done without the answer. */
const lookMs = 3_000;

/** A process that can take over, with what its client has to be told then. */
export interface Ready {
  readonly running: Running;
  readonly known: Known | null;
  readonly news: readonly Buffer[];
}

export interface BringUp {
  /** Without waiting for anything: the client itself introduces it. */
  launch(resolved: Resolved): Running;
  /** Throws `swap-failed`, or that the session closes; the process is stopped then. `before`: the one to be replaced. */
  ready(resolved: Resolved, before: Running | null): Promise<Ready>;
  /** What the process says of itself now; null where it does not answer. */
  look(running: Running): Promise<Known | null>;
  /** From here on it gets every new call; whatever waited is sent. */
  install(ready: Ready): void;
}

export function createBringUp(
  body: Body,
  nextId: () => number,
  onEnded: (running: Running, end: LinkEnd) => void,
): BringUp {
  const { options, processes, carried, routing } = body;
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
        return { identity, offer: await offerOf(running, identity, carried, signal) };
      });
    } catch {
      body.closing.signal.throwIfAborted();
      return null;
    }
  }

  async function prepare(
    running: Running,
    before: Running | null,
    signal: AbortSignal,
  ): Promise<Ready> {
    const settings = source.settings();
    const identity = await introduce(running, carried, signal);
    if (identity === null) return { running, known: null, news: [] };
    const offer = await offerOf(running, identity, carried, signal);
    const known = { identity, offer };
    const was = (before === null ? null : await look(before)) ?? body.known;
    if (was !== null) mayTakeOver(was, known, settings);
    if (settings.canary !== null) await tryCredential(running, settings.canary, carried, signal);
    const listens = [...(before?.calls.values() ?? [])].filter((call) => call.isListen);
    await listenAgain(running, listens, signal);
    return { running, known, news: announcements(was, known, carried, listens) };
  }

  return {
    launch,
    look,
    async ready(resolved, before) {
      const running = launch(resolved);
      body.preparing = running;
      options.at?.('preparing');
      try {
        const { startMs } = source.settings();
        const ready = await within(body, startMs, (signal) => prepare(running, before, signal));
        if (running.hasEnded()) throw unfit('it ended at once');
        return ready;
      } catch (error) {
        running.calls.clear();
        await running.link.stop('gentle');
        if (running.hasEnded() && !body.closing.signal.aborted) options.at?.('not-ready');
        throw error;
      } finally {
        body.preparing = null;
      }
    },
    install({ running, known, news }) {
      running.isPreparing = false;
      processes.serving = running;
      body.isIdle = false;
      body.latest = running.resolved;
      body.known = known;
      for (const frame of news) routing.tell(frame);
      routing.releaseEarly(running);
      for (const call of body.orphans.splice(0)) routing.send(running, call);
      releaseHeld(body);
      options.at?.('flipped');
    },
  };
}
