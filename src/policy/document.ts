/** The text of a policy file as YAML: the value, and at which line and column each part of it stands. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml';
import type { Document, Node, Pair, YAMLError, YAMLMap } from 'yaml';

export type Path = readonly (string | number)[];

export interface Place {
  readonly line: number;
  readonly column: number;
}

/** A mistake that the YAML itself has. The message never repeats text of the file: it may be a secret. */
export interface SyntaxMistake extends Place {
  readonly code: string;
  readonly message: string;
  readonly example: string | null;
}

export interface PolicyDocument {
  readonly value: unknown;
  /** Where the value at `path` stands, or its key; where there is none, the nearest thing above it. */
  place(path: Path, what?: 'key' | 'value'): Place;
}

/** Aliases may repeat a part here and there; beyond that a file of a kilobyte could unfold to gigabytes. */
const aliasMax = 100;
/** Nested deeper than any policy, and far from where recursion would end the process. */
const depthMax = 32;
/** A thousand policies of ten lines each are well below it. */
export const policyFileBytesMax = 8 * 1024 * 1024;

export function readDocument(text: string): {
  readonly document: PolicyDocument | null;
  readonly mistakes: readonly SyntaxMistake[];
} {
  const early = unreadable(text);
  if (early !== null) return { document: null, mistakes: [early] };
  const lines = new LineCounter();
  let document: Document;
  try {
    document = parseDocument(text, {
      lineCounter: lines,
      // Its pretty messages quote the source.
      prettyErrors: false,
      stringKeys: true,
      // No !!binary, !!set and the like: a policy is plain JSON.
      resolveKnownTags: false,
      logLevel: 'error',
    });
  } catch {
    // Only from nesting so deep that the parser's recursion ends.
    return { document: null, mistakes: [{ ...tooDeep, line: 1, column: 1 }] };
  }
  const at = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const found = [...document.errors, ...document.warnings];
  // One mistake can confuse the parser twice at the same place.
  const firsts = [
    ...new Map(found.toReversed().map((error) => [error.pos[0], error])).values(),
  ].toReversed();
  const mistakes = firsts.map((error) => ({
    ...describe(error, text, document, at),
    ...at(startOf(error, document)),
  }));
  if (document.directives?.yaml.explicit === true && document.directives.yaml.version !== '1.2') {
    mistakes.push({
      code: 'yaml-syntax',
      message: 'Policies are YAML 1.2: leave the %YAML line out.',
      example: null,
      line: 1,
      column: 1,
    });
  }
  const limit = beyondLimits(document);
  if (limit !== null && !found.some(({ pos }) => pos[0] === limit.offset)) {
    mistakes.push({ ...limit.mistake, ...at(limit.offset) });
  }
  if (mistakes.some(({ code }) => code !== 'duplicate-key')) return { document: null, mistakes };
  const index: PairIndex = new WeakMap();
  // Counted above, more strictly than the parser counts.
  const value: unknown = document.toJS({ maxAliasCount: -1 });
  return {
    document: { value, place: (path, what = 'value') => at(offsetOf(document, index, path, what)) },
    mistakes,
  };
}

const indented = 'secrets:\n  reports-db:\n    every: 30d';

const tooDeep = {
  code: 'too-deep',
  message: `Nested deeper than ${depthMax} levels.`,
  example: null,
};

/** What makes a text no YAML before it is parsed. */
function unreadable(text: string): SyntaxMistake | null {
  const start = { line: 1, column: 1, example: null };
  if (text.charCodeAt(0) === 0xfeff) {
    return {
      ...start,
      code: 'encoding',
      message: 'The file begins with a byte-order mark: save it as UTF-8 without one.',
    };
  }
  const control = /[^\P{Cc}\t\r\n]/u.exec(text);
  if (control !== null) {
    const before = text.slice(0, control.index);
    return {
      line: before.split('\n').length,
      column: control.index - before.lastIndexOf('\n'),
      code: 'encoding',
      message: 'The file holds a control character: it is not a text file, or not UTF-8.',
      example: null,
    };
  }
  if (text.trim() === '') {
    return {
      ...start,
      code: 'empty',
      message: 'The file is empty: it needs the key secrets or notifiers.',
      example:
        'secrets: { reports-db: { provider: { use: generated, kind: random }, backend: local://mcp/reports-db, every: 30d } }',
    };
  }
  return null;
}

