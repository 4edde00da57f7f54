/** The stdio shim: stands where a client's config had the server's command, and passes everything on. */
import type { Readable, Writable } from 'node:stream';
import type { Clock, Random } from '../clock.ts';
import type { Entry } from './entry.ts';
import { createFrames } from './frames.ts';
import type { LinkEnd, StartLink } from './link.ts';
import { errorFrame, gateErrors, idAtEnds } from './message.ts';
import { createSession } from './session/create.ts';
import { idText } from './session/path.ts';
import type { GateLog } from './session/session.ts';
import type { ValueSource } from './source.ts';

export interface WrapOptions {
  readonly entry: Entry;
  readonly source: ValueSource;
  readonly startLink: StartLink;
  readonly input: Readable;
  readonly output: Writable;
  /** For people. */
  readonly errors: Writable;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: GateLog;
  /** Aborted when the shim is told to end. */
  readonly stop: AbortSignal;
}

/** Returns when nothing of the server runs any more. */
export async function wrap(options: WrapOptions): Promise<LinkEnd> {
  const { input, output, errors, entry, source, startLink, clock, random, log } = options;
  const session = createSession({
    entry,
    source,
    startLink,
    client: {
      send: (frames) => output.write(frames),
      hold(isHeld) {
        if (isHeld) input.pause();
        else input.resume();
      },
      log: (lines) => errors.write(lines),
    },
    clock,
    random,
    log,
  });
  const frames = createFrames((head, tail) => {
    log.warn({}, 'the client sent a frame that is too large: dropped');
    const id = idAtEnds('request', head, tail);
    if (id === null) return;
    output.write(
      errorFrame(idText(id), gateErrors.tooLarge, 'The request is larger than the gate lets pass.'),
    );
  });
  const take = (whole: readonly Buffer[]) => {
    if (whole.length > 0) session.fromClient(whole);
  };
  input.on('data', (chunk: Buffer) => take(frames.push(chunk)));
  input.on('end', () => {
    take(frames.end());
    session.clientClosed();
  });
  // The client is gone: nobody reads what would still be said.
  input.on('error', () => session.clientClosed());
  // EPIPE: nobody reads any more; the server still gets its chance to end by itself.
  output.on('error', () => session.clientClosed());
  errors.on('error', () => undefined);
  output.on('drain', () => session.clientDrained());
  options.stop.addEventListener('abort', () => session.clientClosed(), { once: true });
  return session.ended;
}

/** What a shell would see of the server's end. */
export function exitCodeOf(
  { exitCode, signal, why }: LinkEnd,
  signals: Record<string, number>,
): number {
  if (exitCode !== null) return exitCode;
  if (signal !== null) return 128 + (signals[signal] ?? 0);
  return why === 'failed' ? 127 : 0;
}
