/** Bytes of a stream → the lines in them, without a copy where a line lies in one part. */

/** No line that a test expects is longer. */
const lineBytesMax = 64 * 1024 * 1024;

const newline = 0x0a;

/** Feed it every part in order; it hands on each line without its end. */
export function createLineSplitter(onLine: (line: string) => void): (part: Buffer) => void {
  let rest: Buffer[] = [];
  let restBytes = 0;
  return (part) => {
    let from = 0;
    for (;;) {
      const at = part.indexOf(newline, from);
      if (at === -1) break;
      if (restBytes === 0) onLine(part.toString('utf8', from, at));
      else {
        rest.push(part.subarray(from, at));
        const line = Buffer.concat(rest).toString('utf8');
        rest = [];
        restBytes = 0;
        onLine(line);
      }
      from = at + 1;
    }
    if (from === part.length) return;
    rest.push(part.subarray(from));
    restBytes += part.length - from;
    if (restBytes > lineBytesMax) throw new Error(`A line has more than ${lineBytesMax} bytes.`);
  };
}
