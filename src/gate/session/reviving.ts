/** A process that ended by itself, or was let go for want of calls: who takes its place. */
import { asRotatedError } from '../../errors.ts';
import type { LinkEnd } from '../link.ts';
import { errorFrame, gateErrors, readMessage } from '../message.ts';
import type { BringUp } from './bring-up.ts';
import { type Body, report } from './body.ts';
import type { Draining } from './draining.ts';
import { idText } from './path.ts';
import type { Running } from './running.ts';

export interface Reviving {
  /** The process that served has ended by itself. */
  lost(running: Running, end: LinkEnd): void;
  /** An old one has, or was stopped. */
  gone(running: Running): void;
  /** The client calls, and no process runs. */
  wake(): void;
  /** Under way; null where nothing is. */
  readonly pending: () => Promise<void> | null;
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
  bringUp: BringUp,
  draining: Draining,
  giveUp: (end: LinkEnd) => void,
): Reviving {
  const { options, processes, carried, hold, routing, closing } = body;
  const { clock, source, log } = options;
  let crashes = 0;
  let raisedAtMs = clock.monotonicMs();
  let pending: Promise<void> | null = null;

  function note(error: unknown): void {
    const failed = asRotatedError(error, 'none');
    body.problem = { code: failed.code, message: failed.message };
    log.warn({ code: failed.code, error: failed.message }, 'the new generation is not served');
    report(body);
  }

  /** With what stands behind the references now, or stood when last asked: the daemon may be down. */
  async function raise(): Promise<void> {
    const resolved = await source.resolve(closing.signal).catch((error: unknown) => {
      if (body.latest === null || closing.signal.aborted) throw error;
      return body.latest;
    });
    bringUp.install(await bringUp.ready(resolved, null));
    raisedAtMs = clock.monotonicMs();
    body.problem = null;
    report(body);
  }

  function begin(work: () => Promise<void>): void {
    pending = work().finally(() => {
      pending = null;
    });
  }

  async function restart(first: LinkEnd): Promise<void> {
    if (clock.monotonicMs() - raisedAtMs > healthyMs) crashes = 0;
    let end = first;
    for (;;) {
      crashes += 1;
      if (crashes > restartsMost) {
        refuseHeld('The server crashes again and again.');
        return giveUp(end);
      }
      const { exitCode, signal } = end;
      log.warn({ exitCode, signal, crashes }, 'the server ended: restarting');
      try {
        await clock.sleep(backOffFirstMs * 2 ** (crashes - 1), closing.signal);
        return await raise();
      } catch (error) {
        if (closing.signal.aborted) return;
        note(error);
        end = { ...end, message: asRotatedError(error, 'none').message };
      }
    }
  }

  /** The one before still stands: it takes everything back. */
  function flipBack(to: Running, from: Running, end: LinkEnd): void {
    processes.old.delete(to);
    processes.serving = to;
    draining.recall(to);
    body.known = null;
    body.problem = {
      code: 'swap-failed',
      message: 'The new process ended by itself; the one before serves again.',
    };
    for (const call of routing.answerAll(from, gateErrors.serverEnded, endedMessage)) {
      routing.send(to, call);
    }
    routing.flush();
    const { exitCode, signal } = end;
    log.warn({ exitCode, signal }, 'flipped back: the new process ended by itself');
    options.at?.('flipped-back');
    report(body);
  }

  function refuseHeld(message: string): void {
    for (const frame of hold.release()) {
      const asked = readMessage(frame);
      if (asked?.kind !== 'request' || asked.id === null) continue;
      routing.tell(errorFrame(idText(asked.id), gateErrors.notStarted, message));
    }
    for (const call of body.orphans.splice(0)) {
      routing.tell(errorFrame(idText(call.id), gateErrors.serverEnded, endedMessage));
    }
    routing.flush();
  }

  return {
    lost(running, end) {
      processes.serving = null;
      const before = [...processes.old].findLast((one) => !one.hasEnded());
      if (before !== undefined) return flipBack(before, running, end);
      hold.begin('all');
      body.orphans.push(...routing.answerAll(running, gateErrors.serverEnded, endedMessage));
      routing.flush();
      // It never answered: whoever started it sees what it would have seen without us.
      if (carried.initialize === null && carried.meta === null) return giveUp(end);
      begin(() => restart(end));
    },
    gone(running) {
      const again = routing.answerAll(running, gateErrors.serverEnded, endedMessage);
      for (const call of again) {
        if (processes.serving === null) body.orphans.push(call);
        else routing.send(processes.serving, call);
      }
      routing.flush();
      report(body);
    },
    wake() {
      if (pending !== null || !body.isIdle || closing.signal.aborted) return;
      options.at?.('waking');
      begin(async () => {
        try {
          await raise();
        } catch (error) {
          if (closing.signal.aborted) return;
          note(error);
          refuseHeld('The server cannot be started.');
          // The next call tries again.
          body.isIdle = true;
        }
      });
    },
    pending: () => pending,
    note,
    refuseHeld,
  };
}
