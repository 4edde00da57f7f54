/** The gate's server file: a client's own `mcpServers` JSON, read strictly, since what is ignored in it would not be enforced. */
import path from 'node:path';
import { type Node, type ParseError, parseTree } from 'jsonc-parser';
import { RotatedError } from '../errors.ts';
import { type Entry, environmentOf, type Launch, type ValueFile } from './entry.ts';
import { serverNameOf } from './feed/identity.ts';
import { readOwnSettings, type SettingsOverrides } from './own-settings.ts';

export interface ServerEntry {
  readonly entry: Entry;
  /** What the entry says itself of how it is swapped: counts more than a policy. */
  readonly settings: SettingsOverrides;
}

export interface ReadOptions {
  /** For messages, and the place that relative paths count from. */
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Mistake {
  readonly offset: number;
  readonly message: string;
}

/** As the MCP SDK's clients pass on, and what a runtime needs to find its files and speak the account's language. */
const inherited = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'SHELL',
  'TERM',
  'LANG',
  'LC_ALL',
  'TZ',
  'TMPDIR',
  'XDG_CACHE_HOME',
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
] as const;

const processKeys = new Set(['command', 'args', 'env', 'cwd']);
const remoteKeys = new Set(['url', 'serverUrl', 'headers']);
const commonKeys = new Set(['type', 'transport', 'disabled', 'description', 'rotated']);

/** Throws `policy-invalid` with every mistake of the file, each with its place; no message repeats a value. */
export function readServers(text: string, options: ReadOptions): readonly ServerEntry[] {
  const mistakes: Mistake[] = [];
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  for (const { offset } of errors) mistakes.push({ offset, message: 'This is no JSON.' });
  const list =
    root === undefined ? undefined : (member(root, 'mcpServers') ?? member(root, 'servers'));
  if (errors.length === 0 && list?.type !== 'object') {
    mistakes.push({ offset: 0, message: 'There is no "mcpServers": { … } in this file.' });
  }
  const entries: ServerEntry[] = [];
  const names = new Map<string, string>();
  for (const [name, node] of errors.length === 0 ? membersOf(list) : []) {
    const say = (message: string, at: Node = node) =>
      mistakes.push({ offset: at.offset, message: `${name}: ${message}` });
    const found = readEntry(name, node, options, say);
    if (found === null) continue;
    const taken = names.get(serverNameOf(name));
    if (taken !== undefined) say(`Policies and grants could not tell it from ${taken}.`);
    names.set(serverNameOf(name), name);
    entries.push(found);
  }
  if (mistakes.length > 0) throw mistaken(text, options.file, mistakes);
  return entries;
}

type Say = (message: string, at?: Node) => void;

/** null where it is switched off, or something is wrong. */
function readEntry(name: string, node: Node, options: ReadOptions, say: Say): ServerEntry | null {
  if (node.type !== 'object') {
    say('A server is written as { "command": … } or { "url": … }.');
    return null;
  }
  const fields = new Map(membersOf(node));
  if (fields.get('disabled')?.value === true) return null;
  const isRemote = fields.has('url') || fields.has('serverUrl');
  for (const [key, value] of fields) {
    if (commonKeys.has(key) || (isRemote ? remoteKeys : processKeys).has(key)) continue;
    const isElsewhere = processKeys.has(key) || remoteKeys.has(key);
    say(
      isElsewhere
        ? `"${key}" does not go with ${isRemote ? 'a "url"' : 'a "command"'}.`
        : `"${key}" is not enforced by this version, so it is refused: remove it.`,
      value,
    );
  }
  const strings = stringsOf(fields, options, say);
  const launch = isRemote
    ? remoteLaunch(fields, strings, say)
    : processLaunch(fields, strings, options, say);
  const own = fields.get('rotated');
  const rotated = own === undefined ? null : readOwnSettings(own, say);
  if (launch === null) return null;
  const files = filesOf(rotated?.files ?? [], launch, options, say);
  return {
    entry: { name, launch: launch.kind === 'process' ? { ...launch, files } : launch },
    settings: rotated?.settings ?? {},
  };
}

function remoteLaunch(
  fields: ReadonlyMap<string, Node>,
  strings: Strings,
  say: Say,
): Extract<Launch, { kind: 'remote' }> | null {
  const type = fields.get('type') ?? fields.get('transport');
  if (
    type !== undefined &&
    !['http', 'streamable-http', 'streamableHttp'].includes(String(type.value))
  ) {
    say('Only servers of type "http" (Streamable HTTP) can be reached by "url".', type);
  }
  const url = strings.one(fields.has('url') ? 'url' : 'serverUrl');
  const headers = strings.record('headers');
  if (url === null) return null;
  // A reference in it is no URL yet.
  if (!/^https?:\/\//.test(url)) {
    say('"url" must begin with https:// or http://.', fields.get('url'));
    return null;
  }
  return { kind: 'remote', url, headers };
}

