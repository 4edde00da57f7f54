/** What can be known of other processes: owner, start, arguments; from /proc on Linux, from `ps` elsewhere. */
import { readdir, readFile } from 'node:fs/promises';
import { runChild } from '../child.ts';
import { RotatedError } from '../errors.ts';
import { systemCode } from './guards.ts';

export interface ProcessInfo {
  readonly pid: number;
  /** Effective uid. */
  readonly uid: number;
  /** Milliseconds since the epoch by the wall clock as it stands now, exact to about a second. */
  readonly startedAt: number;
  /** Tells this process from any other that ever had its pid in this boot. */
  readonly birth: string;
  readonly args: readonly string[];
}

export interface ProcessTable {
  /** null where there is none, or it has ended and only waits to be collected. */
  find(pid: number, signal: AbortSignal): Promise<ProcessInfo | null>;
  list(signal: AbortSignal): Promise<readonly ProcessInfo[]>;
}

/** `now` gives the wall clock in milliseconds: /proc counts from boot. */
export function systemProcesses(now: () => number): ProcessTable {
  return process.platform === 'linux' ? procTable(now) : psTable();
}

/** proc(5): starttime is field 22 of stat, in clock ticks since boot. */
export function procTable(now: () => number): ProcessTable {
  async function find(pid: number): Promise<ProcessInfo | null> {
    const [stat, status, cmdline, uptime] = await Promise.all([
      readIfThere(`/proc/${pid}/stat`),
      readIfThere(`/proc/${pid}/status`),
      readIfThere(`/proc/${pid}/cmdline`),
      readFile('/proc/uptime', 'utf8'),
    ]);
    if (stat === null || status === null || cmdline === null) return null;
    // The name in parentheses may itself hold parentheses and spaces: everything after the last one is numbers.
    const numbers = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, ticks] = [numbers[0], Number(numbers[19])];
    const uid = Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1]);
    const upSeconds = Number.parseFloat(uptime);
    if (!Number.isFinite(ticks) || !Number.isInteger(uid) || !Number.isFinite(upSeconds)) {
      throw new RotatedError('unsupported', `/proc/${pid} reads like no Linux known.`, {
        next: 'Use an exec consumer here.',
      });
    }
    // A zombie keeps its pid but nobody is there.
    if (state === 'Z' || state === 'X') return null;
    return {
      pid,
      uid,
      startedAt: now() - upSeconds * 1_000 + ticks * tickMs,
      birth: `${ticks}`,
      args: cmdline === '' ? [] : cmdline.replace(/\0$/, '').split('\0'),
    };
  }
  return {
    find,
    async list(signal) {
      const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
      const found: ProcessInfo[] = [];
      for (const pid of pids) {
        signal.throwIfAborted();
        const info = await find(pid);
        if (info !== null) found.push(info);
      }
      return found;
    },
  };
}

/** USER_HZ: fixed at 100 on every architecture that Node runs on, whatever the kernel's own tick. */
const tickMs = 10;

/**
 * POSIX ps with the start column that the BSDs, macOS and procps share. It joins arguments by spaces, so an argument
 * with a space in it cannot be matched as one part.
 */
export function psTable(): ProcessTable {
  async function ps(selection: readonly string[], signal: AbortSignal): Promise<ProcessInfo[]> {
    const { exitCode, endedBy, stdout } = await runChild({
      command: ['ps', '-ww', ...selection, '-o', 'pid=,uid=,stat=,lstart=,args='],
      cwd: '/',
      env: { LC_ALL: 'C' },
      timeoutMs: 10_000,
      signal,
      outputBytesMax: 16_777_216,
    });
    // 1 means that no process was selected.
    if (endedBy !== null || (exitCode !== 0 && exitCode !== 1)) {
      throw new RotatedError('unavailable', 'The processes of this machine cannot be listed.', {
        next: 'Check that `ps` works for the account of the daemon.',
      });
    }
    return stdout.split('\n').flatMap((line) => parsePs(line) ?? []);
  }
  return {
    find: async (pid, signal) => (await ps(['-p', `${pid}`], signal))[0] ?? null,
    list: (signal) => ps(['-ax'], signal),
  };
}

/** `  123   501 Ss   Mon Nov 23 03:54:20 2026 /usr/bin/thing --flag` */
function parsePs(line: string): ProcessInfo | null {
  const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(\w{3} \w{3} +\d+ [\d:]{8} \d{4})\s+(.*)$/.exec(line);
  if (match === null) return null;
  const [, pid, uid, state, started, args] = match;
  const startedAt = Date.parse(started ?? '');
  if (Number.isNaN(startedAt) || state?.startsWith('Z') === true) return null;
  return {
    pid: Number(pid),
    uid: Number(uid),
    startedAt,
    birth: started ?? '',
    args: (args ?? '').split(' ').filter((part) => part !== ''),
  };
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = systemCode(error);
    // ESRCH: ended between open and read. EACCES: hidden from us (hidepid), so not ours to signal.
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return null;
    throw error;
  }
}
