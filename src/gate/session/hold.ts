/** Frames of the client that wait, in order, until a process can take them. */
import { cancelledId, type Message, readMessage } from '../message.ts';

export interface Hold {
  /** calls: new requests wait, answers and notifications go on. all: everything waits. */
  begin(mode: 'calls' | 'all'): void;
  /** True where it keeps the frame, or where the frame took back one that waits. */
  keep(frame: Buffer): boolean;
  /** Nothing waits any more; what did, in order. */
  release(): readonly Buffer[];
  readonly isEmpty: () => boolean;
}

/** More than this waits in the client's pipe instead. */
const heldBytesMost = 16 << 20;

/** `belongs`: a request that a process which is being drained has to get, since it ends what that one waits for. */
export function createHold(
  onFull: (isFull: boolean) => void,
  belongs: (request: Message) => boolean,
): Hold {
  let mode: 'none' | 'calls' | 'all' = 'none';
  let frames: Buffer[] = [];
  let bytes = 0;

  function takeBack(id: string | null): boolean {
    const before = frames.length;
    frames = frames.filter((frame) => {
      const message = readMessage(frame);
      return message?.kind !== 'request' || message.id !== id;
    });
    bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
    return frames.length < before;
  }

  return {
    begin(wanted) {
      if (mode !== 'all') mode = wanted;
    },
    keep(frame) {
      if (mode === 'none') return false;
      if (mode === 'calls') {
        const message = readMessage(frame);
        if (message?.kind === 'notification' && message.method === 'notifications/cancelled') {
          return takeBack(cancelledId(message));
        }
        if (message?.kind !== 'request' || belongs(message)) return false;
      }
      // The chunk that it lies in is read into again.
      frames.push(Buffer.from(frame));
      bytes += frame.length;
      if (bytes > heldBytesMost) onFull(true);
      return true;
    },
    release() {
      const held = frames;
      mode = 'none';
      frames = [];
      bytes = 0;
      return held;
    },
    isEmpty: () => frames.length === 0,
  };
}
