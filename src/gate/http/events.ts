/** Server-sent events as bytes: cut out of a stream whole, read, written. */
import { RotatedError } from '../../errors.ts';
import { frameBytesMax } from '../frames.ts';

export interface ServerEvent {
  /** As received, with the blank line that ends it. */
  readonly bytes: Buffer;
  /** One frame: the data lines joined, with a newline. Null where there is no data. */
  readonly frame: Buffer | null;
  readonly id: string | null;
  readonly retryMs: number | null;
}

const lineFeed = 0x0a;
const carriageReturn = 0x0d;
/** What surrounds a frame's data in an event. */
const eventBytesMax = frameBytesMax + 4_096;

/** The events that end in each chunk; comments count as events without data. Throws `too-large`. */
export function createEventSplitter(): (chunk: Buffer) => readonly ServerEvent[] {
  let rest: Buffer = Buffer.alloc(0);
  /** So far `rest` was searched for its end. */
  let searched = 0;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const events: ServerEvent[] = [];
    for (;;) {
      const end = endOfEvent(rest, searched);
      if (end === -1) break;
      const bytes = rest.subarray(0, end);
      rest = rest.subarray(end);
      searched = 0;
      const event = readEvent(bytes);
      if (event !== null) events.push(event);
    }
    // The end may be cut anywhere within its (at most four) bytes.
    searched = Math.max(0, rest.length - 4);
    if (rest.length > eventBytesMax) {
      throw new RotatedError('too-large', 'The server sent an event that is too long.', {
        effect: 'unknown',
      });
    }
    return events;
  };
}

/** After the blank line; -1 where there is none yet. */
function endOfEvent(bytes: Buffer, from: number): number {
  for (let at = bytes.indexOf(lineFeed, from); at !== -1; at = bytes.indexOf(lineFeed, at + 1)) {
    if (bytes[at + 1] === lineFeed) return at + 2;
    if (bytes[at + 1] === carriageReturn && bytes[at + 2] === lineFeed) return at + 3;
  }
  return -1;
}

function readEvent(bytes: Buffer): ServerEvent | null {
  const data: Buffer[] = [];
  let id: string | null = null;
  let retryMs: number | null = null;
  let from = 0;
  while (from < bytes.length) {
    const newline = bytes.indexOf(lineFeed, from);
    const next = newline === -1 ? bytes.length : newline;
    const end = bytes[next - 1] === carriageReturn && next > from ? next - 1 : next;
    const colon = bytes.indexOf(0x3a, from);
    const nameEnd = colon === -1 || colon > end ? end : colon;
    const valueAt = bytes[nameEnd + 1] === 0x20 ? nameEnd + 2 : nameEnd + 1;
    const value = bytes.subarray(Math.min(valueAt, end), end);
    switch (bytes.toString('latin1', from, nameEnd)) {
      case 'data':
        data.push(value);
        break;
      case 'id':
        id = value.toString('utf8');
        break;
      case 'retry':
        retryMs = /^\d{1,9}$/.test(value.toString('latin1')) ? Number(value.toString()) : null;
        break;
      default:
    }
    from = next + 1;
  }
  const isEmpty = data.every((part) => part.length === 0);
  // JSON allows a space wherever a line of it ends.
  const frame = isEmpty ? null : joined(data);
  return { bytes, frame, id, retryMs };
}

function joined(data: readonly Buffer[]): Buffer {
  const parts = data.flatMap((part) => [part, space]);
  parts[parts.length - 1] = newlineBytes;
  return Buffer.concat(parts);
}

const space = Buffer.from(' ');
const newlineBytes = Buffer.from('\n');
const dataBytes = Buffer.from('data: ');

/** An event that carries one frame (which ends in a newline). */
export function eventOf(frame: Buffer, id: string | null): Buffer {
  const head = id === null ? dataBytes : Buffer.from(`id: ${id}\ndata: `);
  return Buffer.concat([head, frame, newlineBytes]);
}

/** Tells a client the id to resume from before anything happened (revision 2025-11-25). */
export function primingEvent(id: string): Buffer {
  return Buffer.from(`id: ${id}\ndata: \n\n`);
}

/** Keeps a quiet stream from being taken for a dead one. */
export const keepAliveComment = Buffer.from(': \n\n');

export const eventStreamHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
};
