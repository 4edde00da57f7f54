/** A server as a child process over stdio: a group of its own, stopped by end of input, then TERM, then KILL. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isRotatedError } from '../errors.ts';
import { type Launch, renderLaunch, type ValueFile } from './entry.ts';
import { createFrames } from './frames.ts';
import type { Link, LinkEnd, LinkEvents, StartLink } from './link.ts';

type ProcessLaunch = Extract<Launch, { kind: 'process' }>;

export interface StopTimes {
  /** After the end of its input; of twenty real servers all ended within 0.4 s. */
  readonly eofMs: number;
  /** After TERM. */
  readonly termMs: number;
}

const stopTimes: StopTimes = { eofMs: 2_000, termMs: 2_000 };
/** Unread logs of a server are cut into lines of at most so much. */
const logLineBytesMax = 64 * 1_024;

/** Each start renders the launch with the values it is given. */
export function processLink(launch: ProcessLaunch, times: StopTimes = stopTimes): StartLink {
  return ({ values }, events) => {
    let child: ChildProcess;
    try {
      const filled = renderLaunch(launch, values) as ProcessLaunch;
      for (const file of filled.files) writeValueFile(file);
      child = spawn(filled.command, filled.args, {
        cwd: filled.cwd,
        env: withOwnFolder(filled.env, filled.command),
        stdio: ['pipe', 'pipe', 'pipe'],
        // A group of its own: what the server started ends with it, and a terminal's Ctrl-C is ours to pass on.
        detached: true,
      });
    } catch (error) {
      return failedLink(launch, error);
    }
    // Where no descriptor is left, node makes no pipes and says why later.
    if (!child.stdin) {
      child.on('error', () => undefined);
      return failedLink(launch, { code: 'EMFILE', syscall: 'spawn' });
    }
    return running(child, launch, events, times);
  };
}

/**
 * A GUI client's PATH lacks the folder of nvm and its like, where `npx` and the `node` that it needs lie side by side: the
 * command's own folder is looked in last.
 */
function withOwnFolder(
  env: Readonly<Record<string, string>>,
  command: string,
): Readonly<Record<string, string>> {
  if (!path.isAbsolute(command)) return env;
  const folders = (env['PATH'] ?? '/usr/bin:/bin').split(path.delimiter);
  return { ...env, PATH: [...folders, path.dirname(command)].join(path.delimiter) };
}

/** In place, whole or not at all, readable by this account alone. */
export function writeValueFile(file: ValueFile): void {
  mkdirSync(path.dirname(file.path), { recursive: true, mode: 0o700 });
  const aside = `${file.path}.${process.pid}.new`;
  // What a crash left there may be readable by others, or lead elsewhere.
  rmSync(aside, { force: true });
  writeFileSync(aside, file.content, { mode: 0o600, flag: 'wx' });
  renameSync(aside, file.path);
}