/** One sentence for each kind of mistake the parser finds; its own sentences may quote the file. */
function describe(
  error: YAMLError,
  text: string,
  document: Document,
  at: (offset: number) => Place,
): Omit<SyntaxMistake, keyof Place> {
  const syntax = (message: string, example: string | null = null) => ({
    code: 'yaml-syntax',
    message,
    example,
  });
  // The tab that makes trouble may be reported as any token that does not fit.
  const lineStart = text.lastIndexOf('\n', error.pos[0] - 1) + 1;
  const tabbed = /^ *\t/.test(
    text.slice(lineStart, text.indexOf('\n', error.pos[0]) + 1 || undefined),
  );
  if (error.code === 'TAB_AS_INDENT' || (tabbed && error.code !== 'DUPLICATE_KEY')) {
    return {
      code: 'tab',
      message: 'A tab is used for indentation: YAML wants blanks.',
      example: indented,
    };
  }
  switch (error.code) {
    case 'DUPLICATE_KEY':
      return {
        code: 'duplicate-key',
        message: `This key stands twice in one map${firstOf(document, error.pos[0], at)}.`,
        example: null,
      };
    case 'BAD_ALIAS':
    case 'ALIAS_PROPS':
    case 'MULTIPLE_ANCHORS':
      return badAlias;
    case 'TAG_RESOLVE_FAILED':
    case 'MULTIPLE_TAGS':
    case 'BAD_COLLECTION_TYPE':
      return syntax(
        'A word that starts with "!" is a tag, and policies have none: put plain text in quotes.',
        'reason: "!important"',
      );
    case 'MULTIPLE_DOCS':
      return syntax(
        'One file is one document: the second one begins here. Move it to a file of its own.',
      );
    case 'NON_STRING_KEY':
      return syntax('A key is a plain word.');
    case 'BAD_INDENT':
      return syntax('The indentation does not fit the lines above.', indented);
    case 'BAD_DIRECTIVE':
      return syntax('A line that starts with "%" is a directive, and policies have none.');
    case 'BAD_SCALAR_START':
      return syntax(
        'Plain text cannot start with this character: put it in quotes.',
        'cron: "@ 3 * * 0"',
      );
    case 'BAD_DQ_ESCAPE':
      return syntax(
        'In double quotes a backslash starts an escape: use single quotes.',
        "match: ['C:\\reports']",
      );
    case 'MISSING_CHAR':
      return syntax(
        'A closing quote, bracket, brace or comma is missing.',
        'tags: [mcp, database]',
      );
    case 'RESOURCE_EXHAUSTION':
      return tooDeep;
    case 'BLOCK_AS_IMPLICIT_KEY':
    case 'MULTILINE_IMPLICIT_KEY':
    case 'KEY_OVER_1024_CHARS':
      return syntax(
        'A key and its colon stand on one line; a value with ": " in it stands in quotes.',
        'reason: "freeze: holidays"',
      );
    case 'BLOCK_IN_FLOW':
    case 'BAD_PROP_ORDER':
    case 'IMPOSSIBLE':
    case 'UNEXPECTED_TOKEN':
      return syntax(
        'This is not valid YAML here: look for a missing quote, colon or blank.',
        'grace: 24h',
      );
    default:
      return error.code satisfies never;
  }
}

