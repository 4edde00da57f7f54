/** `rotate wrap` as a client starts it: only what a shim needs is loaded, since every server of a client waits for it. */
import { constants } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock, systemRandom } from '../clock.ts';
import { asRotatedError, RotatedError } from '../errors.ts';
import {
  type Entry,
  entryHash,
  environmentOf,
  type Launch,
  referencesOf,
  warningsOf,
} from '../gate/entry.ts';
import { connectDaemon, connectSocket } from '../gate/feed/daemon.ts';
import { describeLaunch, serverNameOf } from '../gate/feed/identity.ts';
import { type Connect, createFeedSource } from '../gate/feed/source.ts';
import type { StartLink } from '../gate/link.ts';
import type { GateLog } from '../gate/session/session.ts';
import { defaultSettings } from '../gate/settings.ts';
import type { ValueSource } from '../gate/source.ts';
import { exitCodeOf, wrap } from '../gate/wrap.ts';

const usage = 2;
const next = 'Run: rotate wrap --help';

/** Where it stands in the environment decides over the shim, not over the server. */
const ownVariable = /^ROTATED_/;

export async function runWrap(argv: readonly string[]): Promise<void> {
  const say = (text: string) => process.stderr.write(`rotate wrap: ${text}\n`);
  try {
    const entry = entryOf(argv, process.env, process.cwd());
    for (const warning of warningsOf(entry)) say(warning);
    process.exitCode = await run(entry, argv, say);
  } catch (thrown) {
    const error = asRotatedError(thrown, 'none');
    say(`${error.message} (${error.code})${error.next === '' ? '' : `\nNext: ${error.next}`}`);
    process.exitCode = error.code === 'usage' ? usage : 1;
  }
  // Whatever still holds the process is of no use now; what was said has to leave first.
  process.stdout.write('', () => process.stderr.write('', () => process.exit()));
}

async function run(
  entry: Entry,
  argv: readonly string[],
  say: (text: string) => void,
): Promise<number> {
  const clock = systemClock();
  const random = systemRandom();
  const log: GateLog = {
    info: () => undefined,
    warn: (fields, message) => say(`${message} ${JSON.stringify(fields)}`),
  };
  const references = referencesOf(entry);
  const source =
    references.length === 0
      ? nothingToResolve()
      : createFeedSource({
          connect: connectorOf(argv, references),
          asker: {
            server: entry.name,
            hash: entryHash(entry),
            what: describeLaunch(entry.launch),
            references,
          },
          clock,
          random,
          log,
        });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => stop.abort());
  }
  const end = await wrap({
    entry,
    source,
    startLink: await linkOf(entry.launch),
    input: process.stdin,
    output: process.stdout,
    errors: process.stderr,
    clock,
    random,
    log,
    stop: stop.signal,
  });
  if (end.message !== null) say(end.message);
  return exitCodeOf(end, constants.signals);
}

/** The daemon of the state directory; or the socket that somebody put in its place, as into a container. */
function connectorOf(argv: readonly string[], references: readonly string[]): Connect {
  const socket = process.env['ROTATED_GATE_SOCKET'];
  if (socket === undefined || socket === '') {
    return connectDaemon({
      env: process.env,
      directory: process.cwd(),
      state: optionOf(argv, 'state'),
      references,
    });
  }
  return connectSocket(socket);
}

async function linkOf(launch: Launch): Promise<StartLink> {
  if (launch.kind === 'remote') {
    const { remoteLink } = await import('../gate/remote-link.ts');
    return remoteLink(launch);
  }
  const { processLink } = await import('../gate/process-link.ts');
  return processLink(launch);
}

/** A server without references is passed on as it is: no daemon is needed for it. */
function nothingToResolve(): ValueSource {
  return {
    settings: () => defaultSettings,
    resolve: async () => ({ values: new Map(), generations: {} }),
    listen: () => undefined,
    report: () => undefined,
    close: async () => undefined,
  };
}

/** The entry that the arguments and the environment describe. Throws `usage`. */
export function entryOf(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  cwd: string,
): Entry {
  const at = argv.indexOf('--');
  const before = at === -1 ? argv : argv.slice(0, at);
  const [command, ...args] = at === -1 ? [] : argv.slice(at + 1);
  const { server, url, header, file, reread } = optionsOf(before);
  if (url !== undefined) {
    if (command !== undefined) throw mistake('Either --url or a command, not both.');
    if (file.length > 0) throw mistake('A remote server reads no file of this machine.');
    const launch: Launch = { kind: 'remote', url, headers: pairsOf(header, '--header') };
    return { name: serverNameOf(server ?? hostOf(url)), launch };
  }
  if (command === undefined) throw mistake('After "--" stands the command of the server.');
  if (header.length > 0) throw mistake('--header is for a server at a --url.');
  const passed = Object.entries(env).filter(([name]) => !ownVariable.test(name));
  return {
    name: serverNameOf(server ?? path.basename(command)),
    launch: {
      kind: 'process',
      command,
      args,
      cwd,
      env: environmentOf(Object.fromEntries(passed)),
      files: Object.entries(pairsOf(file, '--file')).map(([name, content]) => ({
        path: path.resolve(cwd, name),
        content,
        reread,
      })),
    },
  };
}

/** Held equal to the options of `commands/wrap.ts` by a test. */
export const wrapOptions = {
  server: { type: 'string' },
  state: { type: 'string' },
  url: { type: 'string' },
  header: { type: 'string', multiple: true },
  file: { type: 'string', multiple: true },
  reread: { type: 'boolean' },
} as const;

function optionsOf(args: readonly string[]) {
  try {
    const { values } = parseArgs({ args: [...args], options: wrapOptions, strict: true });
    return {
      server: values.server,
      url: values.url,
      header: values.header ?? [],
      file: values.file ?? [],
      reread: values.reread === true,
    };
  } catch (error) {
    // Node's messages repeat the argument, which may be a value in the wrong place.
    const code = (error as { code?: unknown }).code;
    throw mistake(
      code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION'
        ? 'An option is not known. The command of the server stands after "--".'
        : 'The options cannot be read. The command of the server stands after "--".',
    );
  }
}

function optionOf(argv: readonly string[], name: 'state'): string | undefined {
  const at = argv.indexOf('--');
  const { values } = parseArgs({
    args: [...(at === -1 ? argv : argv.slice(0, at))],
    options: wrapOptions,
  });
  return values[name];
}

function pairsOf(texts: readonly string[], option: string): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=');
      if (at < 1) throw mistake(`${option} is written NAME=TEMPLATE.`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function hostOf(url: string): string {
  if (!URL.canParse(url)) throw mistake('--url is no URL.');
  return new URL(url).host;
}

function mistake(message: string): RotatedError {
  return new RotatedError('usage', message, { next });
}
