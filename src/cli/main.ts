/** The command line as a whole: finds the command, loads it alone, turns what happens into an exit code. */
import { Command, CommanderError } from 'commander';
import { addCommonOptions, type Call, type CommandModule, type CommonOptions } from './command.ts';
import { commands } from './commands.ts';
import { type Exit, exitCodes, printError } from './exit.ts';
import { wrapLines } from './print.ts';
import type { Io, ProgramName } from './io.ts';
import { programVersion } from '../version.ts';

/** Called by `bin/`: the real process. */
export async function runProcess(program: ProgramName): Promise<void> {
  const { processIo } = await import('./process-io.ts');
  const io = processIo(program);
  // Node's own report of an uncaught error repeats its message, which for a foreign one may hold anything.
  process.on('uncaughtException', (thrown) => {
    const verbose = process.argv.includes('--verbose');
    process.exit(exitCodes[printError(io, thrown, { json: false, verbose })]);
  });
  const code = await main(process.argv.slice(2), io);
  // Whatever still holds the process, such as a kept-alive connection, is of no use now.
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}

/** What is done with a command line that could be read. */
type Act = (module: CommandModule, call: Call) => Promise<Exit>;

/** Runs one command line; returns its exit code. Prints every error itself. `act`: a test reads the line and does nothing. */
export async function main(
  argv: readonly string[],
  given: Io,
  act: Act = (module, call) => module.run(call),
): Promise<number> {
  const args = normalize(argv);
  const name = chosen(args, given.program);
  const io = isVerbatim(name, args) ? given : fitting(given);
  let exit: Exit = 'ok';
  const root = newRoot(io);
  for (const [each, entry] of Object.entries(commands)) {
    const command = root.command(`${each} ${entry.arguments}`.trim(), {
      isDefault: each === 'serve' && name === 'serve',
    });
    command
      .description(entry.summary)
      .configureHelp({ showGlobalOptions: true })
      .showHelpAfterError(`Next: ${io.program} ${each} --help`);
    if (each !== name) continue;
    const module = await entry.load();
    module.configure(command);
    command.action(async () => {
      exit = await act(module, { io, args: command.args, options: command.optsWithGlobals() });
    });
  }
  try {
    if (name === null && !args.some((arg) => isHelp(arg) || isVersion(arg))) {
      if (args.length === 0) {
        root.outputHelp();
        return exitCodes.ok;
      }
    }
    refuseUnknownHelp(root, args);
    await root.parseAsync([...args], { from: 'user' });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      if (thrown.exitCode === 0) return exitCodes.ok;
      // Commander has said it on stderr; whoever reads JSON reads stdout.
      if (args.includes('--json')) {
        const message = withoutValues(thrown.message).trimEnd();
        const error = { code: 'usage', message, effect: 'none' };
        io.out(`${JSON.stringify({ ok: false, error })}\n`);
      }
      return exitCodes.usage;
    }
    const { json, verbose } = root.opts<CommonOptions>();
    exit = printError(io, thrown, { json: json === true, verbose: verbose === true });
  }
  return exitCodes[exit];
}

function newRoot(io: Io): Command {
  const root = new Command(io.program);
  root
    .description(
      io.program === 'rotated'
        ? 'Rotates credentials. Without a command it runs the service in the foreground.'
        : 'Rotates credentials: asks the service, or does it itself where none runs.',
    )
    .version(programVersion())
    .helpCommand('help [command]', 'explain a command')
    .showHelpAfterError(`Next: ${io.program} --help`)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text),
      writeErr: (text) => io.err(text),
      outputError: (text, write) =>
        write(withoutValues(text).replace(/^error: /, `${io.program}: `)),
      getOutHelpWidth: () => io.columns,
      getErrHelpWidth: () => io.columns,
    });
  addCommonOptions(root);
  root.addHelpText(
    'after',
    `
A key has leaked:   rotate --now NAME --reason "found in a public repository"
What is going on:   rotate status

Exit codes: 0 done, 1 unexpected, 2 usage, 3 refused, 4 failed and rolled back,
5 debts left, 6 waits for a person, 7 the daemon does not answer.
`,
  );
  return root;
}

/** Takes out of commander's messages what a person may have typed in the place of a prompt: `supply NAME VALUE`, `--password=VALUE`. */
function withoutValues(text: string): string {
  return text
    .replace(/^(error: too many arguments\b.*? but got \d+):.*$/s, '$1.\n')
    .replace(/^(error: unknown option '[^'=]*)=.*'/s, "$1'");
}

/** `--now` is how it is called out in an emergency; inside it is a command like the others. */
function normalize(argv: readonly string[]): readonly string[] {
  const end = argv.indexOf('--');
  const before = end === -1 ? argv : argv.slice(0, end);
  const [first] = before;
  if (first !== undefined && Object.hasOwn(commands, first)) return argv;
  const at = before.findIndex((arg) => arg === '--now' || arg.startsWith('--now='));
  if (at === -1) return argv;
  const value = argv[at]?.slice('--now='.length) ?? '';
  return ['now', ...argv.slice(0, at), ...(value === '' ? [] : [value]), ...argv.slice(at + 1)];
}

/** The command's name, found the way commander will find it: options with values are skipped with their values. */
function chosen(args: readonly string[], program: ProgramName): string | null {
  const [first, second] = operandsOf(args);
  if (first === 'help')
    return second !== undefined && Object.hasOwn(commands, second) ? second : null;
  if (first !== undefined) return Object.hasOwn(commands, first) ? first : null;
  if (program !== 'rotated') return null;
  return args.some((arg) => isVersion(arg)) ? null : 'serve';
}

/** None where an option lacks its value: commander says so when it parses the whole line. */
function operandsOf(args: readonly string[]): readonly string[] {
  const probe = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addCommonOptions(probe);
  try {
    return probe.parseOptions([...args]).operands;
  } catch {
    return args.filter((arg) => !arg.startsWith('-'));
  }
}

/** Commander itself would print all of the help, and not say why. */
function refuseUnknownHelp(root: Command, args: readonly string[]): void {
  const [first, second] = operandsOf(args);
  if (first !== 'help' || second === undefined || Object.hasOwn(commands, second)) return;
  root.error(`error: unknown command '${second}'`);
}

/** Values, logs, and what is to be pasted elsewhere. */
function isVerbatim(name: string | null, args: readonly string[]): boolean {
  if (args.some((arg) => arg === '--json' || arg === '--markdown')) return true;
  if (name === 'serve') return !args.includes('--check');
  return name === 'read' || name === 'schema' || name === 'import' || name === 'gate';
}

/** What goes to a terminal is broken at its width; what goes to a program stays as it is. */
function fitting(io: Io): Io {
  const fit = (text: string) => wrapLines(text, io.columns);
  return {
    ...io,
    out: (text) => io.out(io.outIsTerminal ? fit(text) : text),
    err: (text) => io.err(io.errIsTerminal ? fit(text) : text),
  };
}

function isHelp(arg: string): boolean {
  return arg === '--help' || arg === '-h';
}

function isVersion(arg: string): boolean {
  return arg === '--version' || arg === '-V';
}
