/** How an entry's text changes so that `wrap` stands where the command was, and references where the keys were. */
import { createScanner, type Node } from 'jsonc-parser';
import { entryHash, environmentOf, type Launch, referencesOf } from '../gate/entry.ts';
import {
  propertiesOf,
  type Property,
  propertyOf,
  type ServerNode,
  stringAt,
  valueAt,
} from './config-file.ts';
import { urlKeys } from './find.ts';
import {
  commandOf,
  findCommand,
  folderOf,
  hasVariable,
  type LaunchSurroundings,
  type Program,
  urlOf,
  type Wrapped,
  wrappedBy,
} from './launch.ts';
import type { FoundKey, Spot } from './model.ts';

export interface Edit {
  readonly offset: number;
  readonly length: number;
  readonly content: string;
}

export interface RewriteOptions extends LaunchSurroundings {
  readonly program: Program;
  /** The server's name for the gate. */
  readonly name: string;
  readonly spots: readonly Spot[];
  /** `local://mcp/github#GITHUB_TOKEN` */
  readonly referenceOf: (key: FoundKey) => string;
}

export interface Rewrite {
  readonly edits: readonly Edit[];
  readonly warnings: readonly string[];
  /** What the gate will be asked for; null where the client fills parts of it in, so that it cannot be known. */
  readonly grant: {
    readonly hash: string;
    /** The program or address, without arguments. */
    readonly program: string;
    readonly references: readonly string[];
  } | null;
  /** What stands behind `--`; null for a remote server. */
  readonly command: readonly string[] | null;
}

export function rewrite(text: string, server: ServerNode, options: RewriteOptions): Rewrite {
  const before = wrappedBy(server.node);
  if (before !== null) return rewriteWrapped(server, before, options);
  return urlOf(server.node) === undefined
    ? rewriteProcess(text, server, options)
    : rewriteRemote(text, server, options);
}

function rewriteProcess(text: string, server: ServerNode, options: RewriteOptions): Rewrite {
  const { node } = server;
  const folder = folderOf(node, server.directory);
  // What the entry says of PATH holds for finding its command, too.
  const searchPath = stringAt(valueAt(node, 'env'), 'PATH') ?? options.searchPath;
  const found = findCommand(commandOf(node) ?? '', folder, { searchPath });
  const head = [...wrapWords(options), '--', found.command];
  const command = propertyOf(node, 'command') as Property;
  const edits: Edit[] = [replaced(command.value, options.program.node)];
  const args = valueAt(node, 'args');
  edits.push(
    args === undefined
      ? insertedAfter(text, command, `"args": ${arrayText(head)}`)
      : prepended(text, args, head),
  );
  const own = filledIn(node, options);
  edits.push(...own.edits);
  const words = (args?.children ?? []).map((word) => own.filled.get(word) ?? String(word.value));
  const launch: Launch = {
    kind: 'process',
    command: found.command,
    args: words,
    cwd: folder,
    env: own.env,
    files: [],
  };
  const warnings = found.warning === null ? [] : [found.warning];
  warnings.push(...argumentWarnings(options.spots));
  if (propertyOf(node, 'envFile') !== undefined) {
    warnings.push('Its envFile was not looked at: keys in that file stay there.');
  }
  return {
    edits,
    command: [found.command, ...words],
    ...granted(options.name, launch, [found.command, ...words], warnings),
  };
}

interface FilledIn {
  readonly edits: readonly Edit[];
  /** What the entry's environment becomes. */
  readonly env: Readonly<Record<string, string>>;
  /** Every string that changes and stays where it is. */
  readonly filled: ReadonlyMap<Node, string>;
}

/** References where the keys stood. */
function filledIn(node: Node, { spots, referenceOf }: RewriteOptions): FilledIn {
  const env: Record<string, string> = {};
  for (const { key, value } of propertiesOf(valueAt(node, 'env'))) {
    if (value.type === 'string') env[key] = String(value.value);
  }
  const edits: Edit[] = [];
  const filled = new Map<Node, string>();
  for (const spot of spots) {
    const [first] = spot.keys;
    if (first !== undefined && spot.where === 'environment' && isWhole(spot) && spot.keyNode) {
      const reference = referenceOf(first);
      edits.push(replaced(spot.keyNode, `${spot.name}_REF`), replaced(spot.node, reference));
      delete env[spot.name];
      env[`${spot.name}_REF`] = reference;
      continue;
    }
    const text = withReferences(spot, referenceOf);
    edits.push(replaced(spot.node, text));
    filled.set(spot.node, text);
    if (spot.where === 'environment') env[spot.name] = text;
  }
  return { edits, env: environmentOf(env), filled };
}

