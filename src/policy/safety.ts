/** Who else could change a policy, and with it the commands that the daemon runs: such a file or folder is refused. */
import { readFileSync, realpathSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';

const groupMayWrite = 0o020;
const worldMayWrite = 0o002;
const sticky = 0o1000;

/** The account that reads the policies; null where the system has no such thing. */
export interface Account {
  readonly uid: number;
  /** True where nobody but this account and root is in the group. */
  isPrivateGroup(gid: number): boolean;
}

export function ownAccount(): Account | null {
  const uid = process.getuid?.();
  if (uid === undefined) return null;
  let groups: ReadonlySet<number> | null = null;
  return {
    uid,
    isPrivateGroup(gid) {
      groups ??= privateGroups(uid);
      return groups.has(gid);
    },
  };
}

/** What is unsafe about a file or folder with these rights, as the end of a sentence; null where nothing is. */
export function unsafeRights(stats: Stats, account: Account | null): string | null {
  if (account === null) return null;
  if (stats.uid !== account.uid && stats.uid !== 0)
    return `belongs to another account (uid ${stats.uid})`;
  if ((stats.mode & worldMayWrite) !== 0) return 'can be written by every account';
  if ((stats.mode & groupMayWrite) !== 0 && !account.isPrivateGroup(stats.gid)) {
    return `can be written by the group ${stats.gid}`;
  }
  return null;
}

export interface UnsafePlace {
  readonly place: string;
  readonly why: string;
  readonly mend: string;
}

/**
 * The first folder that is unsafe, from `folder` up to the root: whoever can write one above can put another in its
 * place. A sticky one above (`/tmp`) is safe, since others cannot rename what is ours. Throws what `stat` throws.
 */
export function unsafeFolder(folder: string, account: Account | null): UnsafePlace | null {
  const real = realpathSync(folder);
  for (let place = real; ; place = path.dirname(place)) {
    const stats = statSync(place);
    const isProtected = place !== real && (stats.mode & sticky) !== 0 && stats.uid === 0;
    const why = isProtected ? null : unsafeRights(stats, account);
    if (why !== null) return { place, why, mend: mendOf(place, why) };
    if (place === path.dirname(place)) return null;
  }
}

/** The command that mends it. */
export function mendOf(place: string, why: string): string {
  return why.startsWith('belongs') ? `chown root ${place}` : `chmod go-w ${place}`;
}

/**
 * Many systems give each account a group of its own and let it write (umask 002): such a group is as good as the
 * account. Not for root, whose umask nowhere is that lenient. Nothing is private where the lists cannot be read.
 */
function privateGroups(uid: number): ReadonlySet<number> {
  if (uid === 0) return new Set();
  try {
    const accounts = readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((row) => row.split(':'));
    const own = accounts.find((row) => row[2] === String(uid))?.[0];
    const groups = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .map((row) => row.split(':'));
    const isAlone = ([, , gid = '', members = '']: readonly string[]) =>
      members.split(',').every((member) => member === '' || member === own || member === 'root') &&
      accounts.every((row) => row[3] !== gid || row[2] === String(uid) || row[2] === '0');
    return new Set(
      groups.filter((row) => row.length >= 4 && isAlone(row)).map((row) => Number(row[2])),
    );
  } catch {
    return new Set();
  }
}
