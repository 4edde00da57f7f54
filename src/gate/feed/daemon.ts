/** How a shim finds the daemon of its account, and starts it where none runs, as gpg does with its agent. */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gateSocketPath, socketFolderOwner } from '../../control/socket-path.ts';
import { RotatedError } from '../../errors.ts';
import { databaseName, statePlace } from '../../state-place.ts';
import type { Connect } from './source.ts';

export interface DaemonPlace {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths count from here. */
  readonly directory: string;
  /** `--state`; undefined where nobody said it. */
  readonly state: string | undefined;
  /** What is to be resolved there: for messages. */
  readonly references: readonly string[];
  /** The program that is started where no daemon runs; the one beside this file where absent. */
  readonly program?: readonly [string, ...string[]];
  /** How long a daemon that was started may take until it listens. */
  readonly startWithinMs?: number;
}

/** A cold start takes 0.3 s on a quiet machine; a client that starts ten servers at once makes it a busy one. */
const startWithinMs = 20_000;
const lookEveryMs = 50;
/** After the daemon that was started has ended: another one may just be taking its place. */
const graceAfterExitMs = 1_500;

/** In the state directory: what a daemon that was started on demand says, and who is starting one now. */
const logName = 'on-demand.log';
const lockName = 'on-demand.lock';

/**
 * What the daemon gets of a client's environment: nothing that a config file could use to give it other policies, keys or
 * code. It finds its deployment by `--state` alone.
 */
const passedOn =
  /^(HOME|PATH|USER|LOGNAME|LANG|LC_[A-Z]+|TZ|TMPDIR|XDG_[A-Z_]+|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|HTTPS?_PROXY|NO_PROXY)$/i;

/**
 * Throws `state-missing` where nothing was ever set up, `refused` where it belongs to another account, `daemon-silent`
 * where nobody answers and nobody may be started.
 */
export function connectDaemon(place: DaemonPlace): Connect {
  return async ({ needed, signal }) => {
    const state = statePlace(place.state, place.env, place.directory);
    const isOurs = refuseForeign(state, place.references);
    const found = await reach(state, signal);
    if (found !== null) return found;
    if (!needed || !isOurs) throw nobody(state);
    refuseOpen(state);
    return start(state, place, signal);
  };
}

/** True where a daemon may be started: it is this account's own. */
function refuseForeign(state: string, references: readonly string[]): boolean {
  const stats = statSync(state, { throwIfNoEntry: false });
  const what = references.find((one) => one.startsWith('local://')) ?? references[0] ?? 'A value';
  const uid = process.getuid?.();
  if (stats !== undefined && uid !== undefined && stats.uid !== uid && uid !== 0) {
    throw new RotatedError(
      'refused',
      `${what} is kept in ${state}, which belongs to another account (uid ${stats.uid}).`,
      {
        next: 'Run the client as that account, or keep the key in a backend that this account may read.',
      },
    );
  }
  if (stats === undefined || !existsSync(path.join(state, databaseName))) {
    throw new RotatedError(
      'state-missing',
      `${what} cannot be resolved: ${state} holds no state.`,
      {
        next: 'Begin: rotate import FILE, or rotate init. Or name the state: rotate wrap --state DIR',
      },
    );
  }
  return stats.uid === uid || uid === undefined;
}

/**
 * A state directory that rotated made is private; one that came with a repository is not, and whoever wrote it would
 * decide which policies, and with them which commands, the daemon runs.
 */
function refuseOpen(state: string): void {
  if ((statSync(state).mode & 0o077) === 0) return;
  throw new RotatedError(
    'policy-unsafe',
    `No daemon is started for ${state}: others may enter it.`,
    {
      next: `If it is yours: chmod 700 ${state}. Or start it yourself: rotated --state ${state}`,
    },
  );
}

async function reach(state: string, signal: AbortSignal): Promise<Socket | null> {
  const socket = gateSocketPath(state);
  if (socketFolderOwner(state, socket) === null) return null;
  return connectTo(socket, signal);
}

