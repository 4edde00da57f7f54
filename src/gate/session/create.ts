/** Composes a session: its parts, and the two ways it ends. */
import { asRotatedError } from '../../errors.ts';
import type { LinkEnd } from '../link.ts';
import { createByteRedactor } from '../redaction.ts';
import type { Notice } from '../source.ts';
import { createAffinity } from './affinity.ts';
import { type Body, report } from './body.ts';
import { createBringUp } from './bring-up.ts';
import { createCarried } from './carried.ts';
import { createDraining } from './draining.ts';
import { createHold } from './hold.ts';
import type { Stage } from './path.ts';
import { createReplacing } from './replacing.ts';
import { createReviving } from './reviving.ts';
import { createRouting, type Processes } from './routing.ts';
import type { Running } from './running.ts';
import type { Session, SessionOptions } from './session.ts';

/** Starts the server at once, with what its references stand for now. */
export function createSession(options: SessionOptions): Session {
  const { client, source, clock } = options;
  const ended = Promise.withResolvers<LinkEnd>();
  const processes: Processes = { serving: null, old: new Set() };
  const redactor = createByteRedactor();
  const hold = createHold((isFull) => client.hold(isFull));
  const carried = createCarried();
  const affinity = createAffinity();
  let lastId = 0;
  const nextId = () => ++lastId;
  let isClosing = false;

  const redaction: Stage = {
    name: 'redaction',
    concerns: (bytes) => source.settings().redact && redactor.finds(bytes),
    toClient: (frame) => redactor.cleanFrame(frame),
  };
  const routing = createRouting({
    processes,
    carried,
    affinity,
    stages: [redaction, ...(options.stages ?? [])],
    client,
    log: options.log,
    agent: options.agent ?? null,
    retryable: () => source.settings().retry,
    nextId,
    onNobody(frame) {
      hold.begin('all');
      hold.keep(frame);
      reviving.wake();
    },
    onInitialized: () => replacing.initialized(),
    onAnswered: (running) => draining.answered(running),
  });
  const body: Body = {
    options,
    processes,
    carried,
    affinity,
    hold,
    routing,
    redactor,
    closing: new AbortController(),
    preparing: null,
    latest: null,
    problem: null,
    isIdle: false,
    known: null,
    orphans: [],
    lastCallAtMs: clock.monotonicMs(),
  };
  const bringUp = createBringUp(body, nextId, onEnded);
  const draining = createDraining(body);
  const reviving = createReviving(body, bringUp, draining, giveUp);
  const replacing = createReplacing(body, { bringUp, draining, reviving });

  function onEnded(running: Running, end: LinkEnd): void {
    affinity.forget(running);
    if (running === processes.serving) {
      if (!isClosing) return reviving.lost(running, end);
      processes.serving = null;
    } else if (processes.old.delete(running) && !isClosing) {
      return reviving.gone(running);
    }
    if (isClosing && processes.serving === null && processes.old.size === 0) finish(end);
  }

  /** Nothing runs any more. */
  function finish(end: LinkEnd): void {
    routing.flush();
    void source.close().then(() => ended.resolve(end));
  }

  /** Nothing will run any more. */
  function giveUp(end: LinkEnd): void {
    if (isClosing) return;
    isClosing = true;
    body.closing.abort(new DOMException('The server has ended.', 'AbortError'));
    finish(end);
  }

  function close(how: 'gentle' | 'now'): void {
    const underWay = starting ?? reviving.pending();
    if (how === 'gentle' && !isClosing && underWay !== null && !hold.isEmpty()) {
      // What the client said before it left still gets its server.
      void underWay.finally(() => close('gentle'));
      return;
    }
    isClosing = true;
    body.closing.abort(new DOMException('The session closes.', 'AbortError'));
    const { serving, old } = processes;
    const all = [serving, body.preparing, ...old].filter((one) => one !== null);
    for (const running of all) void running.link.stop(running === serving ? how : 'now');
    if (all.length === 0) finish({ why: 'closed', exitCode: 0, signal: null, message: null });
  }

  async function first(): Promise<void> {
    hold.begin('all');
    try {
      const resolved = await source.resolve(body.closing.signal);
      if (isClosing) return;
      bringUp.install({ running: bringUp.launch(resolved), known: null, news: [] });
      report(body);
    } catch (error) {
      if (isClosing) return;
      const { message, next } = asRotatedError(error, 'none');
      reviving.refuseHeld(message);
      giveUp({
        why: 'failed',
        exitCode: null,
        signal: null,
        message: next === '' ? message : `${message} ${next}`,
      });
    }
  }

  let starting: Promise<void> | null = first().finally(() => {
    starting = null;
  });
  source.listen((notice: Notice) => {
    void (starting ?? Promise.resolve()).then(() => replacing.notice(notice));
  });
  return {
    fromClient(frames) {
      body.lastCallAtMs = clock.monotonicMs();
      for (const frame of frames) if (!hold.keep(frame)) routing.fromClient(frame);
      if (!routing.flush()) client.hold(true);
    },
    clientDrained() {
      for (const running of [processes.serving, ...processes.old]) running?.link.resume();
    },
    clientClosed: () => close('gentle'),
    stop: () => close('now'),
    ended: ended.promise,
  };
}
