/** A process that ended by itself, or was let go for want of calls: who takes its place. */
import { asRotatedError } from '../../errors.ts';
import type { LinkEnd } from '../link.ts';
import { errorFrame, gateErrors, readMessage } from '../message.ts';
import { announcements } from './announce.ts';
import type { BringUp } from './bring-up.ts';
import { type Body, releaseHeld, report, resend } from './body.ts';
import type { Draining } from './draining.ts';
import { idText } from './path.ts';
import type { Running } from './running.ts';
import type { Turns } from './turns.ts';
import { changedReferences } from './values.ts';

export interface Reviving {
  /** The process that served has ended by itself. */
  lost(running: Running, end: LinkEnd): void;
  /** An old one has, or was stopped. */
  gone(running: Running): void;
  /** The client calls, and no process runs. */
  wake(): void;
  /** In its caller's turn: there is a process again when this resolves, or the session has ended. */
  restart(): Promise<void>;
  /** Why the newest generation is not served, for whoever asks. */
  note(error: unknown): void;
  /** What waits is answered with an error each. */
  refuseHeld(message: string): void;
}

/** A server that crashes so often in a row is given up: whoever started it sees its exit code. */
const restartsMost = 5;
const backOffFirstMs = 250;
/** After so long without a crash, the next one is the first again. */
const healthyMs = 60_000;
const endedMessage =
  'The server ended before it answered; the call may or may not have been carried out.';

export function createReviving(
  body: Body,
  turns: Turns,
  { bringUp, draining }: { bringUp: BringUp; draining: Draining },
  giveUp: (end: LinkEnd) => void,
): Reviving {
  const { options, processes, carried, hold, routing, closing } = body;
  const { clock, source, log } = options;
  let crashes = 0;
  let raisedAtMs = clock.monotonicMs();

  function note(error: unknown): void {
    const failed = asRotatedError(error, 'none');
    body.problem = { code: failed.code, message: failed.message };
    log.warn({ code: failed.code, error: failed.message }, 'the new generation is not served');
    report(body);
  }

  /**
   * With what stands behind the references now, or stood when last asked: the daemon may be down. Where that does not work,
   * with what served last: the old credential lives until the new one is adopted.
   */
  async function raise(): Promise<void> {
    const resolved = await source.resolve(closing.signal).catch((error: unknown) => {
      if (body.latest === null || closing.signal.aborted) throw error;
      return body.latest;
    });
    const place = { before: null, isStrict: false } as const;
    const { good } = body;
    let hasFailed = false;
    const ready = await bringUp.ready(resolved, place).catch((error: unknown) => {
      closing.signal.throwIfAborted();
      body.failed = resolved;
      if (good === null || changedReferences(good, resolved).length === 0) throw error;
      hasFailed = true;
      // Now: whatever is reported meanwhile must not pass for adopted.
      note(error);
      return bringUp.ready(good, place);
    });
    bringUp.install(ready);
    raisedAtMs = clock.monotonicMs();
    if (!hasFailed) {
      body.problem = null;
      body.failed = null;
    }
    report(body);
  }

  async function restart(): Promise<void> {
    if (clock.monotonicMs() - raisedAtMs > healthyMs) crashes = 0;
    while (processes.serving === null) {
      crashes += 1;
      const end = body.lastEnd ?? { why: 'exited', exitCode: 1, signal: null, message: null };
      if (crashes > restartsMost) {
        refuseHeld('The server crashes again and again.');
        return giveUp(end);
      }
      const { exitCode, signal } = end;
      log.warn({ exitCode, signal, crashes }, 'the server ended: restarting');
      try {
        await clock.sleep(backOffFirstMs * 2 ** (crashes - 1), closing.signal);
        await raise();
      } catch (error) {
        if (closing.signal.aborted) return;
        note(error);
      }
    }
  }

  /** The one before still stands: it takes everything back. */
  function flipBack(to: Running, from: Running, end: LinkEnd): void {
    processes.old.delete(to);
    // Nothing outlasts its drain that serves.
    if (processes.old.size === 0) body.overdue = null;
    processes.serving = to;
    draining.recall(to);
    body.served = to.resolved.generations;
    body.good = to.resolved;
    body.failed = from.resolved;
    const was = body.known;
    body.known = to.known;
    body.problem = {
      code: 'swap-failed',
      message: 'The new process ended by itself; the one before serves again.',
    };
    resend(body, routing.answerAll(from, gateErrors.serverEnded, endedMessage));
    bringUp.catchUp(to);
    if (to.known !== null) {
      const listens = [...to.calls.values()].filter((call) => call.isListen);
      for (const frame of announcements(was, to.known, carried, listens, to.changed)) {
        routing.tell(frame);
      }
    }
    releaseHeld(body);
    const { exitCode, signal } = end;
    log.warn({ exitCode, signal }, 'flipped back: the new process ended by itself');
    options.at?.('flipped-back');
    report(body);
  }

  function refuseHeld(message: string): void {
    for (const frame of hold.release()) {
      const said = readMessage(frame);
      if (said?.kind === 'request') {
        routing.tell(errorFrame(idText(said.id ?? 'null'), gateErrors.notStarted, message));
      } else if (said?.kind === 'response' || said?.method === 'notifications/cancelled') {
        // It may be meant for an old process that still answers.
        routing.fromClient(frame);
      }
    }
    const listens = body.orphans.filter((call) => call.isListen);
    for (const call of body.orphans.splice(0, Infinity, ...listens)) {
      if (call.isListen) continue;
      routing.tell(errorFrame(idText(call.id), gateErrors.serverEnded, endedMessage));
    }
    options.client.hold(false);
    routing.flush();
  }

  function wake(): void {
    if (!body.isIdle || closing.signal.aborted) return;
    void turns.take(async () => {
      if (processes.serving !== null || !body.isIdle) return;
      options.at?.('waking');
      try {
        await raise();
      } catch (error) {
        if (closing.signal.aborted) return;
        note(error);
        // Still idle: the next call tries again.
        refuseHeld('The server cannot be started.');
      }
    });
  }

  return {
    lost(running, end) {
      processes.serving = null;
      body.lastEnd = end;
      const before = [...processes.old].findLast((one) => !one.hasEnded() && !one.isStopping);
      if (before !== undefined) return flipBack(before, running, end);
      hold.begin('all');
      body.orphans.push(...routing.answerAll(running, gateErrors.serverEnded, endedMessage));
      routing.flush();
      // It never answered: whoever started it sees what it would have seen without us.
      if (carried.initialize === null && carried.meta === null) return giveUp(end);
      // One that is being made ready may take the place first.
      void turns.take(restart);
    },
    gone(running) {
      resend(body, routing.answerAll(running, gateErrors.serverEnded, endedMessage));
      routing.flush();
      // What outlasted its drain is over.
      if (processes.old.size === 0) body.overdue = null;
      report(body);
      if (body.orphans.some((call) => !call.isListen)) wake();
    },
    wake,
    restart,
    note,
    refuseHeld,
  };
}
