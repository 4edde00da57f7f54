/** How a process of the demo ends: when it is told to, or when the demo itself is gone. */
import type { Stop } from './messages.ts';

/** Tells the demo something; silent once the demo is gone. */
export function say<T extends object>(message: T): void {
  if (process.connected) process.send?.(message);
}

/**
 * Runs `stop` once and ends the process. The demo's processes live in groups of their own, so a Ctrl-C reaches the demo
 * alone, which stops them in the right order; a closed channel means that the demo was killed.
 */
export function onStop(stop: () => Promise<void>): void {
  let stopping = false;
  const end = (): void => {
    if (stopping) return;
    stopping = true;
    void stop()
      .catch((error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
        process.exitCode = 1;
      })
      .finally(() => process.exit());
  };
  process.on('message', (message) => {
    if ((message as Stop).kind === 'stop') end();
  });
  process.on('disconnect', end);
}
