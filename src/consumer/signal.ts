/** The signal consumer, and the signal after a file: how a process is found, and what makes sure that it is the one meant. */
import { resolve } from 'node:path';
import { RotatedError } from '../errors.ts';
import type { ConsumerSpec, SignalSpec } from '../policy/policy.ts';
import { words } from './command.ts';
import { consumerFailed, consumerUnsafe } from './failures.ts';
import { ownUid, readTrusted, systemCode, uidOf } from './guards.ts';
import { type ProcessInfo, type ProcessTable, systemProcesses } from './processes.ts';
import type { ConsumerContext, Target } from './target.ts';

/**
 * How much later than its pidfile a process may seem to have begun: file systems and /proc round, and some write the file
 * before they start. A pid is not reused so fast: the kernel gives out all others first.
 */
const startToleranceMs = 2_000;

export function signalTarget(
  spec: Extract<ConsumerSpec, { kind: 'signal' }>,
  context: ConsumerContext,
): Target {
  const signaller = createSignaller(spec, context);
  return {
    id: `signal:${signaller.name}`,
    async probe(signal) {
      await withDeadline(spec.timeoutMs, signal, signaller.find);
    },
    async reload(_changes, signal) {
      await withDeadline(spec.timeoutMs, signal, signaller.send);
    },
  };
}

export interface Signaller {
  /** `SIGHUP:/run/reports.pid` */
  readonly name: string;
  /** The processes meant, at least one. Throws `consumer-failed` where there is none, `consumer-unsafe` where a guard refuses. */
  find(signal: AbortSignal): Promise<readonly ProcessInfo[]>;
  send(signal: AbortSignal): Promise<void>;
}

export function createSignaller(spec: SignalSpec, context: ConsumerContext): Signaller {
  const { target, owner } = spec;
  const { directory } = context;
  const processes = context.processes ?? systemProcesses(() => context.clock.now());
  const where =
    target.kind === 'pidfile'
      ? resolve(directory, target.path)
      : `match:${words(target.command)}${owner === null ? '' : ` of ${owner}`}`;
  const place = `The process for ${spec.signal} (${where})`;
  const next =
    target.kind === 'pidfile'
      ? `Check that the process runs and has written its pid to ${where}.`
      : 'Check that the process runs, and how: ps -ww -o args.';

  async function find(signal: AbortSignal): Promise<readonly ProcessInfo[]> {
    const uid = await uidOf(owner, directory, signal);
    return target.kind === 'pidfile'
      ? [await byPidfile(where, place, uid, processes, signal)]
      : await byCommand(target.command, place, uid, processes, signal);
  }

  return {
    name: `${spec.signal}:${where}`,
    find,
    async send(signal) {
      let told = 0;
      let refused = 0;
      for (const found of await find(signal)) {
        // Looked up again right before: between the two, the process may have ended and its pid gone to another.
        const still = await processes.find(found.pid, signal);
        signal.throwIfAborted();
        if (still === null || still.birth !== found.birth || still.uid !== found.uid) continue;
        const outcome = kill(found.pid, spec.signal);
        if (outcome === 'told') told += 1;
        if (outcome === 'refused') refused += 1;
      }
      if (refused > 0) {
        throw consumerFailed(
          place,
          'may not be signalled by this account',
          told > 0 ? 'applied' : 'none',
          'Run the daemon as the account that owns the process, or use an exec consumer.',
        );
      }
      if (told === 0) throw consumerFailed(place, 'has ended', 'none', next);
    },
  };
}

async function byPidfile(
  path: string,
  place: string,
  uid: number,
  processes: ProcessTable,
  signal: AbortSignal,
): Promise<ProcessInfo> {
  const next = `Check that the process runs and has written its pid to ${path}.`;
  const { text, writtenAt } = await readPidfile(path, place, uid, next);
  const line = text.split('\n')[0]?.trim() ?? '';
  if (!/^\d{1,10}$/.test(line)) {
    throw consumerUnsafe(`The pidfile ${path}`, 'holds no process id', next);
  }
  const pid = Number(line);
  if (pid <= 1 || pid === process.pid) {
    const what = pid === process.pid ? 'this daemon' : 'no ordinary process';
    throw consumerUnsafe(`The pidfile ${path}`, `names ${what} (${pid})`, next);
  }
  const info = await processes.find(pid, signal);
  if (info === null) {
    throw consumerFailed(place, `does not run (pid ${pid})`, 'none', next);
  }
  if (info.uid !== uid) {
    throw consumerUnsafe(
      place,
      `belongs to another account (pid ${pid}, uid ${info.uid}, not ${uid})`,
      'If this account is meant, write it after `owner:`.',
    );
  }
  if (info.startedAt > writtenAt + startToleranceMs) {
    throw consumerUnsafe(
      place,
      `began after its pidfile was written, so the pid was reused (pid ${pid})`,
      `Restart the process so that it writes ${path} anew; after the machine's clock was set, too.`,
    );
  }
  return info;
}

async function readPidfile(path: string, place: string, uid: number, next: string) {
  try {
    return await readTrusted(path, `The pidfile ${path}`, {
      owners: [ownUid(), 0, uid],
      writers: 'owner',
      bytesMax: 4_096,
    });
  } catch (error) {
    if (error instanceof RotatedError && error.code === 'not-found') {
      throw consumerFailed(place, 'has no pidfile', 'none', next, error);
    }
    throw error;
  }
}

async function byCommand(
  command: readonly [string, ...string[]],
  place: string,
  uid: number,
  processes: ProcessTable,
  signal: AbortSignal,
): Promise<readonly ProcessInfo[]> {
  const all = await processes.list(signal);
  const matching = all.filter(
    (each) => each.pid > 1 && each.pid !== process.pid && hasParts(each.args, command),
  );
  const ours = matching.filter((each) => each.uid === uid);
  if (ours.length > 0) return ours;
  if (matching.length > 0) {
    throw consumerUnsafe(
      place,
      `is only found under other accounts (uid ${matching[0]?.uid})`,
      'If that account is meant, write it after `owner:`.',
    );
  }
  throw consumerFailed(
    place,
    'does not run',
    'none',
    'Start it, or compare `match:` with what ps -ww -o args shows.',
  );
}

function hasParts(args: readonly string[], parts: readonly string[]): boolean {
  return args.some((_, at) => parts.every((part, index) => args[at + index] === part));
}

function kill(pid: number, signal: SignalSpec['signal']): 'told' | 'gone' | 'refused' {
  try {
    process.kill(pid, signal);
    return 'told';
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return 'gone';
    if (systemCode(error) === 'EPERM') return 'refused';
    throw error;
  }
}

async function withDeadline<T>(
  timeoutMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  deadline.throwIfAborted();
  return work(deadline);
}
