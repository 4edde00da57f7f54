/** What the parts of a session share: its processes, what it has learnt, and what it says of itself. */
import type { LinkEnd } from '../link.ts';
import type { ByteRedactor } from '../redaction.ts';
import type { Generations, InstanceStatus, Resolved } from '../source.ts';
import type { Affinity } from './affinity.ts';
import type { Learning } from './carried.ts';
import type { Hold } from './hold.ts';
import type { Call } from './path.ts';
import { type Known, orAbort, unfit } from './prepare.ts';
import type { Processes, Routing } from './routing.ts';
import type { Running } from './running.ts';
import type { SessionOptions } from './session.ts';
import { hiddenValues, oldest } from './values.ts';

export interface Body {
  readonly options: SessionOptions;
  readonly processes: Processes;
  readonly carried: Learning;
  readonly affinity: Affinity;
  readonly hold: Hold;
  readonly routing: Routing;
  readonly redactor: ByteRedactor;
  /** Aborted when the session closes. */
  readonly closing: AbortController;
  /** A new process that is not ready yet. */
  preparing: Running | null;
  /** What stands behind the references, as last asked. */
  latest: Resolved | null;
  /** What the process that serves has, or had when it ended. */
  served: Generations;
  /** Why the newest generation is not served. */
  problem: InstanceStatus['problem'];
  /** Why an old one still is. */
  overdue: InstanceStatus['problem'];
  /** What could not be served, as it was resolved; null where the newest is served. */
  failed: Resolved | null;
  /** What the process that serves was given, or the last one that did. */
  good: Resolved | null;
  /** No process runs, and none is to run before the next call. */
  isIdle: boolean;
  /** What the process that serves offers, as last seen. */
  known: Known | null;
  /** Calls whose process is gone and that the next one gets: open listens, and what may be sent again. */
  readonly orphans: Call[];
  /** Monotonic. */
  lastCallAtMs: number;
  /** The process that served has ended by itself: what whoever starts another one says of it. */
  lastEnd: LinkEnd | null;
}

export function report(body: Body): void {
  const { processes, preparing, options, served, latest } = body;
  const running = [processes.serving, ...processes.old].filter((one) => one !== null);
  hide(body);
  options.source.report({
    state: body.isIdle && running.length === 0 ? 'idle' : 'serving',
    generations: oldest([
      ...running.map((one) => one.resolved.generations),
      // One that falls back to what served last.
      ...(preparing === null ? [] : [preparing.resolved.generations]),
      // One that is idle takes the newest at its next call; one that is being replaced has not got there yet.
      ...(processes.serving === null ? [body.isIdle ? (latest?.generations ?? {}) : served] : []),
    ]),
    problem: body.problem ?? body.overdue,
  });
}

/** The values of every process there is, and of the newest generation, are kept from the client. */
export function hide({ processes, preparing, latest, redactor }: Body, more?: Resolved): void {
  const running = [processes.serving, preparing, ...processes.old].filter((one) => one !== null);
  redactor.use(hiddenValues([...running.map((one) => one.resolved), latest, more ?? null]));
}

/** Waits at most so long, and not past the end of the session. Throws `swap-failed` at the deadline. */
export async function within<T>(
  { options, closing }: Body,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, closing.signal]);
  const timer = options.clock
    .sleep(ms, signal)
    .then(() => over.abort(unfit(`it was not ready within ${ms} ms`)))
    .catch(() => undefined);
  try {
    return await orAbort(work(signal), signal);
  } finally {
    over.abort(new DOMException('Done.', 'AbortError'));
    await timer;
  }
}

/** Calls that somebody waits for: an open listen is not one. */
export function owesAnswers(running: Running): boolean {
  for (const call of running.calls.values()) if (!call.isListen) return true;
  return false;
}

/** True where the process owes nothing to anybody. */
export function isSettled({ affinity }: Body, running: Running): boolean {
  return !owesAnswers(running) && running.asked.size === 0 && affinity.open(running) === 0;
}

export function listensOf(running: Running): readonly Call[] {
  return [...running.calls.values()].filter((call) => call.isListen);
}

/** What waited goes on its way, in order. */
export function releaseHeld({ hold, routing, options }: Body): void {
  for (const frame of hold.release()) {
    if (!hold.keep(frame)) routing.fromClient(frame);
  }
  // Whoever could not keep up before may be another process than the one that serves now.
  options.client.hold(!routing.flush());
}

/** Calls that lost their process go to the one that serves, or wait for it. */
export function resend({ processes, routing, orphans }: Body, calls: readonly Call[]): void {
  for (const call of calls) {
    if (processes.serving === null) orphans.push(call);
    else routing.send(processes.serving, call);
  }
}