function running(
  child: ChildProcess,
  launch: ProcessLaunch,
  events: LinkEvents,
  times: StopTimes,
): Link {
  const { stdin, stdout, stderr, pid } = child;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('no pipes');
  const [input, output] = [stdin, stdout];
  const ended = Promise.withResolvers<LinkEnd>();
  let stopping: 'gentle' | 'now' | null = null;
  let isInputEnded = false;
  let isPaused = false;
  let failure: LinkEnd | null = null;
  const timers = new Set<NodeJS.Timeout>();

  const frames = createFrames((head, tail) => events.onTooLong(head, tail));
  stdout.on('data', (chunk: Buffer) => {
    const whole = frames.push(chunk);
    if (whole.length > 0) events.onFrames(whole);
  });
  stdout.on('end', () => {
    const last = frames.end();
    if (last.length > 0) events.onFrames(last);
  });
  const lines = createFrames((head) => events.onLog(cutLine(head)), logLineBytesMax);
  stderr.on('data', (chunk: Buffer) => {
    const whole = lines.push(chunk);
    if (whole.length > 0) events.onLog(Buffer.concat(whole));
  });
  stderr.on('end', () => {
    for (const last of lines.end()) events.onLog(last);
  });
  stdin.on('drain', () => events.onDrain());
  // EPIPE: it has closed its input; its end says the rest.
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => undefined);

  child.on('error', (error) => {
    failure ??= failed(launch, error);
    if (pid === undefined) ended.resolve(failure);
  });
  child.on('exit', () => {
    // What it left behind in its group has lost its server.
    if (stopping !== null) signalGroup(pid, 'SIGKILL');
    // A descendant may hold the pipes open for ever.
    timers.add(
      setTimeout(() => {
        signalGroup(pid, 'SIGKILL');
        // What it said before it ended still waits for a client that is slow.
        if (!isPaused) stdout.destroy();
        stderr.destroy();
      }, times.eofMs),
    );
  });
  child.on('close', (exitCode, signal) => {
    for (const timer of timers) clearTimeout(timer);
    signalGroup(pid, 'SIGKILL');
    ended.resolve(
      failure ?? {
        why: stopping === null && !isInputEnded ? 'exited' : 'closed',
        exitCode,
        signal,
        message: null,
      },
    );
  });

  function stop(how: 'gentle' | 'now'): void {
    if (stopping === 'now' || stopping === how) return;
    stopping = how;
    // Whoever paused reading will not resume it; what it still answers must not keep it from ending.
    isPaused = false;
    output.resume();
    input.end();
    if (how === 'now') {
      signalGroup(pid, 'SIGKILL');
      return;
    }
    timers.add(
      setTimeout(() => {
        signalGroup(pid, 'SIGTERM');
        timers.add(setTimeout(() => signalGroup(pid, 'SIGKILL'), times.termMs));
      }, times.eofMs),
    );
  }

  return {
    send: (bytes) => stdin.writable && stdin.write(bytes),
    pause() {
      if (stopping !== null) return;
      isPaused = true;
      stdout.pause();
    },
    resume() {
      isPaused = false;
      stdout.resume();
    },
    endInput() {
      isInputEnded = true;
      stdin.end();
    },
    async stop(how) {
      stop(how);
      return ended.promise;
    },
    ended: ended.promise,
  };
}

function failedLink(launch: ProcessLaunch, error: unknown): Link {
  const end = failed(launch, error);
  return {
    send: () => true,
    pause: () => undefined,
    resume: () => undefined,
    endInput: () => undefined,
    stop: async () => end,
    ended: Promise.resolve(end),
  };
}

/** Node's own message may quote arguments or the environment, which hold values. */
function failed({ command, cwd }: ProcessLaunch, error: unknown): LinkEnd {
  const end = { why: 'failed', exitCode: null, signal: null } as const;
  if (isRotatedError(error)) return { ...end, message: error.message };
  const { code, syscall } = error as { readonly code?: unknown; readonly syscall?: unknown };
  const shown = typeof code === 'string' ? code : 'unknown';
  if (typeof syscall !== 'string' || !syscall.startsWith('spawn')) {
    return { ...end, message: `A file that ${command} reads could not be written (${shown}).` };
  }
  if (code !== 'ENOENT') {
    return { ...end, message: `${command} could not be started (${shown}).` };
  }
  // Node says the same of both.
  return existsSync(cwd)
    ? {
        ...end,
        message: `${command} was not found. Write its absolute path: a client's PATH may lack it.`,
      }
    : { ...end, message: `${command} could not be started: there is no folder ${cwd}.` };
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // ESRCH: nobody of the group is left, which is what is wanted.
  }
}

/** Of a line that is too long, what surely holds no half of a value: whole words. */
function cutLine(head: Buffer): Buffer {
  const space = head.lastIndexOf(0x20);
  return Buffer.concat([head.subarray(0, Math.max(0, space)), Buffer.from(' … (cut)\n')]);
}
