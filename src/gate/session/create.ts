/** Composes a session: its parts, and the two ways it ends. */
import { asRotatedError } from '../../errors.ts';
import type { LinkEnd } from '../link.ts';
import { createByteRedactor } from '../redaction.ts';
import { createAffinity } from './affinity.ts';
import { type Body, owesAnswers, releaseHeld, report } from './body.ts';
import { createBringUp } from './bring-up.ts';
import { createCarried } from './carried.ts';
import { createDraining } from './draining.ts';
import { createHold } from './hold.ts';
import type { Stage } from './path.ts';
import { createReplacing } from './replacing.ts';
import { createReviving } from './reviving.ts';
import { createRouting, type Processes } from './routing.ts';
import { type Running, stopRunning } from './running.ts';
import type { Session, SessionOptions } from './session.ts';
import { createTurns } from './turns.ts';

/** So long a client that has left is answered: a server that starts slowly has not even read what it was asked. */
const lastAnswersMs = 10_000;

/** Starts the server at once, with what its references stand for now. */
export function createSession(options: SessionOptions): Session {
  const { client, source, clock } = options;
  const ended = Promise.withResolvers<LinkEnd>();
  const processes: Processes = { serving: null, old: new Set() };
  const redactor = createByteRedactor();
  const carried = createCarried();
  const affinity = createAffinity();
  const turns = createTurns();
  const hold = createHold(
    (isFull) => client.hold(isFull),
    (request) => {
      const owner = affinity.ownerOf(request);
      return owner !== null && !owner.isStopping && !owner.hasEnded();
    },
  );
  let lastId = 0;
  const nextId = () => ++lastId;
  let isClosing = false;
  /** Whoever waits for last answers waits no longer. */
  const hurrying = new AbortController();

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
    onSetUpElsewhere() {
      if (processes.serving !== null) bringUp.catchUp(processes.serving);
    },
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
    served: {},
    lastEnd: null,
    problem: null,
    overdue: null,
    failed: null,
    good: null,
    isIdle: false,
    known: null,
    orphans: [],
    lastCallAtMs: clock.monotonicMs(),
  };
  const bringUp = createBringUp(body, nextId, onEnded);
  const draining = createDraining(body);
  const reviving = createReviving(body, turns, { bringUp, draining }, giveUp);
  const replacing = createReplacing(body, turns, { bringUp, draining, reviving });

  function onEnded(running: Running, end: LinkEnd): void {
    affinity.forget(running);
    const wasServing = running === processes.serving;
    const wasOld = processes.old.delete(running);
    if (isClosing) {
      if (wasServing) processes.serving = null;
    } else if (wasServing) reviving.lost(running, end);
    else if (wasOld) reviving.gone(running);
  }

  /** Every process is stopped; the session ends as the one did that served. */
  async function end(how: 'gentle' | 'now', given: LinkEnd | null): Promise<void> {
    isClosing = true;
    body.closing.abort(new DOMException('The session closes.', 'AbortError'));
    const { serving, old } = processes;
    const { preparing } = body;
    if (how === 'gentle') await lastAnswers();
    const stopped = await Promise.all([
      serving === null ? null : stopRunning(serving, how),
      ...[...old].map((one) => stopRunning(one, how)),
      preparing === null ? null : stopRunning(preparing, 'now'),
    ]);
    await turns.underWay();
    routing.flush();
    await source.close().catch(() => undefined);
    ended.resolve(
      given ?? stopped[0] ?? { why: 'closed', exitCode: 0, signal: null, message: null },
    );
  }

  /** What the client asked before it left is answered, as it would be without us. */
  async function lastAnswers(): Promise<void> {
    const running = [processes.serving, ...processes.old].filter((one) => one !== null);
    const owing = running.filter((one) => owesAnswers(one) && !one.isStopping);
    for (const one of owing) one.link.endInput();
    const answered = owing.map((one) =>
      draining.answeredAll(one, hurrying.signal).catch(() => undefined),
    );
    const late = clock.sleep(lastAnswersMs, hurrying.signal).catch(() => undefined);
    await Promise.race([Promise.all(answered), late]);
    hurrying.abort(new DOMException('Done.', 'AbortError'));
  }

  function giveUp(given: LinkEnd): void {
    if (!isClosing) void end('gentle', given);
  }

  function close(how: 'gentle' | 'now'): void {
    if (isClosing) {
      hurrying.abort();
      if (how === 'now') hurry();
      return;
    }
    if (how === 'now') hurrying.abort();
    const underWay = turns.underWay();
    if (how === 'gentle' && processes.serving === null && underWay !== null && !hold.isEmpty()) {
      // What the client said before it left still gets its server.
      void underWay.then(() => close('gentle'));
      return;
    }
    // What waits for a new process can be had from the one that is there.
    if (processes.serving !== null) releaseHeld(body);
    void end(how, null);
  }

  function hurry(): void {
    for (const running of [processes.serving, ...processes.old]) {
      if (running !== null) void stopRunning(running, 'now');
    }
  }

  async function first(): Promise<void> {
    hold.begin('all');
    try {
      const resolved = await source.resolve(body.closing.signal);
      if (isClosing) return;
      bringUp.install({ running: bringUp.launch(resolved), known: null, news: () => [] });
      report(body);
    } catch (error) {
      if (isClosing) return;
      const { code, message, next } = asRotatedError(error, 'none');
      // Clients show the message and nothing else.
      const said = next === '' ? message : `${message} Next: ${next}`;
      options.log.warn({ code, error: said }, 'the server is not started');
      reviving.refuseHeld(said);
      giveUp({ why: 'failed', exitCode: null, signal: null, message: said });
    }
  }

  void turns.take(first);
  source.listen((notice) => replacing.notice(notice));
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
