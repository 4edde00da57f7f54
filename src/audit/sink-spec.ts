/** How an audit sink is written down: `file:PATH` or `exec:COMMAND`, and the one text that each is remembered under. */
import path from 'node:path';
import { RotatedError } from '../errors.ts';

export type SinkSpec =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'exec'; readonly command: readonly [string, ...string[]] };

/** `directory`: what relative paths are relative to. Throws `usage`. */
export function parseSink(text: string, directory: string): SinkSpec {
  const [, kind, rest = ''] = /^(file|exec):(.*)$/s.exec(text.trim()) ?? [];
  if (kind === 'file' && rest !== '' && !rest.includes('\0')) {
    return { kind: 'file', path: path.resolve(directory, rest) };
  }
  const [program, ...args] = kind === 'exec' ? wordsOf(rest.trim()) : [];
  if (program === undefined || program === '') {
    throw wrong(text, 'Write file:/var/log/rotated/audit.jsonl or exec:/usr/local/bin/ship-audit.');
  }
  // A bare name is looked up in the PATH.
  const found = program.includes('/') ? path.resolve(directory, program) : program;
  return { kind: 'exec', command: [found, ...args] };
}

/** The same text for the same sink, which `parseSink` reads again. */
export function sinkText(spec: SinkSpec): string {
  if (spec.kind === 'file') return `file:${spec.path}`;
  const { command } = spec;
  return command.every((word) => plainWord.test(word))
    ? `exec:${command.join(' ')}`
    : `exec:${JSON.stringify(command)}`;
}

/** For messages, metrics and the audit trail: without a command's arguments, which are the machine's business alone. */
export function sinkName(text: string): string {
  const spec = parseSink(text, '/');
  return spec.kind === 'file' ? sinkText(spec) : `exec:${spec.command[0]}`;
}

/** What no shell would read otherwise: there is no shell, so anything else is asked for as JSON. */
const plainWord = /^[^\s"'\\$`;|&<>()*?[\]{}~#!]+$/;

function wordsOf(text: string): readonly string[] {
  if (text.startsWith('[')) {
    const words = parseJson(text);
    if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
    throw wrong(text, 'Write the command as words, or as JSON: exec:["ship-audit","--to","a b"]');
  }
  const words = text.split(/\s+/);
  if (words.every((word) => word === '' || plainWord.test(word))) return words;
  throw wrong(
    text,
    'No shell reads it: write what is more than plain words as JSON: exec:["ship-audit","--to","a b"]',
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function wrong(text: string, next: string): RotatedError {
  return new RotatedError('usage', `${JSON.stringify(text)} is no audit sink.`, { next });
}
