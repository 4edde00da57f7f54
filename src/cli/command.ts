/** What a command is, and the options that several share. */
import type { Command } from 'commander';
import type { Ask, Selector } from '../rotation/service.ts';
import type { Exit } from './exit.ts';
import type { Io } from './io.ts';
import { RotatedError } from '../errors.ts';

export interface CommandModule {
  /** Arguments and options, on top of the common ones. */
  configure(command: Command): void;
  run(call: Call): Promise<Exit>;
}

export interface Call {
  readonly io: Io;
  readonly args: readonly string[];
  readonly options: Readonly<Record<string, unknown>> & CommonOptions;
}

/** Accepted by every command, before or after its name. */
export interface CommonOptions {
  readonly state?: string;
  readonly policies?: string;
  readonly key?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

export function addCommonOptions(command: Command): void {
  command
    .option('--state <dir>', 'the state directory')
    .option('--policies <dir>', 'the folder of the policy files')
    .option('--key <file>', 'the file of the key-encryption key')
    .option('--json', 'print one JSON object')
    .option('--verbose', 'print logs and the places of errors on stderr');
}

export function addReasonOption(command: Command): void {
  command.option('--reason <text>', 'why, for the audit trail');
}

export function addSelectorOptions(command: Command): void {
  command
    .option('--tag <tag>', 'every secret with this tag; repeatable', collect, [])
    .option('--provider <id>', 'every secret of this provider; repeatable', collect, [])
    .option('--consumer <id>', 'every secret that this consumer uses; repeatable', collect, [])
    .option('--all', 'every secret');
}

export function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

function selectorOf({ args, options }: Call): Selector {
  return {
    names: args,
    tags: (options['tag'] as string[] | undefined) ?? [],
    providers: (options['provider'] as string[] | undefined) ?? [],
    consumers: (options['consumer'] as string[] | undefined) ?? [],
    all: options['all'] === true,
  };
}

function isEmpty(selector: Selector): boolean {
  const { names, tags, providers, consumers, all } = selector;
  return !all && names.length + tags.length + providers.length + consumers.length === 0;
}

/** For commands where saying nothing means all. */
export function selectorOrAll(call: Call): Selector {
  const selector = selectorOf(call);
  return isEmpty(selector) ? { ...selector, all: true } : selector;
}

/** For commands that change something: saying nothing is a mistake. */
export function selectorOrUsage(call: Call, command: string): Selector {
  const selector = selectorOf(call);
  if (!isEmpty(selector)) return selector;
  throw new RotatedError('usage', `${command} needs to know which secrets are meant.`, {
    next: `Name them, or say --tag, --provider, --consumer or --all. Run: rotate ${command} --help`,
  });
}

/** Who asks: the account itself is proven by the socket's folder or the state directory; who is behind sudo only claims. */
export function askOf({ io, options }: Call): Ask {
  const behind = io.env['SUDO_USER'];
  const reason = typeof options['reason'] === 'string' ? options['reason'] : null;
  if (behind !== undefined && behind !== '') {
    return { actor: { id: behind, channel: 'command', proven: false }, reason };
  }
  return { actor: { id: accountName(io), channel: 'command', proven: true }, reason };
}

/** Without looking anything up: the uid is the fact, the name a courtesy. */
export function accountName(io: Pick<Io, 'env'>): string {
  const uid = process.getuid?.();
  const name = io.env['USER'] ?? io.env['LOGNAME'] ?? (uid === 0 ? 'root' : undefined);
  return uid === undefined
    ? (name ?? 'unknown')
    : `uid ${uid}${name === undefined ? '' : ` (${name})`}`;
}

/** `rotate status --state DIR` as the person would type it, for messages. */
export function only(args: readonly string[], what: string): string {
  const [first] = args;
  if (first === undefined || args.length > 1) {
    throw new RotatedError('usage', `${what} takes exactly one name.`, {
      next: `Run: rotate ${what} --help`,
    });
  }
  // Not repeated: a credential may have been typed where its name belongs.
  if (!/^[a-z0-9][a-z0-9-]*$/.test(first)) {
    throw new RotatedError('usage', `${what} takes the name of a secret, and this is none.`, {
      next: 'rotate status lists the names there are.',
    });
  }
  return first;
}
