/** A gate consumer as written → which server, what launches it, and what is said of its swaps. */
import type { ServerSettings } from '../gate/settings.ts';
import { asList, type BuildTools, positive, soundOnly } from './build-parts.ts';
import type { Path } from './document.ts';
import { parseDuration } from './duration.ts';
import type { ConsumerSpec, Policy } from './policy.ts';
import { parseReference } from './reference.ts';
import type { ConsumerInput } from './shape.ts';

type GateSpec = Omit<Extract<ConsumerSpec, { kind: 'gate' }>, 'role' | 'report' | 'timeoutMs'>;

/** The command stays as clients write it: it is compared, never run. */
export function buildGate(
  input: NonNullable<ConsumerInput['gate']>,
  at: Path,
  tools: BuildTools,
): GateSpec {
  if (typeof input === 'string') {
    return { kind: 'gate', server: input, command: null, settings: {} };
  }
  const written = soundOnly(input, at, tools);
  const { swap, emergency, retry, canary, redact, version } = written;
  const span = (key: 'drain' | 'warm' | 'idle' | 'start', least: 'any' | 'some') => {
    const text = written[key];
    if (text === undefined) return undefined;
    return least === 'any' ? (parseDuration(text) ?? 0) : positive(text, 1, [...at, key], tools);
  };
  const settings: { [Key in keyof ServerSettings]: ServerSettings[Key] | undefined } = {
    swap,
    drainMs: span('drain', 'any'),
    emergency,
    warmMs: span('warm', 'any'),
    idleMs: span('idle', 'some'),
    startMs: span('start', 'some'),
    retry: retry === undefined ? undefined : asList(retry, [...at, 'retry']).map(([one]) => one),
    canary:
      canary === undefined
        ? undefined
        : {
            tool: canary.tool,
            arguments: canary.arguments ?? {},
            ...(canary.expect === undefined ? {} : { expect: canary.expect }),
          },
    redact,
    version,
  };
  return {
    kind: 'gate',
    server: written.server ?? '',
    command: written.command ?? null,
    settings: Object.fromEntries(
      Object.entries(settings).filter(([, value]) => value !== undefined),
    ),
  };
}

/**
 * What the gate consumers launch, for checks that start the same server: `{{local://mcp/db#password}}` becomes
 * `${password}` where it is this policy's own item. Others have no value to try: such a server cannot be checked so.
 */
export function gateCommands(
  consumers: readonly (ConsumerSpec | null)[],
  backend: Policy['backend'] | null,
): ReadonlyMap<string, [string, ...string[]]> {
  const commands = new Map<string, [string, ...string[]]>();
  for (const one of consumers) {
    if (one?.kind !== 'gate' || one.command === null || backend === null) continue;
    const [program, ...args] = one.command;
    const own = args.map((arg) => withFields(arg, backend));
    if (own.every((arg) => !arg.includes('{{'))) commands.set(one.server, [program, ...own]);
  }
  return commands;
}

function withFields(text: string, backend: Policy['backend']): string {
  return text.replaceAll(
    /\{\{\s*([^\s{}|]+)\s*(\|\s*url\s*)?\}\}/g,
    (whole, reference: string, filter: string | undefined) => {
      const parsed = parseReference(reference);
      if ('wrong' in parsed) return whole;
      const { scheme, item, field } = parsed.reference;
      if (scheme !== backend.scheme || item !== backend.item) return whole;
      const named = Object.keys(backend.fields ?? {});
      const meant = field ?? (named.length === 1 ? named[0] : 'value');
      return `\${${meant}${filter === undefined ? '' : '|url'}}`;
    },
  );
}
