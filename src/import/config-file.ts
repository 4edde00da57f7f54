/** What a client's config file is, told by its content: which client, and where in it servers are described. */
import path from 'node:path';
import { type Node, type ParseError, parseTree, printParseErrorCode } from 'jsonc-parser';
import { RotatedError } from '../errors.ts';

export type Client =
  | 'Claude Code'
  | 'Claude Desktop'
  | 'Cursor'
  | 'VS Code'
  | 'Windsurf'
  | 'unknown client';

/** One entry of a config, as it stands in the text. */
export interface ServerNode {
  /** As the client calls it. */
  readonly label: string;
  /** Where in the file: `mcpServers.github`, or `projects./home/anna/shop.mcpServers.github`. */
  readonly path: readonly string[];
  readonly node: Node;
  /** The folder the client starts it in, as far as the file tells. */
  readonly directory: string;
}

export interface ConfigFile {
  /** As it was named. */
  readonly file: string;
  /** Without a byte order mark; all offsets count in it. */
  readonly text: string;
  /** What stood before the text: a byte order mark, or nothing. */
  readonly mark: string;
  readonly root: Node;
  readonly client: Client;
  readonly servers: readonly ServerNode[];
}

export interface ConfigSource {
  /** As it was named, absolute. */
  readonly file: string;
  readonly bytes: Uint8Array;
  /** Where a server without a folder of its own is started: the person's home. */
  readonly home: string;
}

/** More than any client writes: Claude Code keeps its history in the same file. */
export const configBytesMax = 64 * 1024 * 1024;
const byteOrderMark = '\ufeff';

/** Throws `unsupported` for other formats, `refused` where the file cannot be read as JSON or holds no servers. */
export function readConfig({ file, bytes, home }: ConfigSource): ConfigFile {
  const decoded = decode(file, bytes);
  const mark = decoded.startsWith(byteOrderMark) ? byteOrderMark : '';
  const text = decoded.slice(mark.length);
  refuseOtherFormats(file, text);
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true });
  const [error] = errors;
  if (error !== undefined || root === undefined) throw notJson(file, text, error);
  const found = serverMaps(root, file, home);
  if (found.length === 0) {
    throw new RotatedError('refused', `${file} describes no MCP servers.`, {
      next: 'Name a config that holds mcpServers (or servers, in VS Code).',
    });
  }
  refuseTwins(file, text, root);
  const servers = found.flatMap(({ node, at, directory }) =>
    propertiesOf(node).map(({ key, value }) => ({
      label: key,
      path: [...at, key],
      node: value,
      directory,
    })),
  );
  return { file, text, mark, root, client: clientOf(file, root, servers), servers };
}

export interface Property {
  readonly key: string;
  readonly keyNode: Node;
  readonly value: Node;
  /** Key, colon and value. */
  readonly node: Node;
}

/** In the order of the text; none where it is no object. */
export function propertiesOf(node: Node | undefined): readonly Property[] {
  if (node?.type !== 'object') return [];
  return (node.children ?? []).flatMap((property) => {
    const [keyNode, value] = property.children ?? [];
    if (keyNode === undefined || value === undefined) return [];
    return [{ key: String(keyNode.value), keyNode, value, node: property }];
  });
}

export function propertyOf(node: Node | undefined, key: string): Property | undefined {
  return propertiesOf(node).find((property) => property.key === key);
}

export function valueAt(node: Node | undefined, ...keys: readonly string[]): Node | undefined {
  return keys.reduce<Node | undefined>((at, key) => propertyOf(at, key)?.value, node);
}

export function stringAt(node: Node | undefined, key: string): string | undefined {
  const value = valueAt(node, key);
  return value?.type === 'string' ? String(value.value) : undefined;
}

/** Line and column, both from 1. */
export function placeOf(text: string, offset: number): string {
  const before = text.slice(0, offset).split('\n');
  return `${before.length}:${(before.at(-1)?.length ?? 0) + 1}`;
}

interface ServerMap {
  readonly node: Node;
  readonly at: readonly string[];
  readonly directory: string;
}

function serverMaps(root: Node, file: string, home: string): readonly ServerMap[] {
  const own = projectFolderOf(file) ?? home;
  const plain = [['mcpServers'], ['servers'], ['mcp', 'servers'], ['mcp', 'mcpServers']];
  const maps: ServerMap[] = [];
  for (const at of plain) {
    const node = valueAt(root, ...at);
    if (isServerMap(node, at)) maps.push({ node, at, directory: own });
  }
  // Claude Code keeps the servers of each project in the file of the account.
  for (const { key, value } of propertiesOf(valueAt(root, 'projects'))) {
    const at = ['projects', key, 'mcpServers'];
    const node = valueAt(value, 'mcpServers');
    if (isServerMap(node, at)) maps.push({ node, at, directory: path.resolve(home, key) });
  }
  return maps;
}

