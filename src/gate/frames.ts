/** Newline-delimited frames, cut out of a byte stream and put back into few writes, without copying what passes through. */

const newline = 0x0a;
/** The longest frame that passes: base64 of a large file. Beyond it a peer could take all memory. */
export const frameBytesMax = 64 << 20;
/** Of a frame that is too long, so much of its two ends is kept: enough to find whose answer it was. */
const keptOfTooLong = 4_096;

export interface Frames {
  /** The frames that end in this chunk, each with its newline; blank lines are left out. */
  push(chunk: Buffer): readonly Buffer[];
  /** What stands after the last newline, as a frame: the peer has closed. */
  end(): readonly Buffer[];
}

/** `onTooLong` gets the two ends of a frame that was dropped. */
export function createFrames(
  onTooLong: (head: Buffer, tail: Buffer) => void,
  bytesMax = frameBytesMax,
): Frames {
  let parts: Buffer[] = [];
  let length = 0;
  /** Set while the rest of a frame that is too long passes by. */
  let dropped: { readonly head: Buffer; tail: Buffer } | null = null;

  function take(piece: Buffer): void {
    if (dropped !== null) {
      dropped.tail = Buffer.concat([dropped.tail, piece.subarray(-keptOfTooLong)]).subarray(
        -keptOfTooLong,
      );
      return;
    }
    parts.push(piece);
    length += piece.length;
    if (length <= bytesMax) return;
    const whole = Buffer.concat(parts);
    dropped = {
      head: Buffer.from(whole.subarray(0, keptOfTooLong)),
      tail: Buffer.from(whole.subarray(-keptOfTooLong)),
    };
    parts = [];
    length = 0;
  }

  function close(into: Buffer[]): void {
    if (dropped !== null) {
      onTooLong(dropped.head, dropped.tail);
      dropped = null;
      return;
    }
    const frame = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    parts = [];
    length = 0;
    if (!isBlank(frame)) into.push(frame);
  }

  return {
    push(chunk) {
      const frames: Buffer[] = [];
      let from = 0;
      for (let at = chunk.indexOf(newline); at !== -1; at = chunk.indexOf(newline, from)) {
        // One frame a chunk is how a caller that waits for each answer writes.
        const isAll = from === 0 && at + 1 === chunk.length;
        take(isAll ? chunk : chunk.subarray(from, at + 1));
        close(frames);
        from = at + 1;
      }
      if (from < chunk.length) take(chunk.subarray(from));
      return frames;
    },
    end() {
      const frames: Buffer[] = [];
      if (length > 0) take(Buffer.from('\n'));
      if (length > 0 || dropped !== null) close(frames);
      return frames;
    },
  };
}

function isBlank(frame: Buffer): boolean {
  for (const byte of frame) {
    if (byte !== newline && byte !== 0x0d && byte !== 0x20 && byte !== 0x09) return false;
  }
  return true;
}

/** Collects frames for one destination; those that lie side by side in memory leave as one piece. */
export function createBatch(write: (bytes: Buffer) => void): {
  add(frame: Buffer): void;
  flush(): void;
} {
  let first: Buffer | null = null;
  /** So many bytes from where the first one begins. */
  let length = 0;
  let before: Buffer[] = [];

  function run(): Buffer | null {
    if (first === null || first.length === length) return first;
    return Buffer.from(first.buffer as ArrayBuffer, first.byteOffset, length);
  }

  return {
    add(frame) {
      if (
        first !== null &&
        first.buffer === frame.buffer &&
        first.byteOffset + length === frame.byteOffset
      ) {
        length += frame.length;
        return;
      }
      const done = run();
      if (done !== null) before.push(done);
      first = frame;
      length = frame.length;
    },
    flush() {
      const last = run();
      if (last === null) return;
      const all = before.length === 0 ? last : Buffer.concat([...before, last]);
      first = null;
      if (before.length > 0) before = [];
      write(all);
    },
  };
}
