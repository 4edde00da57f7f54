/** How a policy's command is named and found: a program with a slash counts from the policy's folder, one without from PATH. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { RotatedError } from '../errors.ts';

export type Command = readonly [string, ...string[]];

/** Ready to run in `directory`. */
export function commandOf(command: Command, directory: string): Command {
  const [program, ...args] = command;
  return [program.includes('/') ? resolve(directory, program) : program, ...args];
}

/** For messages: the program, without arguments. */
export function commandPlace(command: Command, directory: string): string {
  return commandOf(command, directory)[0];
}

/**
 * Names the command and where it runs: relative arguments mean something else in another folder. A part with a space in
 * it is quoted, so that no two commands read the same.
 */
export function commandId(command: Command, directory: string): string {
  return `${words(commandOf(command, directory))} in ${resolve(directory)}`;
}

export function words(parts: readonly string[]): string {
  return parts
    .map((part) => (/^[\x21\x23-\x7e]+$/.test(part) ? part : JSON.stringify(part)))
    .join(' ');
}

/** Throws `not-found` or `denied` where the program could not be started. Runs nothing. */
export async function checkCommand(command: Command, directory: string): Promise<void> {
  const [program] = commandOf(command, directory);
  const candidates = program.includes('/')
    ? [program]
    : (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder || '.', program));
  let found = false;
  for (const path of candidates) {
    const isFile = await stat(path).then(
      (stats) => stats.isFile(),
      () => false,
    );
    if (!isFile) continue;
    found = true;
    const may = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (may) return;
  }
  const next = `Check that ${program} exists and is executable.`;
  throw found
    ? new RotatedError('denied', `The command ${program} is not executable.`, { next })
    : new RotatedError('not-found', `The command ${program} was not found.`, { next });
}
