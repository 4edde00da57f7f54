/** Where a deployment keeps its things when nobody says so: state directory, policy folder, key. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import { credentialKey, environmentKey, fileKey, type KeySource } from '../secret/key-sources.ts';

export interface PlaceOptions {
  readonly state?: string | undefined;
  readonly policies?: string | undefined;
  readonly key?: string | undefined;
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
}

export interface Places {
  readonly state: string;
  readonly policies: string;
  readonly key: KeyPlace;
  /** What a person should know about the choice. */
  readonly warnings: readonly string[];
}

export type KeyPlace =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'credential'; readonly directory: string }
  | { readonly kind: 'environment'; readonly variable: string };

/** In the state directory: with which folder and key file it was last served, so that `--state` alone finds the rest. */
const recordName = 'deployment.json';
const keyVariable = 'ROTATED_KEY';
const credentialName = 'rotated-key';

/**
 * State: `--state`, `$ROTATED_STATE`, `$STATE_DIRECTORY` (systemd), for root `/var/lib/rotated` where it exists,
 * `$XDG_STATE_HOME/rotated`, `~/.local/state/rotated`.
 * Policies: `--policies`, `$ROTATED_POLICIES`, what served this state last, `./schedules`.
 * Key: `--key`, `$ROTATED_KEY_FILE`, the systemd credential `rotated-key`, `$ROTATED_KEY` (the key itself, with a warning),
 * the file that served this state last, `$XDG_CONFIG_HOME/rotated/key`, `~/.config/rotated/key`.
 */
export function findPlaces(options: PlaceOptions, around: Surroundings): Places {
  const state = stateOf(options, around);
  const record = readRecord(state);
  const here = path.resolve(around.directory, 'schedules');
  const named = options.policies ?? nonEmpty(around.env['ROTATED_POLICIES']);
  const policies =
    named === undefined ? (record?.policies ?? here) : path.resolve(around.directory, named);
  const warnings =
    named === undefined && record !== null && policies !== here && existsSync(here)
      ? [
          `This state directory was last served with the policies in ${policies}; ${here} is not used. Name it with --policies to switch.`,
        ]
      : [];
  return { state, policies, key: keyOf(options, around, record?.key ?? null), warnings };
}

export function keySourceOf(
  place: KeyPlace,
  around: Surroundings,
  random: Random,
  create: boolean,
): KeySource {
  switch (place.kind) {
    case 'file':
      return fileKey(place.path, { random, create });
    case 'credential':
      return credentialKey(place.directory, { random, name: credentialName });
    case 'environment':
      return environmentKey(around.env[place.variable], { random, variable: place.variable });
    default:
      return place satisfies never;
  }
}

/** So that a command run from anywhere does not mistake another folder for this deployment's. */
export function recordPlaces({ state, policies, key }: Places): void {
  const record = { policies, key: key.kind === 'file' ? key.path : null };
  const before = readRecord(state);
  if (before !== null && before.policies === record.policies && before.key === record.key) return;
  const file = path.join(state, recordName);
  const aside = `${file}.${process.pid}`;
  try {
    writeFileSync(aside, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
    renameSync(aside, file);
  } catch {
    // A convenience for later commands: without it they take --policies and --key.
  }
}

function stateOf({ state }: PlaceOptions, { env, directory }: Surroundings): string {
  const said = state ?? nonEmpty(env['ROTATED_STATE']);
  if (said !== undefined) return path.resolve(directory, said);
  // systemd separates several with colons; ours is the first.
  const service = nonEmpty(env['STATE_DIRECTORY']?.split(':')[0]);
  if (service !== undefined) return service;
  if (process.getuid?.() === 0 && existsSync('/var/lib/rotated')) return '/var/lib/rotated';
  const base = nonEmpty(env['XDG_STATE_HOME']) ?? home(env, '.local/state');
  return path.join(base, 'rotated');
}

function keyOf(
  options: PlaceOptions,
  { env, directory }: Surroundings,
  recorded: string | null,
): KeyPlace {
  const said = options.key ?? nonEmpty(env['ROTATED_KEY_FILE']);
  if (said !== undefined) return { kind: 'file', path: path.resolve(directory, said) };
  const credentials = nonEmpty(env['CREDENTIALS_DIRECTORY']);
  if (credentials !== undefined && existsSync(path.join(credentials, credentialName))) {
    return { kind: 'credential', directory: credentials };
  }
  if (nonEmpty(env[keyVariable]) !== undefined) {
    return { kind: 'environment', variable: keyVariable };
  }
  if (recorded !== null) return { kind: 'file', path: recorded };
  const base = nonEmpty(env['XDG_CONFIG_HOME']) ?? home(env, '.config');
  return { kind: 'file', path: path.join(base, 'rotated', 'key') };
}

function home(env: Surroundings['env'], below: string): string {
  const directory = nonEmpty(env['HOME']);
  if (directory !== undefined) return path.join(directory, below);
  throw new RotatedError('usage', 'HOME is not set, so the usual places cannot be found.', {
    next: 'Name them: --state DIR --key FILE.',
  });
}

function readRecord(
  state: string,
): { readonly policies: string; readonly key: string | null } | null {
  try {
    const record = JSON.parse(readFileSync(path.join(state, recordName), 'utf8')) as {
      policies?: unknown;
      key?: unknown;
    };
    if (typeof record.policies !== 'string') return null;
    return { policies: record.policies, key: typeof record.key === 'string' ? record.key : null };
  } catch {
    return null;
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
