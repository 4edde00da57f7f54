/** The exec consumer: a command of the operator that makes somebody pick up a generation. */
import { runChild } from '../child.ts';
import { asRotatedError } from '../errors.ts';
import type { ConsumerSpec } from '../policy/policy.ts';
import { checkCommand, commandId, commandOf, commandPlace } from './command.ts';
import { consumerFailed } from './failures.ts';
import { changesBody, type ConsumerContext, type Target } from './target.ts';

/** Gets `{"changes":[{"secret","generation","stage"}]}` on stdin: names and numbers, never a value. Exit 0 means told. */
export function execTarget(
  spec: Extract<ConsumerSpec, { kind: 'exec' }>,
  { directory }: ConsumerContext,
): Target {
  const command = commandOf(spec.command, directory);
  const place = `The reload command ${commandPlace(spec.command, directory)}`;
  const next = 'Run the command by hand and look at what it prints: its output is never kept.';
  return {
    id: `exec:${commandId(spec.command, directory)}`,
    async probe() {
      await checkCommand(spec.command, directory);
    },
    async reload(changes, signal) {
      let result: Awaited<ReturnType<typeof runChild>>;
      try {
        result = await runChild({
          command,
          cwd: directory,
          input: changesBody(changes),
          timeoutMs: spec.timeoutMs,
          signal,
        });
      } catch (error) {
        const failure = asRotatedError(error, 'unknown');
        if (failure.code === 'timeout') throw failure;
        throw consumerFailed(place, 'could not be started', failure.effect, failure.next, failure);
      }
      if (result.exitCode === 0) return;
      const how = result.endedBy ?? `exit code ${result.exitCode}`;
      throw consumerFailed(place, `ended with ${how}`, 'unknown', next);
    },
  };
}
