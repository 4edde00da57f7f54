/** Where the state directory is when nobody says so: apart from everything else, since a shim asks it before it loads anything. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { RotatedError } from './errors.ts';

/** Of the embedded journal, in the state directory: its being there shows that this was one. */
export const databaseName = 'state.sqlite';

/**
 * `--state`, `$ROTATED_STATE`, `$STATE_DIRECTORY` (systemd), for root `/var/lib/rotated` where it exists,
 * `$XDG_STATE_HOME/rotated`, `~/.local/state/rotated`. Throws `usage` where HOME is needed and not set.
 */
export function statePlace(
  said: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  directory: string,
): string {
  const named = said ?? nonEmpty(env['ROTATED_STATE']);
  if (named !== undefined) return path.resolve(directory, named);
  // systemd separates several with colons; ours is the first.
  const service = nonEmpty(env['STATE_DIRECTORY']?.split(':')[0]);
  if (service !== undefined) return service;
  if (process.getuid?.() === 0 && existsSync('/var/lib/rotated')) return '/var/lib/rotated';
  const base = nonEmpty(env['XDG_STATE_HOME']) ?? homePlace(env, '.local/state');
  return path.join(base, 'rotated');
}

export function homePlace(
  env: Readonly<Record<string, string | undefined>>,
  below: string,
): string {
  const home = nonEmpty(env['HOME']);
  if (home !== undefined) return path.join(home, below);
  throw new RotatedError('usage', 'HOME is not set, so the usual places cannot be found.', {
    next: 'Name them: --state DIR --key FILE.',
  });
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