function argumentWarnings(spots: readonly Spot[]): readonly string[] {
  return spots.some(({ where }) => where === 'argument')
    ? [
        'Its key is handed over in an argument, where other accounts of this machine can read it while it runs.',
      ]
    : [];
}

/** A key that came after the import: its place changes, and nothing else. */
function rewriteWrapped(server: ServerNode, wrapped: Wrapped, options: RewriteOptions): Rewrite {
  const { node } = server;
  const { edits, env, filled } = filledIn(node, options);
  const args = (valueAt(node, 'args')?.children ?? []).map(
    (word) => filled.get(word) ?? String(word.value),
  );
  const warnings = argumentWarnings(options.spots);
  if (wrapped.words === null) {
    const at = args.indexOf('--url');
    const url = at === -1 ? (wrapped.url ?? '') : (args[at + 1] ?? '');
    const headers = Object.fromEntries(
      args.flatMap((word, index) => {
        const pair = word === '--header' ? (args[index + 1] ?? '') : '';
        const sign = pair.indexOf('=');
        return sign < 1 ? [] : [[pair.slice(0, sign), pair.slice(sign + 1)]];
      }),
    );
    const launch: Launch = { kind: 'remote', url, headers };
    return { edits, command: null, ...granted(options.name, launch, [url], warnings) };
  }
  const words = args.slice(args.indexOf('--') + 1);
  const [command = '', ...rest] = words;
  const cwd = folderOf(node, server.directory);
  const launch: Launch = { kind: 'process', command, args: rest, cwd, env, files: [] };
  return { edits, command: words, ...granted(options.name, launch, words, warnings) };
}

