/** Between bodies of HTTP and frames: one message each, on one line. */
import { gateErrors, type Message, parseRange } from '../message.ts';
import { rpcErrors } from './answers.ts';

/** The whole frames of what a session sends, one by one. */
export function eachFrame(frames: Buffer, visit: (frame: Buffer) => void): void {
  for (let from = 0; from < frames.length; ) {
    const end = frames.indexOf(0x0a, from);
    const next = end === -1 ? frames.length : end + 1;
    visit(frames.subarray(from, next));
    from = next;
  }
}

/** A body as one frame: the line breaks of indented JSON would end it too early. */
export function frameOfBody(body: Buffer): Buffer {
  const frame = Buffer.concat([body, newline]);
  for (let at = frame.indexOf(0x0a); at !== -1 && at < body.length; at = frame.indexOf(0x0a, at)) {
    frame[at] = 0x20;
  }
  for (let at = frame.indexOf(0x0d); at !== -1; at = frame.indexOf(0x0d, at)) frame[at] = 0x20;
  return frame;
}

const newline = Buffer.from('\n');

/** The HTTP status that belongs to an answer which comes before anything else. */
export function statusOf(message: Message): number {
  if (message.error === null) return 200;
  switch (errorCodeOf(message)) {
    case rpcErrors.methodNotFound:
      return 404;
    case rpcErrors.parse:
    case rpcErrors.invalidRequest:
    case rpcErrors.headerMismatch:
    case rpcErrors.capabilityMissing:
    case rpcErrors.versionUnsupported:
      return 400;
    case gateErrors.notStarted:
      return 502;
    default:
      return 200;
  }
}

export function errorCodeOf({ bytes, error }: Message): number | null {
  if (error === null) return null;
  try {
    const { code } = parseRange(bytes, error) as { code?: unknown };
    return typeof code === 'number' ? code : null;
  } catch {
    return null;
  }
}
