/** The kinds of report: who is asked which generation each instance serves. */
import { resolve } from 'node:path';
import { runChild } from '../child.ts';
import { RotatedError } from '../errors.ts';
import type { ReportSpec } from '../policy/policy.ts';
import { answerBytesMax, parseAnswer } from './answer.ts';
import { commandOf, commandPlace } from './command.ts';
import { readTrusted } from './guards.ts';
import { httpReporter } from './http.ts';
import type { ConsumerContext, Reporter } from './target.ts';

/** null: this consumer can never tell. */
export function createReporter(
  spec: ReportSpec | null,
  timeoutMs: number,
  context: ConsumerContext,
): Reporter | null {
  switch (spec?.kind) {
    case undefined:
      return null;
    case 'http':
      return httpReporter(spec, timeoutMs, context);
    case 'exec':
      return execReporter(spec.command, timeoutMs, context);
    case 'file':
      return fileReporter(spec.path, context);
    default:
      return spec satisfies never;
  }
}

/** The secret's name goes by environment: `ROTATED_SECRET`. */
function execReporter(
  command: readonly [string, ...string[]],
  timeoutMs: number,
  context: ConsumerContext,
): Reporter {
  const place = commandPlace(command, context.directory);
  return async (secret, signal) => {
    const { exitCode, endedBy, stdout } = await runChild({
      command: commandOf(command, context.directory),
      cwd: context.directory,
      env: { ROTATED_SECRET: secret },
      timeoutMs,
      signal,
      outputBytesMax: answerBytesMax,
    });
    if (exitCode !== 0) {
      throw new RotatedError(
        'unavailable',
        `The report command ${place} ended with ${endedBy ?? `exit code ${exitCode}`}.`,
        { secret, next: 'Run the command by hand and look at what it prints.' },
      );
    }
    return parseAnswer(stdout, { secret, place, mixed: false });
  };
}

/**
 * A file that the instances rewrite. Whoever can write it can end the old credential, so it is believed only where the
 * account that owns it (and its group) alone can; in a folder that everybody shares, only ours or root's.
 */
function fileReporter(given: string, context: ConsumerContext): Reporter {
  const path = resolve(context.directory, given);
  return async (secret) => {
    const { text } = await readTrusted(path, `The report file ${path}`, {
      owners: null,
      writers: 'group',
      bytesMax: answerBytesMax,
    });
    return parseAnswer(text, { secret, place: path, mixed: true });
  };
}