function rewriteRemote(text: string, server: ServerNode, options: RewriteOptions): Rewrite {
  const { node } = server;
  const filledOf = (value: Node) => {
    const spot = options.spots.find((one) => one.node === value);
    return spot === undefined ? String(value.value) : withReferences(spot, options.referenceOf);
  };
  const urlProperty = urlKeys
    .map((key) => propertyOf(node, key))
    .find((property) => property !== undefined) as Property;
  const url = filledOf(urlProperty.value);
  const headers: Record<string, string> = {};
  for (const { key, value } of propertiesOf(valueAt(node, 'headers')))
    headers[key] = filledOf(value);
  const words = [
    ...wrapWords(options),
    '--url',
    url,
    ...Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}=${value}`]),
  ];
  const separator = separatorBefore(text, urlProperty.node);
  const edits: Edit[] = [
    {
      ...rangeOf(urlProperty.node),
      content: `"command": ${JSON.stringify(options.program.node)},${separator}"args": ${arrayText(words)}`,
    },
  ];
  const gone = propertyOf(node, 'headers');
  if (gone !== undefined) edits.push(...removed(text, node, gone));
  for (const key of ['type', 'transport']) {
    const type = propertyOf(node, key);
    if (type !== undefined) edits.push(replaced(type.value, 'stdio'));
  }
  const warnings: string[] = [];
  const launch: Launch = { kind: 'remote', url, headers };
  return { edits, command: null, ...granted(options.name, launch, [url], warnings) };
}

function wrapWords({ program, name }: RewriteOptions): readonly string[] {
  return [program.script, 'wrap', '--server', name, ...program.options];
}

function granted(
  name: string,
  launch: Launch,
  words: readonly string[],
  warnings: readonly string[],
): Pick<Rewrite, 'grant' | 'warnings'> {
  if (words.some(hasVariable)) {
    const warning = `The client fills in parts of its command, so the grant cannot be written now: rotate allow ${name}, once it was started.`;
    return { grant: null, warnings: [...warnings, warning] };
  }
  const entry = { name, launch };
  const program = (words[0] ?? '').replace(/[?#].*$/s, '');
  const grant = { hash: entryHash(entry), program, references: referencesOf(entry) };
  return { grant, warnings };
}

function isWhole({ text, keys }: Spot): boolean {
  const [first] = keys;
  if (first === undefined || keys.length > 1 || first.url) return false;
  return text.slice(0, first.start).trim() === '' && text.slice(first.end).trim() === '';
}

function withReferences({ text, keys }: Spot, referenceOf: (key: FoundKey) => string): string {
  let filled = '';
  let at = 0;
  for (const key of [...keys].sort((a, b) => a.start - b.start)) {
    filled += `${text.slice(at, key.start)}{{${referenceOf(key)}${key.url ? '|url' : ''}}}`;
    at = key.end;
  }
  return filled + text.slice(at);
}

export function applyEdits(text: string, edits: readonly Edit[]): string {
  return inOrder(edits).reduceRight(
    (changed, { offset, length, content }) =>
      changed.slice(0, offset) + content + changed.slice(offset + length),
    text,
  );
}

export function inOrder(edits: readonly Edit[]): readonly Edit[] {
  return [...edits].sort((a, b) => a.offset - b.offset);
}

function rangeOf({ offset, length }: Node) {
  return { offset, length };
}

function replaced(node: Node, value: string): Edit {
  return { ...rangeOf(node), content: JSON.stringify(value) };
}

function arrayText(words: readonly string[]): string {
  return `[${words.map((word) => JSON.stringify(word)).join(', ')}]`;
}

/** Before what stands in an array, each on a line of its own where the others are. */
function prepended(text: string, array: Node, words: readonly string[]): Edit {
  const quoted = words.map((word) => JSON.stringify(word));
  const [first] = array.children ?? [];
  if (first === undefined) {
    return { offset: array.offset + 1, length: 0, content: quoted.join(', ') };
  }
  const separator = separatorBefore(text, first);
  return {
    offset: first.offset,
    length: 0,
    content: quoted.map((word) => `${word},${separator}`).join(''),
  };
}

function insertedAfter(text: string, { node }: Property, content: string): Edit {
  return {
    offset: node.offset + node.length,
    length: 0,
    content: `,${separatorBefore(text, node)}${content}`,
  };
}

/** What parts this node from the next like it: a line end and its indent where it begins a line, else a blank. */
function separatorBefore(text: string, { offset }: Node): string {
  const lineStart = text.lastIndexOf('\n', offset - 1) + 1;
  const before = text.slice(lineStart, offset);
  if (lineStart === 0 || before.trim() !== '') return ' ';
  return `${text[lineStart - 2] === '\r' ? '\r\n' : '\n'}${before}`;
}

/** A property with its comma, and its lines where nothing else stands on them. Comments beside it stay. */
function removed(text: string, object: Node, { node }: Property): readonly Edit[] {
  const siblings = object.children ?? [];
  const index = siblings.indexOf(node);
  const comma = commaAfter(text, node.offset + node.length);
  const edits: Edit[] = [];
  if (comma === null) {
    const previous = siblings[index - 1];
    const before =
      previous === undefined ? null : commaAfter(text, previous.offset + previous.length);
    if (before !== null) edits.push({ offset: before, length: 1, content: '' });
  }
  let start = node.offset;
  let end = comma === null ? node.offset + node.length : comma + 1;
  const lineStart = text.lastIndexOf('\n', start - 1) + 1;
  const restOfLine = /[^\n]*(?:\n|$)/y;
  restOfLine.lastIndex = end;
  const rest = restOfLine.exec(text)?.[0] ?? '';
  if (text.slice(lineStart, start).trim() === '' && rest.trim() === '' && rest.endsWith('\n')) {
    start = lineStart;
    end += rest.length;
  } else {
    while (text[end] === ' ') end += 1;
  }
  edits.push({ offset: start, length: end - start, content: '' });
  return edits;
}

/** SyntaxKind of jsonc-parser: its enum cannot be imported under our compiler's settings. */
const commaToken = 5;

/** The offset of the comma that follows, comments in between skipped; null where none does. */
function commaAfter(text: string, offset: number): number | null {
  const scanner = createScanner(text, true);
  scanner.setPosition(offset);
  return (scanner.scan() as number) === commaToken ? scanner.getTokenOffset() : null;
}
