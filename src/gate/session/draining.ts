/** The end of an old process: it answers what it holds, stays a while for the way back, and is stopped. */
import { gateErrors } from '../message.ts';
import { updatesOf } from './announce.ts';
import { type Body, isSettled, listensOf, owesAnswers, report, resend } from './body.ts';
import { orAbort } from './prepare.ts';
import { type Running, stopRunning } from './running.ts';

export interface Draining {
  /** Returns at once; the process is gone when the session reports so. */
  begin(running: Running, isUrgent: boolean): void;
  /** Resolves when it owes nothing. Rejects when the signal does. */
  settled(running: Running, signal: AbortSignal): Promise<void>;
  /** Resolves when nobody waits for an answer of it. Rejects when the signal does. */
  answeredAll(running: Running, signal: AbortSignal): Promise<void>;
  /** Resolves when none of its tasks is open. Rejects when the signal does. */
  withoutTasks(running: Running, signal: AbortSignal): Promise<void>;
  /** Something was answered. */
  answered(running: Running): void;
  /** It serves again. */
  recall(running: Running): void;
  /** What still drains must end: the old credential has leaked. */
  hurry(): void;
  /** Its calls are answered with an error each, or sent again where they may be. */
  cut(running: Running): void;
}

export function createDraining(body: Body): Draining {
  const { options, processes, routing, closing } = body;
  const { clock, source, log } = options;
  const waiting = new Map<Running, Set<() => void>>();
  /** The drain that is in charge of a process: a later one replaces it. */
  const drains = new Map<Running, AbortController>();

  async function until(
    running: Running,
    isDone: () => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    while (!isDone() && !running.hasEnded()) {
      const next = Promise.withResolvers<void>();
      const waiters = waiting.get(running) ?? new Set();
      waiting.set(running, waiters.add(next.resolve));
      try {
        await orAbort(Promise.race([next.promise, running.link.ended]), signal);
      } finally {
        waiters.delete(next.resolve);
        if (waiters.size === 0) waiting.delete(running);
      }
    }
  }

  const settled: Draining['settled'] = (running, signal) =>
    until(running, () => isSettled(body, running), signal);
  const answeredAll: Draining['answeredAll'] = (running, signal) =>
    until(running, () => !owesAnswers(running), signal);

  async function drain(running: Running, isUrgent: boolean, signal: AbortSignal): Promise<void> {
    const hasCalls = owesAnswers(running);
    const isDone = await answeredInTime(running, signal);
    const { emergency, warmMs } = source.settings();
    if (!isDone && isUrgent && emergency === 'cut') return end(running, 'now');
    if (!isDone) await outlast(running, signal);
    if (!isUrgent && warmMs > 0) {
      await Promise.race([clock.sleep(warmMs, signal), running.link.ended]);
      // A page of a list, or a round of its own, may have come meanwhile.
      await answeredAll(running, signal);
    }
    // Its listens were moved at the flip; a call that it still ran may have changed what somebody listens to.
    if (hasCalls && processes.serving !== null) {
      for (const frame of updatesOf(listensOf(processes.serving))) routing.tell(frame);
      routing.flush();
    }
    await end(running, 'gentle');
  }

  /** Rounds and tasks that nobody comes back for are given up at the limit; calls are not. */
  async function outlast(running: Running, signal: AbortSignal): Promise<void> {
    if (!owesAnswers(running)) return;
    const calls = running.calls.size;
    log.warn({ calls }, 'calls outlast the drain: the old process stays');
    body.overdue = {
      code: 'adoption-timeout',
      message: `${calls} calls outlast the drain; the old process, with the old credential, stays until they are answered.`,
    };
    report(body);
    await answeredAll(running, signal);
  }

  async function answeredInTime(running: Running, signal: AbortSignal): Promise<boolean> {
    const over = new AbortController();
    const limit = AbortSignal.any([over.signal, signal]);
    const late = clock.sleep(source.settings().drainMs, limit).then(() => false);
    try {
      return await Promise.race([settled(running, limit).then(() => true), late]);
    } finally {
      over.abort(new DOMException('Done.', 'AbortError'));
      late.catch(() => undefined);
    }
  }

  async function end(running: Running, how: 'gentle' | 'now'): Promise<void> {
    if (how === 'now') cut(running);
    options.at?.('stopping');
    await stopRunning(running, how);
  }

  function cut(running: Running): void {
    const message = 'Ended by an emergency rotation of its credential.';
    resend(body, routing.answerAll(running, gateErrors.cut, message));
    routing.flush();
  }

  function begin(running: Running, isUrgent: boolean): void {
    if (running.isStopping) return;
    drains.get(running)?.abort(new DOMException('Replaced.', 'AbortError'));
    const own = new AbortController();
    drains.set(running, own);
    const signal = AbortSignal.any([own.signal, closing.signal]);
    void drain(running, isUrgent, signal)
      .catch(() => undefined)
      .finally(() => {
        if (drains.get(running) === own) drains.delete(running);
      });
  }

  return {
    begin,
    settled,
    answeredAll,
    withoutTasks: (running, signal) =>
      until(running, () => body.affinity.open(running, 'task') === 0, signal),
    answered(running) {
      for (const next of waiting.get(running) ?? []) next();
    },
    recall(running) {
      drains.get(running)?.abort(new DOMException('It serves again.', 'AbortError'));
      drains.delete(running);
    },
    hurry() {
      for (const running of processes.old) begin(running, true);
      if (processes.old.size > 0) report(body);
    },
    cut,
  };
}
