/** Which process this is, and whether another one on this host is certainly gone. */
import { readFileSync, readlinkSync } from 'node:fs';

export interface Processes {
  /** Names this process for as long as the machine runs: its number may be used again, this may not. */
  identity(pid: number): string;
  /** True only where no doubt is left: a wrong answer would give one directory two owners. */
  isGone(pid: number, identity: string): boolean;
}

export function systemProcesses(): Processes {
  return {
    identity: (pid) => `${namespaceOf()} ${startOf(pid) ?? '?'}`,
    isGone(pid, identity) {
      const [namespace, start] = identity.split(' ');
      // In another container the same number means another process.
      if (namespace !== namespaceOf()) return false;
      try {
        process.kill(pid, 0);
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ESRCH';
      }
      const now = startOf(pid);
      return now !== null && start !== '?' && now !== start;
    },
  };
}

function namespaceOf(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    // Not Linux: there is one namespace.
    return '-';
  }
}

/** Its start in clock ticks since boot, `dead` for one that only waits to be reaped, null where the system does not tell. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold spaces: count from its end. Field 3 is the state, field 22 the start (proc(5)).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? 'dead' : (fields[19] ?? null);
  } catch {
    return null;
  }
}
