/** What an entry launches, and with which words `wrap` stands in its place. */
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Node } from 'jsonc-parser';
import { stringAt, valueAt } from './config-file.ts';
import { urlKeys } from './find.ts';

/** How this program is started from anywhere: a client knows neither our PATH nor our folder. */
export interface Program {
  /** The absolute path of Node. */
  readonly node: string;
  /** The absolute path of `bin/rotate.js`. */
  readonly script: string;
  /** What finds the deployment where it is not in the usual place: `--state DIR`. */
  readonly options: readonly string[];
}

export interface LaunchSurroundings {
  /** PATH as the client's shell would have it. */
  readonly searchPath: string;
}

/** Where the entry's program is, as far as it can be told now. */
export interface FoundCommand {
  readonly command: string;
  /** Why it stays as it was written; null where it is absolute. */
  readonly warning: string | null;
}

export function commandOf(entry: Node): string | undefined {
  return stringAt(entry, 'command');
}

/** undefined where one of them is no string. */
export function argumentsOf(entry: Node): readonly string[] | undefined {
  const node = valueAt(entry, 'args');
  if (node === undefined) return [];
  if (node.type !== 'array') return undefined;
  const words = node.children ?? [];
  return words.every((word) => word.type === 'string')
    ? words.map((word) => String(word.value))
    : undefined;
}

export function urlOf(entry: Node): string | undefined {
  return urlKeys.map((key) => stringAt(entry, key)).find((url) => url !== undefined);
}

/** The folder it is started in. */
export function folderOf(entry: Node, directory: string): string {
  const cwd = stringAt(entry, 'cwd');
  return cwd === undefined || hasVariable(cwd) ? directory : path.resolve(directory, cwd);
}

/** The client fills it in before it starts anything: what stands there then is unknown here. */
export function hasVariable(text: string): boolean {
  return /\$\{|^\$[A-Za-z_]|%[A-Za-z_]\w*%/.test(text);
}

export function isContainer(command: string, args: readonly string[]): boolean {
  const name = path.basename(command).replace(/\.exe$/, '');
  return ['docker', 'podman', 'nerdctl', 'finch'].includes(name) && args.includes('run');
}

/** An entry that runs under `rotate wrap` already: what its words say. */
export interface Wrapped {
  readonly name: string;
  /** What stands behind `--`; null for a remote server. */
  readonly words: readonly string[] | null;
  readonly url: string | null;
}

/** null where it does not. */
export function wrappedBy(entry: Node): Wrapped | null {
  const all = [commandOf(entry) ?? '', ...(argumentsOf(entry) ?? [])];
  const at = all.findIndex(
    (word, index) =>
      index < 2 && /^rotated?(\.js)?$/.test(path.basename(word)) && all[index + 1] === 'wrap',
  );
  if (at === -1) return null;
  const sign = all.indexOf('--', at);
  const options = all.slice(at + 2, sign === -1 ? all.length : sign);
  const after = (option: string) => {
    const index = options.indexOf(option);
    return index === -1 ? null : (options[index + 1] ?? null);
  };
  const words = sign === -1 ? null : all.slice(sign + 1);
  const url = after('--url');
  const name = after('--server') ?? path.basename(words?.[0] ?? '');
  return name === '' ? null : { name, words, url };
}

/**
 * A client started from a desktop has another PATH than a shell: without nvm's folder it finds no `npx`. So the entry
 * names the file that is found now.
 */
export function findCommand(
  command: string,
  folder: string,
  { searchPath }: LaunchSurroundings,
): FoundCommand {
  if (hasVariable(command)) {
    return { command, warning: `The client fills in ${command}: it stays as it is.` };
  }
  if (path.isAbsolute(command)) return { command, warning: null };
  const folders = command.includes('/')
    ? [folder]
    : searchPath.split(path.delimiter).filter((one) => path.isAbsolute(one));
  for (const one of folders) {
    const file = path.join(one, command);
    if (isProgram(file)) return { command: lasting(file), warning: null };
  }
  return {
    command,
    // The first word alone: what follows may be anything.
    warning: `${command.split(/\s/)[0]} is not found ${command.includes('/') ? `in ${folder}` : 'on this PATH'}: the entry names it as it was written.`,
  };
}

/** fnm gives each shell a folder of links that goes with the shell: what it points to stays. */
function lasting(file: string): string {
  const folder = path.dirname(file);
  if (!folder.includes('fnm_multishells')) return file;
  return path.join(realpathSync(folder), path.basename(file));
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