function processLaunch(
  fields: ReadonlyMap<string, Node>,
  strings: Strings,
  { file, env }: ReadOptions,
  say: Say,
): Extract<Launch, { kind: 'process' }> | null {
  const type = fields.get('type') ?? fields.get('transport');
  if (type !== undefined && type.value !== 'stdio') {
    say('A server with a "command" is of type "stdio".', type);
  }
  const command = strings.one('command');
  const args = strings.list('args');
  const given = strings.record('env');
  const cwd = fields.has('cwd') ? strings.one('cwd') : '.';
  if (command === null || command === '' || cwd === null) {
    if (command === '') say('"command" is empty.');
    return null;
  }
  const engine = path.basename(command);
  if ((engine === 'docker' || engine === 'podman') && args.includes('run')) {
    say(
      `"${engine} run" is not supported: ending the client of a container engine does not end the container, ` +
        'so the old credential could stay in use. Name the server itself.',
      fields.get('command'),
    );
    return null;
  }
  const kept = inherited.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  try {
    return {
      kind: 'process',
      command,
      args,
      cwd: path.resolve(path.dirname(path.resolve(file)), cwd),
      env: { ...Object.fromEntries(kept), ...environmentOf(given) },
      files: [],
    };
  } catch (error) {
    if (!(error instanceof RotatedError)) throw error;
    say(`${error.message} ${error.next}`, fields.get('env'));
    return null;
  }
}

function filesOf(
  files: readonly ValueFile[],
  launch: Launch,
  { file }: ReadOptions,
  say: Say,
): readonly ValueFile[] {
  if (files.length > 0 && launch.kind === 'remote') {
    say('A server behind a "url" reads no file of this machine.');
  }
  const folder = launch.kind === 'process' ? launch.cwd : path.dirname(file);
  return files.map((one) => ({ ...one, path: path.resolve(folder, one.path) }));
}

interface Strings {
  one(key: string): string | null;
  list(key: string): string[];
  record(key: string): Record<string, string>;
}

/** Strings with the client's own `${…}` filled in. */
function stringsOf(fields: ReadonlyMap<string, Node>, { env }: ReadOptions, say: Say): Strings {
  const filled = (node: Node, where: string): string | null => {
    if (typeof node.value !== 'string') {
      say(`${where} must be a string.`, node);
      return null;
    }
    const missing: string[] = [];
    const text = node.value.replaceAll(
      /\$\{(?:env:)?([^}]*?)(?::-([^}]*))?\}/g,
      (whole, name: string, otherwise: string | undefined) => {
        if (!/^[A-Za-z_]\w*$/.test(name)) {
          missing.push(`${where} asks for something that only its client can fill in.`);
          return whole;
        }
        const value = env[name] ?? otherwise;
        if (value === undefined) missing.push(`${where} asks for $${name}, which is not set.`);
        return value ?? whole;
      },
    );
    for (const one of missing) say(one, node);
    return missing.length === 0 ? text : null;
  };
  return {
    one(key) {
      const node = fields.get(key);
      if (node !== undefined) return filled(node, `"${key}"`);
      say(`"${key}" is missing.`);
      return null;
    },
    list(key) {
      const node = fields.get(key);
      if (node === undefined) return [];
      if (node.type !== 'array') {
        say(`"${key}" must be a list of strings.`, node);
        return [];
      }
      return (node.children ?? []).flatMap((child) => filled(child, `"${key}"`) ?? []);
    },
    record(key) {
      const node = fields.get(key);
      if (node === undefined) return {};
      if (node.type !== 'object') {
        say(`"${key}" must be an object of strings.`, node);
        return {};
      }
      return Object.fromEntries(
        membersOf(node).flatMap(([name, child]) => {
          const text = filled(child, `"${key}.${name}"`);
          return text === null ? [] : [[name, text] as const];
        }),
      );
    },
  };
}

function member(node: Node, key: string): Node | undefined {
  return membersOf(node).find(([name]) => name === key)?.[1];
}

/** The last of equal names counts, as for every client. */
function membersOf(node: Node | undefined): readonly (readonly [string, Node])[] {
  if (node?.type !== 'object') return [];
  const found = new Map<string, Node>();
  for (const { children } of node.children ?? []) {
    const [key, value] = children ?? [];
    if (key !== undefined && value !== undefined) found.set(String(key.value), value);
  }
  return [...found];
}

function mistaken(text: string, file: string, mistakes: readonly Mistake[]): RotatedError {
  const lines = mistakes.map(({ offset, message }) => {
    const before = text.slice(0, offset).split('\n');
    return `${file}:${before.length}:${(before.at(-1) ?? '').length + 1} ${message}`;
  });
  return new RotatedError('policy-invalid', lines.join('\n'), {
    next: 'Correct the server file. docs/gate.md shows a working one.',
  });
}
