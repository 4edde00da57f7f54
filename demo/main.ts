/** `npm start`: the demo for a person, until Ctrl-C. */
import { play } from './play.ts';
import { said, tell } from './story.ts';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => stop.abort(new Error('stopped')));
}

// A terminal that was closed takes no more lines; the demo still ends in order.
process.stdout.on('error', () => undefined);
process.stderr.on('error', () => undefined);

try {
  const { turns, counts, auditIntact, auditLines } = await play({
    rotations: Infinity,
    signal: stop.signal,
    onScene: (scene) => {
      for (const line of tell(scene)) process.stdout.write(`${line}\n`);
    },
  });
  process.stdout.write(
    `\n${turns.length} rotations, ${said(counts)}. ` +
      `Audit trail: ${auditLines} lines, ${auditIntact ? 'nothing altered' : 'ALTERED'}.\n`,
  );
  process.exitCode = counts.failed === 0 && auditIntact ? 0 : 1;
} catch (error) {
  // Stopped by the person before there was anything to tell.
  if (!stop.signal.aborted) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
