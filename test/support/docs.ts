/** What the docs show: their code blocks, the commands in these and in the text, and what a command line is read as. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { systemClock, systemRandom } from '../../src/clock.ts';
import { addCommonOptions } from '../../src/cli/command.ts';
import { commands } from '../../src/cli/commands.ts';
import type { Io, ProgramName } from '../../src/cli/io.ts';
import { main } from '../../src/cli/main.ts';

export const root = path.resolve(import.meta.dirname, '../..');

/** Relative to the project, in reading order. */
export function docFiles(): string[] {
  const docs = readdirSync(path.join(root, 'docs')).filter((name) => name.endsWith('.md'));
  const issuers = readdirSync(path.join(root, 'providers'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => `providers/${name}/README.md`);
  return ['README.md', ...docs.map((name) => `docs/${name}`), ...issuers];
}

export function textOf(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

export interface Block {
  readonly file: string;
  /** Of its first line, from 1. */
  readonly line: number;
  /** What stands behind the backticks; '' for none. */
  readonly lang: string;
  readonly text: string;
}

export function blocksOf(file: string): Block[] {
  const blocks: Block[] = [];
  let open: { line: number; lang: string; lines: string[] } | null = null;
  for (const [index, line] of textOf(file).split('\n').entries()) {
    const fence = /^\s*```(\w*)\s*$/.exec(line);
    if (open === null) {
      if (fence !== null) open = { line: index + 2, lang: fence[1] ?? '', lines: [] };
    } else if (fence === null) open.lines.push(line);
    else {
      const { line: first, lang, lines } = open;
      blocks.push({ file, line: first, lang, text: lines.join('\n') });
      open = null;
    }
  }
  if (open !== null) throw new Error(`${file}:${open.line}: the block does not end`);
  return blocks;
}

/** The commands of a shell block, one a line, without what stands beside them as an explanation. */
export function commandsOf({ text }: Block): string[] {
  return text
    .split('\n')
    .map((line) => (line.trim().split(/\s{2,}/)[0] ?? '').trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** `rotate …` and `rotated …` between single backticks; of a pipe the last part. */
export function inlineCommands(text: string): string[] {
  const prose = text.replaceAll(/^\s*```[\s\S]*?^\s*```/gm, '');
  return [...prose.matchAll(/`([^`\n]+)`/g)]
    .map(([, code = '']) => code.split('|').at(-1)?.trim() ?? '')
    .filter((code) => /^rotated?( |$)/.test(code));
}

/** As a shell would split it, for what the docs use: words and double quotes. */
export function wordsOf(command: string): string[] {
  return [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(
    ([, quoted, plain]) => quoted ?? plain ?? '',
  );
}

/** Reads the line as the program would and does nothing: what it complains about; null where nothing. */
export async function complaintAbout(command: string): Promise<string | null> {
  const [program = '', ...args] = wordsOf(command);
  let said = '';
  const say = (text: string) => {
    said += text;
  };
  const io: Io = {
    program: program as ProgramName,
    out: say,
    err: say,
    outIsTerminal: false,
    errIsTerminal: false,
    inIsTerminal: false,
    columns: 80,
    env: {},
    directory: '/',
    clock: systemClock(),
    random: systemRandom(),
    readIn: async () => '',
    ask: async () => null,
    signal: new AbortController().signal,
  };
  const code = await main(args, io, async () => 'ok');
  return code === 0 ? null : said;
}

/** Long names of the options that each command takes, the common ones included. */
export async function optionsByCommand(): Promise<ReadonlyMap<string, readonly string[]>> {
  const entries = Object.entries(commands).map(async ([name, { load }]) => {
    const command = new Command(name);
    addCommonOptions(command);
    (await load()).configure(command);
    return [name, command.options.map(({ long }) => long ?? '')] as const;
  });
  return new Map(await Promise.all(entries));
}
