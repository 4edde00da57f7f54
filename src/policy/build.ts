/** One secret as written → its `Policy`: short forms spelled out, defaults filled in, and what no shape can refuse. */
import { buildConsumer } from './build-consumer.ts';
import {
  asList,
  type BuildTools,
  buildReference,
  durationOr,
  isMap,
  positive,
  soundOnly,
} from './build-parts.ts';
import { buildSchedule, intervalMs } from './build-schedule.ts';
import { gateCommands } from './build-gate.ts';
import { buildVerify } from './build-verify.ts';
import type { Path, Place } from './document.ts';
import { formatDuration } from './duration.ts';
import { nearest } from './nearest.ts';
import type { Json, Policy, Schedule } from './policy.ts';
import { providerExample } from './provider-examples.ts';
import { parseReference } from './reference.ts';
import { keyPatterns, type SecretInput } from './shape.ts';

const minute = 60_000;
const defaults = {
  graceMs: 60 * minute,
  quietMs: 0,
  adoption: { timeoutMs: 15 * minute, then: 'wait' },
  failure: { attempts: 5, pauseAfter: 3 },
  emergency: { mode: 'continuity', deadlineMs: 5 * minute },
} as const;

/** The policy, complete where nothing was reported for it; else only its mistakes matter. `notify` is linked later. */
export function buildPolicy(
  name: string,
  input: SecretInput,
  source: { readonly file: string } & Place,
  tools: BuildTools,
): Policy | null {
  const at: Path = ['secrets', name];
  // A part of unknown form is left out, so that the others still get their checks.
  const part = <T, R>(key: string, value: T, build: (value: T, at: Path) => R): R | null =>
    tools.isSound([...at, key]) ? build(value, [...at, key]) : null;

  const provider = buildProvider(input.provider, [...at, 'provider'], tools);
  const backend = buildBackend(input.backend, [...at, 'backend'], tools);
  if (provider?.admin != null && backend !== null) {
    checkAdmin(provider.admin, backend, [...at, 'provider', 'admin'], tools);
  }
  const schedule = buildSchedule(input, at, tools);
  const graceMs = part('grace', input.grace, (text) => durationOr(text, defaults.graceMs));
  if (schedule !== null && graceMs !== null) {
    checkGrace(schedule, graceMs, input.grace !== undefined, at, tools);
  }
  const known = backend === null || backend.fields === null ? null : Object.keys(backend.fields);
  const consumers = asList(input.consumers, [...at, 'consumers']).map(([one, place]) =>
    isMap(one) ? buildConsumer(one, place, tools) : null,
  );
  const servers = gateCommands(consumers, backend);
  const verify = buildVerify(input.verify, [...at, 'verify'], known, servers, tools);
  const adoption = part('adoption', input.adoption, (value, at) => ({
    timeoutMs: positive(value?.timeout, defaults.adoption.timeoutMs, [...at, 'timeout'], tools),
    then: value?.then ?? defaults.adoption.then,
  }));
  const emergency = part('emergency', input.emergency, (value, at) => ({
    mode: value?.mode ?? defaults.emergency.mode,
    deadlineMs: positive(
      value?.deadline,
      defaults.emergency.deadlineMs,
      [...at, 'deadline'],
      tools,
    ),
  }));
  const quietMs = part('quiet', input.quiet, (text) => durationOr(text, defaults.quietMs));
  const tags = part('tags', input.tags, (value, at) => [
    ...new Set(asList(value, at).map(([tag]) => tag)),
  ]);
  if (
    provider === null ||
    backend === null ||
    schedule === null ||
    graceMs === null ||
    quietMs === null ||
    adoption === null ||
    emergency === null ||
    tags === null
  ) {
    return null;
  }
  return {
    name,
    source,
    directory: tools.directory,
    tags,
    group: input.group ?? null,
    provider,
    backend,
    schedule,
    graceMs,
    quietMs,
    verify: verify.filter((one) => one !== null),
    consumers: consumers.filter((one) => one !== null),
    adoption,
    failure: {
      attempts: input.failure?.attempts ?? defaults.failure.attempts,
      pauseAfter: input.failure?.pauseAfter ?? defaults.failure.pauseAfter,
    },
    emergency,
    escrow: input.escrow ?? true,
    notify: [],
  };
}

