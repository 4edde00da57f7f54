/** Speaks to the control socket by hand, so that what crosses it can be searched as it stands. */
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import { controlSocketPath } from '../../src/control/socket-path.ts';

/** Sends each line, whose ids count from 1; returns all that came back until each has its last word, or the daemon hangs up. */
export async function exchangeLines(state: string, lines: readonly string[]): Promise<string> {
  const socket = createConnection(controlSocketPath(state));
  const open = new Set(lines.map((_, index) => index + 1));
  let text = '';
  try {
    for await (const line of createInterface({ input: socket })) {
      if (text === '') socket.write(lines.map((one) => `${one}\n`).join(''));
      text += `${line}\n`;
      const { id, result, error } = JSON.parse(line) as Record<string, unknown>;
      if (result !== undefined) open.delete(Number(id));
      if (error !== undefined) open.delete(Number(id));
      if (open.size === 0) break;
    }
  } finally {
    socket.destroy();
  }
  return text;
}
