/** Newline-delimited JSON over a stream, with the longest line that is accepted. */
import { StringDecoder } from 'node:string_decoder';

/**
 * Cuts what arrives into lines. Throws RangeError where a line grows beyond `bytesMax`: the peer is not one of ours, and
 * buffering on would let it take the memory of the daemon.
 */
export function lineSplitter(bytesMax: number): (chunk: Uint8Array) => readonly string[] {
  const decoder = new StringDecoder('utf8');
  let parts: string[] = [];
  let buffered = 0;
  return (chunk) => {
    const lines: string[] = [];
    const pieces = decoder.write(chunk).split('\n');
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) {
        lines.push(parts.join(''));
        parts = [];
        buffered = 0;
      }
      buffered += piece.length;
      if (buffered > bytesMax) throw new RangeError(`A line is longer than ${bytesMax} bytes.`);
      if (piece !== '') parts.push(piece);
    }
    return lines;
  };
}
