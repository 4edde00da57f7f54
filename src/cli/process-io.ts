/** The real process as an `Io`. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { systemClock, systemRandom } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Io, ProgramName } from './io.ts';

export function processIo(program: ProgramName): Io {
  const interrupt = new AbortController();
  const stop = (signal: NodeJS.Signals) => {
    // The second time the person means it.
    if (interrupt.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143);
    interrupt.abort(new DOMException('Interrupted.', 'AbortError'));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  // A reader that went away (head, less) is no error of ours.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  return {
    program,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    outIsTerminal: process.stdout.isTTY,
    errIsTerminal: process.stderr.isTTY,
    inIsTerminal: process.stdin.isTTY,
    columns: process.stdout.columns ?? 80,
    env: process.env,
    directory: process.cwd(),
    clock: systemClock(),
    random: systemRandom(),
    readIn,
    ask: (question, hidden) => ask(question, hidden, interrupt.signal),
    signal: interrupt.signal,
  };
}

async function readIn(bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin) {
    const bytes = Buffer.from(chunk as Uint8Array);
    length += bytes.length;
    if (length > bytesMax) {
      throw new RotatedError('too-large', `More than ${bytesMax} bytes came in on stdin.`, {
        next: 'Hand in the credential alone.',
      });
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function ask(question: string, hidden: boolean, signal: AbortSignal): Promise<string | null> {
  return new Promise((resolve) => {
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const lines = createInterface({
      input: process.stdin,
      output: hidden ? nowhere : process.stderr,
      terminal: true,
      historySize: 0,
    });
    const settle = (answer: string | null) => {
      if (hidden) process.stderr.write('\n');
      lines.removeAllListeners('close');
      lines.close();
      resolve(answer);
    };
    if (hidden) process.stderr.write(question);
    lines.on('close', () => settle(null));
    lines.on('SIGINT', () => settle(null));
    signal.addEventListener('abort', () => settle(null), { once: true });
    lines.question(hidden ? '' : question, settle);
  });
}
