/** One deployment to be driven: its folders, its real programs, and that whatever they print is kept for the search. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ended, runProgram } from '../support/rotated.ts';
import type { Evidence } from './evidence.ts';

export interface Places {
  readonly state: string;
  readonly policies: string;
  readonly key: string;
  /** Where the policies' file consumers write. */
  readonly out: string;
  /** The issuer's own: not searched. */
  readonly side: string;
  /** The programs' temporary folder. */
  readonly temporary: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export function placesIn(folder: string): Places {
  const [state = '', policies = '', key = '', out = '', side = '', temporary = ''] = [
    'state',
    'schedules',
    'key',
    'out',
    'side',
    'tmp',
  ].map((name) => path.join(folder, name));
  for (const made of [out, side, temporary]) mkdirSync(made, { recursive: true, mode: 0o700 });
  return {
    state,
    policies,
    key,
    out,
    side,
    temporary,
    args: ['--state', state, '--policies', policies, '--key', key],
    env: { PATH: process.env['PATH'] ?? '', HOME: folder, TMPDIR: temporary },
  };
}

export interface RotateOptions {
  readonly input?: string;
  /** Sources whose value this command is for. */
  readonly declared?: readonly string[];
  readonly program?: 'rotate' | 'rotated';
}

export type Rotate = (args: readonly string[], options?: RotateOptions) => Promise<Ended>;

/** Every output goes to the evidence, under the command's first words. */
export function rotateIn(places: Places, evidence: Evidence): Rotate {
  return async (args, { input, declared = [], program = 'rotate' } = {}) => {
    const ended = await runProgram(program, [...args, ...places.args], {
      env: places.env,
      ...(input === undefined ? {} : { input }),
    });
    // A report must not show what was typed.
    const words = args.slice(0, 3).map((word) => (/^[a-z-]{1,20}$/.test(word) ? word : '…'));
    const where = `${program} ${words.join(' ')}`;
    evidence.text(`${where}: stdout`, ended.out, declared);
    evidence.text(`${where}: stderr`, ended.err, declared);
    return ended;
  };
}

export interface Service extends AsyncDisposable {
  /** All it has printed so far. */
  text(): string;
  /** Resolves when it has printed this. Throws where it ended without. */
  said(words: string): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** `command`: program and arguments. What it prints goes to the evidence when it has ended. */
export function startService(
  where: string,
  command: readonly [string, ...string[]],
  env: Readonly<Record<string, string>>,
  evidence: Evidence,
): Service {
  const [program, ...args] = command;
  const child = spawn(program, args, { env: { ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let text = '';
  let stir = Promise.withResolvers<void>();
  const hear = (chunk: Buffer): void => {
    text += chunk.toString();
    stir.resolve();
    stir = Promise.withResolvers();
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const ended = once(child, 'close').then(() => {
    evidence.text(`${where}: stdout and stderr`, text);
    stir.resolve();
  });
  const end = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    if (isRunning(child)) child.kill(signal);
    await ended;
  };
  return {
    text: () => text,
    said: async (words) => {
      while (!text.includes(words)) {
        if (!isRunning(child)) throw new Error(`${where} ended without "${words}": ${text}`);
        await Promise.race([stir.promise, ended]);
      }
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    [Symbol.asyncDispose]: () => end('SIGKILL'),
  };
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}

/** What takes longer never comes, also on a busy machine, and whatever runs is to be ended. */
const patienceMs = 90_000;
const pollEveryMs = 50;

/** Throws, naming what was waited for, where it does not come. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const over = new AbortController();
  const tooLate = sleep(patienceMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`${what}: not within ${patienceMs} ms`);
  });
  try {
    return await Promise.race([promise, tooLate]);
  } finally {
    over.abort();
    tooLate.catch(() => undefined);
  }
}

/** Asks again and again, since nobody tells. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const endsAt = performance.now() + patienceMs;
  while (!(await isSo())) {
    if (performance.now() > endsAt) throw new Error(`${what}: not within ${patienceMs} ms`);
    await sleep(pollEveryMs);
  }
}
