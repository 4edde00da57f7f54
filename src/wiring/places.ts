/** Where a deployment keeps its things when nobody says so: state directory, policy folder, key. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseSink, sinkText } from '../audit/sink-spec.ts';
import type { Random } from '../clock.ts';
import { homePlace, statePlace } from '../state-place.ts';
import { credentialKey, environmentKey, fileKey, type KeySource } from '../secret/key-sources.ts';

export interface PlaceOptions {
  readonly state?: string | undefined;
  readonly policies?: string | undefined;
  readonly key?: string | undefined;
  /** Where audit lines go besides, `none` for nowhere; empty: not said. */
  readonly auditSink?: readonly string[] | undefined;
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
}

export interface Places {
  readonly state: string;
  readonly policies: string;
  readonly key: KeyPlace;
  /** Each as `sinkText` writes it. */
  readonly auditSinks: readonly string[];
  /** What a person should know about the choice. */
  readonly warnings: readonly string[];
}

export type KeyPlace =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'credential'; readonly directory: string }
  | { readonly kind: 'environment'; readonly variable: string };

/** In the state directory: with which folder, key file and sinks it was last served, so that `--state` alone finds the rest. */
const recordName = 'deployment.json';
const keyVariable = 'ROTATED_KEY';
const credentialName = 'rotated-key';

/**
 * State: as `statePlace` says.
 * Policies: `--policies`, `$ROTATED_POLICIES`, what served this state last, `./schedules`.
 * Key: `--key`, `$ROTATED_KEY_FILE`, the systemd credential `rotated-key`, `$ROTATED_KEY` (the key itself, with a warning),
 * the file that served this state last, `$XDG_CONFIG_HOME/rotated/key`, `~/.config/rotated/key`.
 * Audit sinks: `--audit-sink`, `$ROTATED_AUDIT_SINKS` (separated by semicolons), those that served this state last, none.
 */
export function findPlaces(options: PlaceOptions, around: Surroundings): Places {
  const state = statePlace(options.state, around.env, around.directory);
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
  return {
    state,
    policies,
    key: keyOf(options, around, record?.key ?? null),
    auditSinks: sinksOf(options, around) ?? record?.auditSinks ?? [],
    warnings,
  };
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
export function recordPlaces({ state, policies, key, auditSinks }: Places): void {
  const record: PlaceRecord = {
    policies,
    key: key.kind === 'file' ? key.path : null,
    auditSinks,
  };
  if (JSON.stringify(readRecord(state)) === JSON.stringify(record)) return;
  const file = path.join(state, recordName);
  const aside = `${file}.${process.pid}`;
  try {
    writeFileSync(aside, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
    renameSync(aside, file);
  } catch {
    // A convenience for later commands: without it they take --policies and --key.
  }
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
  const base = nonEmpty(env['XDG_CONFIG_HOME']) ?? homePlace(env, '.config');
  return { kind: 'file', path: path.join(base, 'rotated', 'key') };
}

/** undefined where nobody said anything. */
function sinksOf(
  { auditSink = [] }: PlaceOptions,
  { env, directory }: Surroundings,
): readonly string[] | undefined {
  const named = (nonEmpty(env['ROTATED_AUDIT_SINKS']) ?? '').split(';');
  const said = auditSink.length > 0 ? auditSink : named.filter((text) => text.trim() !== '');
  if (said.length === 0) return undefined;
  if (said.length === 1 && said[0]?.trim() === 'none') return [];
  return [...new Set(said.map((text) => sinkText(parseSink(text, directory))))];
}

interface PlaceRecord {
  readonly policies: string;
  readonly key: string | null;
  readonly auditSinks: readonly string[];
}

function readRecord(state: string): PlaceRecord | null {
  try {
    const text = readFileSync(path.join(state, recordName), 'utf8');
    const { policies, key, auditSinks } = JSON.parse(text) as Record<string, unknown>;
    if (typeof policies !== 'string') return null;
    const sinks = Array.isArray(auditSinks) ? auditSinks.map(String) : [];
    return {
      policies,
      key: typeof key === 'string' ? key : null,
      auditSinks: sinks.map((text) => sinkText(parseSink(text, '/'))),
    };
  } catch {
    return null;
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
