/** One line to one shim, from the daemon's end: what is said on it, and when it counts as hung or lost. */
import type { Duplex } from 'node:stream';
import { lineSplitter } from '../control/lines.ts';
import { RotatedError } from '../errors.ts';
import {
  type DaemonMessage,
  feedVersion,
  type Hello,
  lineOf,
  shimLineMax,
  type ShimMessage,
} from '../gate/feed/protocol.ts';
import { parseIncoming } from './incoming.ts';

/** A shim says hello at once. */
const helloWithinMs = 5_000;
/** Each is asked so often whether it lives. */
export const aliveEveryMs = 3_000;
/** So long without a word means hung: several questions unanswered. */
export const silenceMostMs = 10_000;
/** A shim that does not read is dropped, not buffered for. */
const unreadBytesMax = 16 << 20;

export interface Connection {
  send(message: DaemonMessage): void;
  /** Says why, then closes. */
  refuse(error: RotatedError): void;
  /** On the monotonic clock. */
  readonly heardAtMs: number;
  destroy(): void;
}

export interface ConnectionEvents {
  /** Once, before anything else. */
  onHello(hello: Hello): void;
  onMessage(message: Exclude<ShimMessage, Hello>): void;
  /** Once, for whatever reason. */
  onClose(): void;
  /** What it said is not of this protocol: never what it was. */
  onBroken(): void;
  monotonicMs(): number;
}

export function openConnection(stream: Duplex, events: ConnectionEvents): Connection {
  const split = lineSplitter(shimLineMax);
  let heardAtMs = events.monotonicMs();
  let greeted = false;
  let closed = false;

  const tooLate = setTimeout(() => stream.destroy(), helloWithinMs);
  tooLate.unref();
  const send = (message: DaemonMessage) => {
    if (!stream.writable) return;
    stream.write(lineOf(message));
    if (stream.writableLength > unreadBytesMax) stream.destroy();
  };
  const refuse = (error: RotatedError) => {
    send({ type: 'refused', error: error.toJSON() as { code: string; message: string } });
    stream.end();
  };
  const broken = () => {
    events.onBroken();
    stream.destroy();
  };
  const receive = (line: string) => {
    const incoming = parseIncoming(line, feedVersion);
    if (incoming.kind === 'hello-of') {
      refuse(otherVersion(incoming.feed));
      return;
    }
    if (incoming.kind === 'broken') return broken();
    const { message } = incoming;
    // A second hello, or anything before the first.
    if ((message.type === 'hello') === greeted) return broken();
    if (message.type !== 'hello') return events.onMessage(message);
    greeted = true;
    clearTimeout(tooLate);
    events.onHello(message);
  };
  stream.on('data', (chunk: Buffer) => {
    heardAtMs = events.monotonicMs();
    try {
      for (const line of split(chunk)) {
        if (!stream.destroyed) receive(line);
      }
    } catch (thrown) {
      if (!(thrown instanceof RangeError)) throw thrown;
      broken();
    }
  });
  stream.on('error', () => stream.destroy());
  stream.on('end', () => stream.end());
  stream.on('close', () => {
    clearTimeout(tooLate);
    if (closed) return;
    closed = true;
    events.onClose();
  });
  return {
    send,
    refuse,
    get heardAtMs() {
      return heardAtMs;
    },
    destroy: () => stream.destroy(),
  };
}

function otherVersion(feed: number): RotatedError {
  return new RotatedError(
    'unsupported',
    `This server's rotate speaks version ${feed} of the feed, the daemon version ${feedVersion}.`,
    { next: 'Restart the daemon and the client, so that all are of one version.' },
  );
}
