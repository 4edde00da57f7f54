/** How a child process is run: no shell, a small environment, a deadline for its whole process group, output that no error carries. */
import { constants } from 'node:os';
import type { Options } from 'execa';
import { RotatedError } from './errors.ts';

export interface ChildCall {
  /** Program and arguments, handed to the kernel as they are. Never put a secret here: others can read a process's arguments. */
  readonly command: readonly [string, ...string[]];
  readonly cwd: string;
  /** Added to `PATH`, `HOME`, `LANG` and `TZ`, which are all that a child inherits. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to stdin, which is then closed; an empty stdin where absent. A child may ignore it. */
  readonly input?: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** More than this on stdout ends the child with `invalid-answer`. 0 or absent: stdout goes nowhere. stderr always does. */
  readonly outputBytesMax?: number;
  /** How long the group may take to end after SIGTERM before SIGKILL; 2,000 where absent. */
  readonly killAfterMs?: number;
}

export interface ChildResult {
  /** null where a signal ended it. */
  readonly exitCode: number | null;
  /** Which signal ended it, where one did and it was not ours. */
  readonly endedBy: string | null;
  /** UTF-8. May hold secrets: parse it, never log it or put it into an error. */
  readonly stdout: string;
}

const inherited = ['PATH', 'HOME', 'LANG', 'TZ'] as const;

/**
 * Runs one command to its end. A non-zero exit is an answer, not an exception.
 *
 * Throws, always without anything the child printed: `timeout` (deadline or abort; the group is gone when this throws;
 * effect unknown), `not-found` and `denied` (could not be started; effect none), `invalid-answer` (too much output,
 * effect unknown), `unavailable` (could not be started for another reason; effect none).
 */
export async function runChild(call: ChildCall): Promise<ChildResult> {
  const [program, ...args] = call.command;
  if (call.signal.aborted) throw ended(program, 'was not started: the caller had stopped', 'none');
  const outputBytesMax = call.outputBytesMax ?? 0;
  const options = {
    cwd: call.cwd,
    env: { ...minimalEnvironment(), ...call.env },
    extendEnv: false,
    input: call.input ?? '',
    stdout: outputBytesMax === 0 ? 'ignore' : 'pipe',
    stderr: 'ignore',
    encoding: 'buffer',
    stripFinalNewline: false,
    maxBuffer: Math.max(1, outputBytesMax),
    reject: false,
    timeout: Math.max(1, Math.ceil(call.timeoutMs)),
    cancelSignal: call.signal,
    // A group of its own, so that what the command started ends with it.
    killDescendants: true,
    forceKillAfterDelay: call.killAfterMs ?? 2_000,
  } as const satisfies Options;

  // Loaded at the first child: a fifth of the daemon's start otherwise, also where no policy names a command.
  const { execa } = await import('execa');
  const child = spawn(execa, program, args, options);
  const result = await child;
  if (result.timedOut || result.isCanceled || result.isMaxBuffer) {
    // The leader may have obeyed SIGTERM while a descendant ignored it. A group's number is not reused while it has a
    // member, so this reaches our group or nobody.
    killGroup(child.pid);
  }
  if (result.timedOut) throw ended(program, `did not end within ${call.timeoutMs} ms`, 'unknown');
  if (result.isCanceled) throw ended(program, 'was ended: the caller had stopped', 'unknown');
  if (result.isMaxBuffer) {
    throw new RotatedError(
      'invalid-answer',
      `The command ${program} printed more than ${outputBytesMax} bytes.`,
      { effect: 'unknown', next: `Run ${program} by hand and look at what it prints.` },
    );
  }
  if (result.exitCode === undefined && result.signal === undefined) {
    throw notStarted(program, result.code);
  }
  const stdout: unknown = result.stdout;
  return {
    exitCode: result.exitCode ?? null,
    endedBy: result.signal ?? null,
    stdout: stdout instanceof Uint8Array ? Buffer.from(stdout).toString('utf8') : '',
  };
}

function spawn<O extends Options>(
  execa: typeof import('execa').execa,
  program: string,
  args: readonly string[],
  options: O,
) {
  try {
    return execa(program, args, options);
  } catch (error) {
    // Node checks arguments and environment before it starts anything; its messages quote the values it dislikes.
    throw notStarted(program, (error as { code?: unknown }).code);
  }
}

/** What every child gets. */
export function minimalEnvironment(): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of inherited) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined || process.platform === 'win32') return;
  try {
    process.kill(-pid, constants.signals.SIGKILL);
  } catch {
    // ESRCH: the whole group has ended, which is what is wanted.
  }
}

function ended(program: string, what: string, effect: 'none' | 'unknown'): RotatedError {
  return new RotatedError('timeout', `The command ${program} ${what}.`, {
    effect,
    next: `Run ${program} by hand and see how long it takes, or allow it more time.`,
  });
}

function notStarted(program: string, code: unknown): RotatedError {
  const name = typeof code === 'string' && /^[A-Z0-9_]{2,40}$/.test(code) ? code : 'unknown';
  const next = `Check that ${program} exists, is executable, and that its folder is right.`;
  switch (name) {
    case 'ENOENT':
      return new RotatedError('not-found', `The command ${program} was not found.`, { next });
    case 'EACCES':
    case 'EPERM':
      return new RotatedError('denied', `The command ${program} may not be run.`, { next });
    default:
      return new RotatedError('unavailable', `The command ${program} did not start (${name}).`, {
        next,
      });
  }
}
