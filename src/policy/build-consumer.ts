/** One consumer as written → `ConsumerSpec`, with its report and the signals a file may send. */
import {
  type BuildTools,
  buildReference,
  positive,
  resolveCommand,
  resolvePath,
  soundOnly,
} from './build-parts.ts';
import type { Path } from './document.ts';
import { expectedAt } from './expected.ts';
import type { ConsumerSpec, ReportSpec, SignalSpec } from './policy.ts';
import { buildGate } from './build-gate.ts';
import type { ConsumerInput, ReportInput, SignalInput } from './shape.ts';

const timeoutMs = 10_000;
const fileMode = 0o600;
/** A file that others can write would let them hand out credentials of their own. */
const othersMayWrite = 0o022;

export function buildConsumer(
  input: ConsumerInput,
  at: Path,
  tools: BuildTools,
): ConsumerSpec | null {
  const kind = pickOne(input, ['signal', 'http', 'exec', 'file', 'gate'], at, tools);
  const { role, report, timeout } = soundOnly(input, at, tools);
  const common = {
    role: role ?? 'user',
    report: report === undefined ? null : buildReport(report, [...at, 'report'], tools),
    timeoutMs: positive(timeout, timeoutMs, [...at, 'timeout'], tools),
  } as const;
  if (kind === null || !tools.isSound([...at, kind])) return null;
  const place = [...at, kind];
  switch (kind) {
    case 'signal': {
      const signal = buildSignal(input.signal, place, tools);
      return signal === null ? null : { ...common, kind, ...signal };
    }
    case 'http':
      return input.http === undefined
        ? null
        : { ...common, kind, ...buildHttp(input.http, place, tools) };
    case 'exec':
      return input.exec === undefined
        ? null
        : { ...common, kind, command: resolveCommand(commandOf(input.exec), tools) };
    case 'file': {
      const file = buildFile(input.file, place, tools);
      if (common.role === 'verifier' && file !== null && file.format !== 'json') {
        tools.report(
          place,
          'conflict',
          `A verifier accepts several generations at once, which ${file.format} cannot hold.`,
          {
            example: 'file: { path: /run/verifier/keys.json, format: json }',
          },
        );
      }
      return file === null ? null : { ...common, ...file };
    }
    case 'gate':
      if (input.gate === undefined) return null;
      for (const key of ['report', 'role'] as const) {
        if (input[key] === undefined || (key === 'role' && common.role === 'user')) continue;
        tools.report(
          [...at, key],
          'conflict',
          key === 'report'
            ? 'The instances of a gate report by themselves.'
            : 'A gate uses a secret: it is no verifier.',
          { at: 'key', example: 'gate: search' },
        );
      }
      return { ...common, role: 'user', report: null, ...buildGate(input.gate, place, tools) };
    default:
      return kind satisfies never;
  }
}

/** The one key of several that is there; reports none and more than one. */
export function pickOne<Key extends string>(
  input: Readonly<Partial<Record<Key, unknown>>>,
  keys: readonly Key[],
  at: Path,
  { report }: Pick<BuildTools, 'report'>,
): Key | null {
  const [first, second] = keys.filter((key) => input[key] !== undefined);
  if (first === undefined) {
    report(at, 'missing', `One of these keys is missing: ${keys.join(', ')}.`, {
      example: expectedAt([...at, keys[0] ?? '']).example,
    });
    return null;
  }
  if (second !== undefined) {
    report(
      [...at, second],
      'conflict',
      `There is ${first} as well: write one of ${keys.join(', ')}, and the other as an entry of its own.`,
      {
        at: 'key',
        example: `[{ ${expectedAt([...at, first]).example} }, { ${expectedAt([...at, second]).example} }]`,
      },
    );
    return null;
  }
  return first;
}

export function commandOf(
  input: [string, ...string[]] | { command: [string, ...string[]] },
): [string, ...string[]] {
  return Array.isArray(input) ? input : input.command;
}

function buildReport(input: ReportInput, at: Path, tools: BuildTools): ReportSpec | null {
  const kind = pickOne(input, ['http', 'exec', 'file'], at, tools);
  switch (kind) {
    case null:
      return null;
    case 'http':
      return input.http === undefined
        ? null
        : { kind, ...buildHttp(input.http, [...at, kind], tools) };
    case 'exec':
      return input.exec === undefined
        ? null
        : { kind, command: resolveCommand(commandOf(input.exec), tools) };
    case 'file': {
      const file = typeof input.file === 'string' ? input.file : input.file?.path;
      return file === undefined ? null : { kind, path: resolvePath(file, tools) };
    }
    default:
      return kind satisfies never;
  }
}

function buildHttp(
  input: NonNullable<ConsumerInput['http']>,
  at: Path,
  tools: BuildTools,
): { readonly url: string; readonly key: string | null } {
  if (typeof input === 'string') return { url: input, key: null };
  const key = input.key === undefined ? null : buildReference(input.key, [...at, 'key'], tools);
  return { url: input.url, key };
}

function buildSignal(
  input: SignalInput | undefined,
  at: Path,
  tools: BuildTools,
): SignalSpec | null {
  if (input === undefined) return null;
  const { pidfile, match } = input;
  if ((pidfile === undefined) === (match === undefined)) {
    const message =
      pidfile === undefined
        ? 'One of these keys is missing: pidfile, match.'
        : 'There is a pidfile as well: write one of pidfile, match.';
    tools.report(
      pidfile === undefined ? at : [...at, 'match'],
      pidfile === undefined ? 'missing' : 'conflict',
      message,
      {
        at: 'key',
        example: 'signal: { signal: SIGHUP, pidfile: /run/reports.pid }',
      },
    );
    return null;
  }
  const owner = input.owner === undefined ? null : String(input.owner);
  if (pidfile !== undefined) {
    return {
      signal: input.signal,
      target: { kind: 'pidfile', path: resolvePath(pidfile, tools) },
      owner,
    };
  }
  return match === undefined
    ? null
    : { signal: input.signal, target: { kind: 'match', command: match }, owner };
}

function buildFile(
  input: ConsumerInput['file'],
  at: Path,
  tools: BuildTools,
): Extract<ConsumerSpec, { kind: 'file' }> extends infer File
  ? Omit<File, 'role' | 'report' | 'timeoutMs'> | null
  : never {
  if (input === undefined) return null;
  const { report } = tools;
  const format = input.format ?? (input.template === undefined ? undefined : 'template');
  if (format === undefined) {
    report(at, 'missing', 'The key format is missing: env, json or template.', {
      example: 'format: env',
    });
    return null;
  }
  if ((format === 'template') !== (input.template !== undefined)) {
    const place = format === 'template' ? at : [...at, 'template'];
    const message =
      format === 'template'
        ? 'The key template is missing: the file to fill in.'
        : `A template needs the format template, not ${format}.`;
    report(place, format === 'template' ? 'missing' : 'conflict', message, {
      example: 'file: { path: /run/reports.conf, template: ./reports.conf.template }',
    });
    return null;
  }
  const mode = input.mode === undefined ? fileMode : Number.parseInt(input.mode, 8);
  if ((mode & othersMayWrite) !== 0) {
    report(
      [...at, 'mode'],
      'bad-value',
      'With this mode others could write the file, and hand out credentials of their own.',
    );
  }
  return {
    kind: 'file',
    path: resolvePath(input.path, tools),
    format,
    template: input.template === undefined ? null : resolvePath(input.template, tools),
    mode,
    then: buildSignal(input.then, [...at, 'then'], tools),
  };
}
