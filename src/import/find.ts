/** The plaintext keys of one server's entry: in its environment, its headers, its arguments, its URL. */
import type { Node } from 'jsonc-parser';
import { propertiesOf, valueAt } from './config-file.ts';
import type { Findings, Passed, Spot } from './model.ts';
import { keysIn, keysInPair, type StringFindings } from './strings.ts';

/** `serverUrl` is Windsurf's word. */
export const urlKeys = ['url', 'serverUrl'] as const;

export function findKeys(entry: Node): Findings {
  const spots: Spot[] = [];
  const passed: Passed[] = [];
  const add = (
    where: Spot['where'],
    name: string,
    node: Node,
    keyNode: Node | null,
    found: StringFindings,
  ) => {
    if (found.keys.length > 0) {
      spots.push({ where, name, node, keyNode, text: String(node.value), keys: found.keys });
    }
    if (found.passed !== null) passed.push({ name, why: found.passed });
  };
  for (const { key, keyNode, value } of propertiesOf(valueAt(entry, 'env'))) {
    if (value.type === 'string') {
      add('environment', key, value, keyNode, keysIn(String(value.value), key));
    }
  }
  for (const { key, keyNode, value } of propertiesOf(valueAt(entry, 'headers'))) {
    if (value.type === 'string') {
      add('header', key, value, keyNode, keysIn(String(value.value), key));
    }
  }
  for (const key of urlKeys) {
    const node = valueAt(entry, key);
    if (node?.type === 'string') add('url', '', node, null, keysIn(String(node.value), ''));
  }
  // Some write the whole command line here: nothing of it is moved, but it is said.
  const command = valueAt(entry, 'command');
  if (command?.type === 'string') {
    add('argument', '', command, null, keysIn(String(command.value), ''));
  }
  const args = valueAt(entry, 'args');
  const words = args?.type === 'array' ? (args.children ?? []) : [];
  words.forEach((node, index) => {
    if (node.type !== 'string') return;
    const { name, found } = argumentKeys(String(node.value), words[index - 1]);
    add('argument', name, node, null, found);
  });
  return { spots, passed };
}

const flag = /^--?([A-Za-z][\w.-]*)$/;
const pair = /^(?:--?)?([A-Za-z_][\w.-]*)=/;
const headerPair = /^([A-Za-z][\w-]*):\s*/;

function argumentKeys(
  text: string,
  before: Node | undefined,
): { readonly name: string; readonly found: StringFindings } {
  const previous = before?.type === 'string' ? (flag.exec(String(before.value))?.[1] ?? '') : '';
  if (/^(?:header|H)$/.test(previous)) {
    const found = keysInPair(text, headerPair);
    if (found !== null) return { name: nameBefore(text, headerPair), found };
  }
  const isPair = pair.test(text) && !/^[A-Za-z][\w+.-]*:\/\//.test(text);
  if (isPair) {
    const inner = text.replace(pair, '');
    // `--header=Authorization: Bearer x`
    if (/^(?:header|H)$/.test(nameBefore(text, pair)) && headerPair.test(inner)) {
      const found = keysInPair(text, /^(?:--?)?(?:header|H)=([A-Za-z][\w-]*):\s*/);
      if (found !== null) return { name: nameBefore(inner, headerPair), found };
    }
    const found = keysInPair(text, pair);
    if (found !== null) return { name: nameBefore(text, pair), found };
  }
  const isFlag = flag.test(text);
  if (isFlag) return { name: '', found: { keys: [], passed: null } };
  return { name: previous, found: keysIn(text, previous) };
}

function nameBefore(text: string, separator: RegExp): string {
  return separator.exec(text)?.[1] ?? '';
}
