/** A config's text with every value that could be a key blotted out, line for line, so that it can be shown. */
import { type Node, parseTree, visit as visitText } from 'jsonc-parser';
import { propertiesOf } from './config-file.ts';
import { canBeSecret, hasKeyForm, looksRandom, nameSays } from './shapes.ts';
import { keysIn } from './strings.ts';
import { indirectionOf } from './variables.ts';

const blot = '•••';

interface Range {
  readonly offset: number;
  readonly length: number;
  readonly content: string;
}

/** A part of a text that will be shown. */
export interface Window {
  readonly from: number;
  readonly to: number;
}

/**
 * More is blotted than is moved: what is left alone may be a key as well, and a comment may hold an old one. Only what
 * lies in one of the windows is looked at: the rest is not to be shown.
 */
export function masked(text: string, windows: readonly Window[]): string {
  const isShown = ({ offset, length }: { readonly offset: number; readonly length: number }) =>
    windows.some(({ from, to }) => offset < to && offset + length > from);
  const ranges: Range[] = [];
  const root = parseTree(text, [], { allowTrailingComma: true });
  if (root !== undefined) visit(root, '', ranges, isShown);
  ranges.push(...comments(text, isShown));
  ranges.sort((a, b) => a.offset - b.offset);
  let shown = '';
  let at = 0;
  for (const { offset, length, content } of ranges) {
    shown += text.slice(at, offset) + content;
    at = offset + length;
  }
  return shown + text.slice(at);
}

type IsShown = (range: { readonly offset: number; readonly length: number }) => boolean;

function visit(node: Node, name: string, ranges: Range[], isShown: IsShown): void {
  if (!isShown(node)) return;
  if (node.type === 'string') {
    const shown = maskedString(String(node.value), name);
    if (shown !== null)
      ranges.push({ offset: node.offset, length: node.length, content: JSON.stringify(shown) });
    return;
  }
  if (node.type === 'number' && nameSays(name) === 'secret') {
    ranges.push({ offset: node.offset, length: node.length, content: blot });
    return;
  }
  for (const { key, keyNode, value } of propertiesOf(node)) {
    if (hasKeyForm(key) || looksRandom(key)) {
      ranges.push({
        offset: keyNode.offset,
        length: keyNode.length,
        content: JSON.stringify(blot),
      });
    }
    visit(value, key, ranges, isShown);
  }
  if (node.type !== 'array') return;
  // `--token`, `x`: the word before names the next one. Below a key such as `tokens` each is one.
  let before = name;
  for (const child of node.children ?? []) {
    visit(child, before, ranges, isShown);
    const flag =
      child.type === 'string' ? /^--?([A-Za-z][\w.-]*)$/.exec(String(child.value)) : null;
    before = flag?.[1] ?? name;
  }
}

/** null where nothing in it has to go. */
function maskedString(text: string, name: string): string | null {
  const pair = /^(?:--?)?([A-Za-z_][\w.-]*)[=:]\s*/.exec(text);
  const isPair = pair !== null && !/^[A-Za-z][\w+.-]*:\/\//.test(text);
  const from = isPair ? pair[0].length : 0;
  const own = isPair ? (pair[1] ?? '') : name;
  const value = text.slice(from);
  if (nameSays(own) === 'secret' && indirectionOf(value) === null && canBeSecret(value)) {
    return text.slice(0, from) + blot;
  }
  const { keys } = keysIn(value, own);
  if (keys.length === 0) return looksRandom(value) ? text.slice(0, from) + blot : null;
  let shown = text.slice(0, from);
  let at = 0;
  for (const key of [...keys].sort((a, b) => a.start - b.start)) {
    shown += value.slice(at, key.start) + blot;
    at = key.end;
  }
  return shown + value.slice(at);
}

function comments(text: string, isShown: IsShown): Range[] {
  const ranges: Range[] = [];
  const onComment = (offset: number, length: number) => {
    if (!isShown({ offset, length })) return;
    const comment = text.slice(offset, offset + length);
    const shown = comment.replaceAll(/[^\s"'`,;=&?<>(){}[\]|\\]+/g, (token) =>
      hasKeyForm(token) || looksRandom(token) || /^[a-z][a-z0-9+.-]*:\/\/[^/]*:[^/]*@/i.test(token)
        ? blot
        : token,
    );
    // A line that was commented out: `// "API_KEY": "x",`
    const whole = shown.replaceAll(
      /(["']?)([A-Za-z][\w-]*)\1(\s*[:=]\s*)(["'])((?:(?!\4)[^\n\\])+)\4/g,
      (match, quote: string, name: string, sign: string, mark: string) =>
        nameSays(name) === 'secret' ? `${quote}${name}${quote}${sign}${mark}${blot}${mark}` : match,
    );
    const bare = whole.replaceAll(
      /([A-Za-z][\w-]*)(\s*[:=]\s*)([^\s"',;•]{3,})/g,
      (match, name: string, sign: string) =>
        nameSays(name) === 'secret' ? `${name}${sign}${blot}` : match,
    );
    if (bare !== comment) ranges.push({ offset, length: comment.length, content: bare });
  };
  visitText(text, { onComment }, { allowTrailingComma: true });
  return ranges;
}
