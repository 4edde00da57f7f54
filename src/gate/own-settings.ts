/** What an entry of the server file says under `rotated` of how its server is swapped. */
import { getNodeValue, type Node } from 'jsonc-parser';
import { parseDuration } from '../policy/duration.ts';
import type { ValueFile } from './entry.ts';
import type { ServerSettings } from './settings.ts';

export type SettingsOverrides = Partial<ServerSettings>;

export interface OwnSettings {
  readonly settings: SettingsOverrides;
  readonly files: readonly ValueFile[];
}

type Say = (message: string, at?: Node) => void;

const durations: Readonly<Record<string, keyof ServerSettings>> = {
  drain: 'drainMs',
  warm: 'warmMs',
  idle: 'idleMs',
  start: 'startMs',
};

const choices: Readonly<Record<string, readonly string[]>> = {
  swap: ['swap', 'drain-window', 'pin-sessions'],
  emergency: ['drain', 'cut'],
  version: ['refuse', 'allow'],
};

/** Says each mistake and leaves it out. */
export function readOwnSettings(node: Node, say: Say): OwnSettings {
  const settings: Record<string, unknown> = {};
  let files: readonly ValueFile[] = [];
  if (node.type !== 'object') {
    say('"rotated" must be an object.', node);
    return { settings, files };
  }
  for (const { children } of node.children ?? []) {
    const [keyNode, value] = children ?? [];
    if (keyNode === undefined || value === undefined) continue;
    const key = String(keyNode.value);
    const plain: unknown = getNodeValue(value);
    const duration = Object.hasOwn(durations, key) ? durations[key] : undefined;
    const choice = Object.hasOwn(choices, key) ? choices[key] : undefined;
    if (duration !== undefined) {
      const ms = typeof plain === 'string' ? parseDuration(plain) : null;
      if (ms === null) say(`"rotated.${key}" is written like "5m" or "30s".`, value);
      else settings[duration] = ms;
    } else if (choice !== undefined) {
      if (choice.includes(plain as string)) settings[key] = plain;
      else say(`"rotated.${key}" is one of ${choice.join(', ')}.`, value);
    } else if (key === 'redact') {
      if (typeof plain === 'boolean') settings[key] = plain;
      else say('"rotated.redact" is true or false.', value);
    } else if (key === 'retry') {
      if (isStrings(plain)) settings[key] = plain;
      else say('"rotated.retry" is a list of names of tools.', value);
    } else if (key === 'canary') {
      const canary = canaryOf(plain);
      if (canary === undefined) {
        say('"rotated.canary" is written { "tool": "get_me", "arguments": {} }.', value);
      } else settings[key] = canary;
    } else if (key === 'files') {
      const found = filesOf(plain);
      if (found === null) {
        say(
          '"rotated.files" is written [{ "path": "key.txt", "content": "{{local://…}}", "reread": false }].',
          value,
        );
      } else files = found;
    } else {
      say(`"rotated.${key}" is not enforced by this version, so it is refused: remove it.`, value);
    }
  }
  return { settings, files };
}

function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

function canaryOf(value: unknown): ServerSettings['canary'] | undefined {
  if (value === null) return null;
  if (!isRecord(value)) return undefined;
  const { tool, arguments: given = {}, expect, ...rest } = value;
  if (typeof tool !== 'string' || !isRecord(given) || Object.keys(rest).length > 0)
    return undefined;
  if (expect !== undefined && typeof expect !== 'string') return undefined;
  return { tool, arguments: given, ...(expect === undefined ? {} : { expect }) };
}

function filesOf(value: unknown): readonly ValueFile[] | null {
  if (!Array.isArray(value)) return null;
  const files: ValueFile[] = [];
  for (const one of value as unknown[]) {
    if (!isRecord(one)) return null;
    const { path, content, reread = false, ...rest } = one;
    if (typeof path !== 'string' || typeof content !== 'string') return null;
    if (typeof reread !== 'boolean' || Object.keys(rest).length > 0) return null;
    files.push({ path, content, reread });
  }
  return files;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
