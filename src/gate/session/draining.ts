/** The end of an old process: it answers what it holds, stays a while for the way back, and is stopped. */
import { gateErrors } from '../message.ts';
import { type Body, isSettled, report } from './body.ts';
import { orAbort } from './prepare.ts';
import type { Running } from './running.ts';

export interface Draining {
  /** Returns at once; the process is gone when the session reports so. */
  begin(running: Running, isUrgent: boolean): void;
  /** Resolves when it owes nothing. Rejects when the signal does. */
  settled(running: Running, signal: AbortSignal): Promise<void>;
  /** Something was answered. */
  answered(running: Running): void;
  /** It serves again. */
  recall(running: Running): void;
  /** What still drains must end: the old credential has leaked. */
  hurry(): void;
  /** Its calls are answered with an error each. */
  cut(running: Running): void;
}

export function createDraining(body: Body): Draining {
  const { options, processes, routing, closing } = body;
  const { clock, source, log } = options;
  const waiting = new Map<Running, Set<() => void>>();
  /** The drain that is in charge of a process: a later one replaces it. */
  const drains = new Map<Running, AbortController>();

  async function settled(running: Running, signal: AbortSignal): Promise<void> {
    if (isSettled(body, running)) return;
    const done = Promise.withResolvers<void>();
    const waiters = waiting.get(running) ?? new Set();
    waiting.set(running, waiters.add(done.resolve));
    try {
      await orAbort(Promise.race([done.promise, running.link.ended]), signal);
    } finally {
      waiters.delete(done.resolve);
      if (waiters.size === 0) waiting.delete(running);
    }
  }

  async function drain(running: Running, isUrgent: boolean, signal: AbortSignal): Promise<void> {
    const isDone = await answeredInTime(running, signal);
    const { emergency, warmMs } = source.settings();
    if (!isDone && isUrgent && emergency === 'cut') return end(running, 'now');
    if (!isDone && running.calls.size > 0) {
      log.warn({ calls: running.calls.size }, 'calls outlast the drain: the old process stays');
      await settled(running, signal);
    }
    if (!isUrgent && warmMs > 0) {
      await Promise.race([clock.sleep(warmMs, signal), running.link.ended]);
    }
    await end(running, 'gentle');
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
    await running.link.stop(how);
  }

  function cut(running: Running): void {
    routing.answerAll(running, gateErrors.cut, 'Ended by an emergency rotation of its credential.');
    routing.flush();
  }

  function begin(running: Running, isUrgent: boolean): void {
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
    answered(running) {
      const waiters = waiting.get(running);
      if (waiters === undefined || !isSettled(body, running)) return;
      for (const done of waiters) done();
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