/** Where what is not closed begins: the parser reports the place at which it gave up, often the end of the file. */
function startOf(error: YAMLError, document: Document): number {
  const end = error.pos[0];
  if (error.code !== 'MISSING_CHAR') return end;
  let flow: number | null = null;
  let quoted: number | null = null;
  visit(document, (_, node) => {
    const range = (node as Node | null)?.range;
    if (range === null || range === undefined || range[1] < end) return;
    const isQuoted =
      isScalar(node) && (node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE');
    if (isQuoted) quoted = range[0];
    else if ((isMap(node) || isSeq(node)) && node.flow === true) flow = range[0];
  });
  return quoted ?? flow ?? end;
}

const badAlias = {
  code: 'yaml-syntax',
  message:
    'A word that starts with "*" or "&" is an alias or anchor, and this one names nothing: put plain text in quotes.',
  example: 'command: ["./list", "*.log"]',
};

/** Where a key that stands twice stands first, for the end of a sentence. */
function firstOf(document: Document, offset: number, at: (offset: number) => Place): string {
  let text = '';
  visit(document, {
    Map(_, { items }) {
      const again = items.find(({ key }) => rangeStart(key) === offset);
      const first = items.find(
        ({ key }) => isScalar(key) && isScalar(again?.key) && key.value === again.key.value,
      );
      const start = rangeStart(first?.key);
      if (again === undefined || start === null) return undefined;
      const { line, column } = at(start);
      text = `: the first time in line ${line}, column ${column}`;
      return visit.BREAK;
    },
  });
  return text;
}

/** Depth, aliases and keys that would make the value something else than a tree of plain data. */
function beyondLimits(
  document: Document,
): { readonly mistake: Omit<SyntaxMistake, keyof Place>; readonly offset: number } | null {
  const limit = { aliases: 0 };
  const anchors = new Set<string>();
  const anchored = new Set<string>();
  const look = (node: unknown, depth: number): ReturnType<typeof beyondLimits> => {
    const offset = (node as Node | null)?.range?.[0] ?? 0;
    if (depth > depthMax) return { mistake: tooDeep, offset };
    if (isAlias(node)) {
      limit.aliases++;
      // An alias to a part with aliases multiplies: only flat ones are taken, so nothing unfolds twice.
      if (limit.aliases > aliasMax || !anchored.has(node.source)) {
        const message = `At most ${aliasMax} aliases, and none to a part that itself holds an alias: write it out.`;
        const isKnown = anchors.has(node.source);
        return { mistake: isKnown ? { code: 'alias', message, example: null } : badAlias, offset };
      }
      return null;
    }
    const before = limit.aliases;
    const parts = isMap(node)
      ? node.items.map((pair) => pair.value)
      : isSeq(node)
        ? node.items
        : [];
    if (isMap(node)) {
      const odd = node.items.find(({ key }) => isScalar(key) && key.value === '__proto__');
      if (odd !== undefined) {
        const message = 'This key is not allowed.';
        return {
          mistake: { code: 'unknown-key', message, example: null },
          offset: (odd.key as Node).range?.[0] ?? offset,
        };
      }
    }
    for (const part of parts) {
      const found = look(part, depth + 1);
      if (found !== null) return found;
    }
    const anchor = (node as { anchor?: string } | null)?.anchor;
    if (anchor !== undefined) {
      anchors.add(anchor);
      if (limit.aliases === before) anchored.add(anchor);
      else anchored.delete(anchor);
    }
    return null;
  };
  return look(document.contents, 0);
}

/** Keys of maps that were asked for before: a file may hold thousands of secrets, and each is placed. */
type PairIndex = WeakMap<YAMLMap, ReadonlyMap<unknown, Pair>>;

function offsetOf(document: Document, index: PairIndex, path: Path, what: 'key' | 'value'): number {
  let node: unknown = document.contents;
  let offset = rangeStart(node) ?? 0;
  for (const [depth, part] of path.entries()) {
    const isLast = depth === path.length - 1;
    if (isMap(node)) {
      const pair = pairOf(node, part, index);
      if (pair === undefined) return offset;
      const keyOffset = rangeStart(pair.key) ?? offset;
      const isEmpty = isScalar(pair.value) && pair.value.value === null && pair.value.source === '';
      // A map that begins on the next line is best shown at its key.
      const isBlock = (isMap(pair.value) || isSeq(pair.value)) && pair.value.flow !== true;
      const asKey = (isLast && (what === 'key' || isBlock)) || isEmpty || pair.value === null;
      offset = asKey ? keyOffset : (rangeStart(pair.value) ?? keyOffset);
      if (!isLast && isBlock) offset = keyOffset;
      node = pair.value;
    } else if (isSeq(node) && typeof part === 'number') {
      node = node.items[part];
      offset = rangeStart(node) ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

/** The last one of a key that stands twice, as in the value. */
function pairOf(map: YAMLMap, key: string | number, index: PairIndex): Pair | undefined {
  let pairs = index.get(map);
  if (pairs === undefined) {
    pairs = new Map(
      map.items.flatMap((pair) => (isScalar(pair.key) ? [[pair.key.value, pair]] : [])),
    );
    index.set(map, pairs);
  }
  return pairs.get(key);
}

function rangeStart(node: unknown): number | null {
  return (node as Node | null | undefined)?.range?.[0] ?? null;
}
