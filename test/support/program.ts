/** Starts a test server as a process of its own: it prints `{"port"}` when it listens, and ends with its stdin. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Program {
  readonly pid: number;
  readonly port: number;
  /** kill −9; returns when it has ended. */
  end(): Promise<void>;
}

/** `env`: besides the environment of this process. */
export async function startProgram(
  file: URL,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Program> {
  const child = spawn(process.execPath, [fileURLToPath(file), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const exited = once(child, 'exit');
  let text = '';
  for await (const part of child.stdout) {
    text += String(part);
    if (text.includes('\n')) break;
  }
  if (!text.includes('\n')) throw new Error(`${file.pathname} ended before it was ready`);
  return {
    pid: child.pid as number,
    port: (JSON.parse(text) as { port: number }).port,
    end: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