/** `servers` is a common word: what stands under it must look like servers of this kind. */
function isServerMap(node: Node | undefined, at: readonly string[]): node is Node {
  if (node?.type !== 'object') return false;
  if (at.at(-1) === 'mcpServers') return true;
  const entries = propertiesOf(node);
  return (
    entries.length > 0 &&
    entries.every(({ value }) =>
      ['command', 'url', 'type'].some((key) => stringAt(value, key) !== undefined),
    )
  );
}

/** `.mcp.json`, `.vscode/mcp.json` and `.cursor/mcp.json` belong to the project they lie in. */
function projectFolderOf(file: string): string | null {
  const folder = path.dirname(file);
  const base = path.basename(file);
  if (base === '.mcp.json') return folder;
  const isEditor = ['.vscode', '.cursor'].includes(path.basename(folder));
  return isEditor && base === 'mcp.json' ? path.dirname(folder) : null;
}

function clientOf(file: string, root: Node, servers: readonly ServerNode[]): Client {
  const base = path.basename(file);
  const folder = path.basename(path.dirname(file));
  const has = (...keys: readonly string[]) => keys.some((key) => propertyOf(root, key));
  if (has('servers', 'inputs', 'mcp')) return 'VS Code';
  if (servers.some(({ node }) => stringAt(node, 'serverUrl') !== undefined)) return 'Windsurf';
  if (has('projects', 'numStartups') || base === '.mcp.json' || base === '.claude.json') {
    return 'Claude Code';
  }
  if (has('globalShortcut', 'preferences') || base === 'claude_desktop_config.json') {
    return 'Claude Desktop';
  }
  if (folder === '.cursor' || base === 'mcp.json') return 'Cursor';
  return base === 'mcp_config.json' ? 'Windsurf' : 'unknown client';
}

function decode(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new RotatedError('refused', `${file} is not UTF-8.`, {
      next: 'Save it as UTF-8, then run this again.',
    });
  }
}

/** Codex keeps its servers in TOML, Goose in YAML. */
function refuseOtherFormats(file: string, text: string): void {
  const extension = path.extname(file).toLowerCase();
  const isToml = extension === '.toml' || /^\s*\[\[?[\w."-]+\]\]?\s*$/m.test(text.slice(0, 65_536));
  const isJson = /^\s*(?:\/[/*]|\{)/.test(text);
  if (isJson && extension !== '.toml') return;
  const isYaml = /^\.ya?ml$/.test(extension) || /^[\w-]+:\s*$/m.test(text.slice(0, 65_536));
  if (!isToml && !isYaml) return;
  throw new RotatedError(
    'unsupported',
    `${file} is ${isToml ? 'TOML (Codex)' : 'YAML (Goose)'}: this version imports JSON configs only; that format comes later.`,
    { next: 'Move its keys by hand: docs/import.md shows what an entry looks like afterwards.' },
  );
}

/** Never repeats the text: it holds keys. */
function notJson(file: string, text: string, error: ParseError | undefined): RotatedError {
  const where = error === undefined ? '' : `:${placeOf(text, error.offset)}`;
  const what = error === undefined ? 'it is empty' : printParseErrorCode(error.error);
  return new RotatedError('refused', `${file}${where} cannot be read as JSON: ${what}.`, {
    next: 'Mend the file, then run this again.',
  });
}

/** Clients take the last of two keys of one name, some the first: whichever is edited, the other may be the one in use. */
function refuseTwins(file: string, text: string, root: Node): void {
  const relevant = ['mcpServers', 'servers', 'mcp', 'projects'];
  const visit = (node: Node, isInside: boolean) => {
    if (node.type === 'array') for (const child of node.children ?? []) visit(child, isInside);
    const seen = new Set<string>();
    for (const { key, keyNode, value } of propertiesOf(node)) {
      const counts = isInside || relevant.includes(key);
      if (counts && seen.has(key)) {
        throw new RotatedError(
          'refused',
          `${file}:${placeOf(text, keyNode.offset)} has the key ${JSON.stringify(key)} for the second time.`,
          { next: 'Remove one of the two, then run this again.' },
        );
      }
      seen.add(key);
      if (counts) visit(value, true);
    }
  };
  visit(root, false);
}