/** The daemon whose socket somebody put in a place of their own, as into a container. */
export function connectSocket(socket: string): Connect {
  return async ({ signal }) => {
    const found = await connectTo(socket, signal);
    if (found !== null) return found;
    throw new RotatedError('daemon-silent', `Nobody listens at ${socket}.`, {
      next: 'Start rotated, or mend ROTATED_GATE_SOCKET.',
    });
  };
}

/** null where nobody listens. */
function connectTo(socket: string, signal: AbortSignal): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const stream = createConnection(socket);
    const settle = (how: () => void) => {
      signal.removeEventListener('abort', onAbort);
      stream.removeListener('error', onError);
      how();
    };
    const onAbort = () => {
      stream.destroy();
      settle(() => reject(signal.reason as Error));
    };
    const onError = (error: NodeJS.ErrnoException) =>
      settle(() => {
        if (error.code === 'EACCES' || error.code === 'EPERM') reject(denied(socket));
        else resolve(null);
      });
    stream.once('error', onError);
    stream.once('connect', () => settle(() => resolve(stream)));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}

/** Starts it, unless another shim is at it, and waits until it listens. */
async function start(state: string, place: DaemonPlace, signal: AbortSignal): Promise<Socket> {
  const lock = path.join(state, lockName);
  const isStarter = takeLock(lock);
  try {
    const ended = isStarter ? launch(state, place) : null;
    let attempts = Math.ceil((place.startWithinMs ?? startWithinMs) / lookEveryMs);
    for (; attempts > 0; attempts -= 1) {
      const found = await reach(state, signal);
      if (found !== null) return found;
      if (ended?.now() === true) {
        attempts = Math.min(attempts, Math.ceil(graceAfterExitMs / lookEveryMs));
      }
      await delay(lookEveryMs, undefined, { signal });
    }
    throw didNotStart(state);
  } finally {
    if (isStarter) rmSync(lock, { force: true });
  }
}

function launch(state: string, place: DaemonPlace): { now(): boolean } {
  const [program, ...args] = place.program ?? [process.execPath, programFile()];
  const log = openSync(path.join(state, logName), 'w', 0o600);
  let ended = false;
  try {
    const child = spawn(program, [...args, '--state', state, '--log-level', 'warn'], {
      // Not the client's folder: a cloned repository may have policies in it.
      cwd: state,
      env: Object.fromEntries(Object.entries(place.env).filter(([name]) => passedOn.test(name))),
      detached: true,
      stdio: ['ignore', log, log],
    });
    child.once('error', () => {
      ended = true;
    });
    child.once('exit', () => {
      ended = true;
    });
    child.unref();
  } finally {
    closeSync(log);
  }
  return { now: () => ended };
}

/** `bin/rotated.js` of the same package, seen from the sources or from what was built of them. */
function programFile(): string {
  const places = ['../../../bin/rotated.js', '../../../../bin/rotated.js'].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  );
  return places.find((place) => existsSync(place)) ?? 'rotated';
}

/** False while another shim that lives is starting the daemon. */
function takeLock(lock: string): boolean {
  for (const isLast of [false, true]) {
    try {
      writeFileSync(lock, `${process.pid}`, { flag: 'wx', mode: 0o600 });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return true;
      if (isLast || isHeld(lock)) return false;
      rmSync(lock, { force: true });
    }
  }
  return false;
}

function isHeld(lock: string): boolean {
  try {
    const pid = Number(readFileSync(lock, 'utf8'));
    if (!Number.isInteger(pid) || pid <= 0) return false;
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function nobody(state: string): RotatedError {
  return new RotatedError('daemon-silent', `No daemon answers for ${state}.`, {
    next: 'Start it: rotated.',
  });
}

function denied(socket: string): RotatedError {
  return new RotatedError('refused', `${socket} may not be opened by this account.`, {
    next: 'Run the client as the account of the daemon.',
  });
}

function didNotStart(state: string): RotatedError {
  return new RotatedError('daemon-silent', `The daemon of ${state} did not start.`, {
    next: `Read ${path.join(state, logName)}, or start it yourself to see why: rotated --state ${state}`,
  });
}