function buildProvider(
  input: SecretInput['provider'] | undefined,
  at: Path,
  tools: BuildTools,
): Policy['provider'] | null {
  const { context, report, directory } = tools;
  if (typeof input !== 'string' && !isMap(input)) return null;
  const written = typeof input === 'string' ? { use: input } : soundOnly(input, at, tools);
  const { use, admin, ...options } = written;
  if (use === undefined) return null;
  const schema = context.providerSchema(use, directory);
  if (schema === undefined) {
    const near = nearest(use, context.providers);
    const hint =
      near === null
        ? `Known: ${[...context.providers].sort().join(', ')}.`
        : `Did you mean ${near}?`;
    report(
      typeof input === 'string' ? at : [...at, 'use'],
      'unknown-provider',
      `There is no such provider. ${hint}`,
      {
        example: providerExample(near ?? 'generated'),
      },
    );
  } else {
    tools.options(use, schema, options, at);
  }
  return {
    use,
    admin: typeof admin === 'string' ? buildReference(admin, [...at, 'admin'], tools) : null,
    // Plain data, since it came from YAML without tags.
    options: options as Json,
  };
}

function buildBackend(
  input: SecretInput['backend'] | undefined,
  at: Path,
  tools: BuildTools,
): Policy['backend'] | null {
  const isShort = typeof input === 'string';
  if (isShort ? !tools.isSound(at) : input === undefined || !isMap(input)) return null;
  const { ref: text, fields } = isShort
    ? { ref: input, fields: undefined }
    : soundOnly<Partial<Exclude<typeof input, undefined>>>(input ?? {}, at, tools);
  checkFields(fields, [...at, 'fields'], tools);
  if (text === undefined) return null;
  const place = isShort ? at : [...at, 'ref'];
  buildReference(text, place, tools);
  const parsed = parseReference(text);
  const { scheme, item, field } =
    'reference' in parsed ? parsed.reference : { scheme: 'local', item: '', field: null };
  if (field !== null && fields !== undefined) {
    tools.report(
      place,
      'bad-reference',
      'A field after "#" is the short form, and fields stand below: leave one out.',
      {
        example: 'backend: { ref: local://mcp/reports-db, fields: { PGPASSWORD: password } }',
      },
    );
  }
  // A provider with one field calls it `value`.
  return { scheme, item, fields: fields ?? (field === null ? null : { [field]: 'value' }) };
}

/** A provider that signs in with what it revokes would lock itself out at the first rotation. */
function checkAdmin(
  admin: string,
  { scheme, item, fields }: Policy['backend'],
  at: Path,
  tools: BuildTools,
): void {
  const parsed = parseReference(admin);
  if (!('reference' in parsed)) return;
  const { reference } = parsed;
  const isOther =
    reference.scheme !== scheme ||
    reference.item !== item ||
    (reference.field !== null && fields !== null && !Object.hasOwn(fields, reference.field));
  if (isOther) return;
  tools.report(
    at,
    'self-admin',
    'The admin credential is read from what this secret writes: revoking the old credential would end the one that it is revoked with.',
  );
}

function checkFields(
  fields: Readonly<Record<string, string>> | undefined,
  at: Path,
  tools: BuildTools,
): void {
  if (fields === undefined) return;
  for (const name of Object.keys(fields)) {
    if (keyPatterns['field']?.test(name) === true) continue;
    tools.report(
      [...at, name],
      'bad-name',
      'A field name has letters, digits, "_", "-" and ".", and starts with a letter.',
      { at: 'key' },
    );
  }
  if (Object.keys(fields).length === 0) {
    tools.report(at, 'bad-value', 'No field is named: name at least one, or leave fields out.');
  }
}

/** While a grace runs the next rotation would have to wait, or three credentials would be valid. */
function checkGrace(
  schedule: Schedule,
  graceMs: number,
  isWritten: boolean,
  at: Path,
  tools: BuildTools,
): void {
  const interval = intervalMs(schedule, tools);
  const place = isWritten ? [...at, 'grace'] : at;
  const grace = `${isWritten ? 'The grace' : 'The grace, which is'} ${formatDuration(graceMs)}${isWritten ? '' : ' where none is written,'}`;
  if (interval !== null && interval <= graceMs) {
    tools.report(
      place,
      'grace-too-long',
      `${grace} is not shorter than the time between two rotations (${formatDuration(interval)} at the shortest): the old credential would outlive its successor.`,
      {
        example: `grace: ${formatDuration(Math.max(1_000, Math.floor(interval / 2_000) * 1_000))}`,
      },
    );
  } else if (schedule.ageMaxMs !== null && schedule.ageMaxMs <= graceMs) {
    tools.report(
      place,
      'grace-too-long',
      `${grace} is not shorter than ageMax (${formatDuration(schedule.ageMaxMs)}).`,
      {
        example: `grace: ${formatDuration(Math.floor(schedule.ageMaxMs / 2_000) * 1_000)}`,
      },
    );
  }
}
