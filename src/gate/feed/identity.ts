/** What a running instance is called, so that its end can be proven from its name alone, by anyone on the machine. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Random } from '../../clock.ts';
import { entryHash, type Launch } from '../entry.ts';

export interface InstanceName {
  readonly server: string;
  readonly pid: number;
  /** When that process began, as the system counts: tells it from any other that ever had its pid in this boot. */
  readonly birth: number;
}

const serverPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export function isServerName(text: string): boolean {
  return serverPattern.test(text);
}

/** A name for a server whose config has none: the program, with what a name cannot hold replaced. */
export function serverNameOf(text: string): string {
  const plain = text.replaceAll(/[^A-Za-z0-9._-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '');
  return plain === '' ? 'server' : plain.slice(0, 63);
}

/** `search-4711-88123-5d1f0b77c2e8`: unique, and provably gone once no process 4711 began at 88123. */
export function newInstance(server: string, random: Random): string {
  return `${server}-${process.pid}-${ownBirth()}-${random.bytes(6).toString('hex')}`;
}

/** null where the text is no such name. */
export function parseInstance(instance: string): InstanceName | null {
  const match = /^(.+)-(\d{1,10})-(\d{1,16})-[0-9a-f]{12}$/.exec(instance);
  if (match === null) return null;
  const [, server = '', pid, birth] = match;
  return isServerName(server) ? { server, pid: Number(pid), birth: Number(birth) } : null;
}

/** `entryHash` of a process that is launched by these words in this folder. */
export function commandHash(command: readonly [string, ...string[]], directory: string): string {
  const [program, ...args] = command;
  return entryHash({
    name: '',
    launch: { kind: 'process', command: program, args, cwd: directory, env: {}, files: [] },
  });
}

/** For people who are asked to grant: what would run, without any value, since references stand for them. */
export function describeLaunch(launch: Launch): string {
  const words =
    launch.kind === 'remote' ? [launch.url] : [launch.command, ...launch.args].map(quoted);
  return words.join(' ').slice(0, 1_000);
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word);
}

/** A birth as a process table of this machine tells it (`ProcessInfo.birth`), as the number that stands in names. */
export function birthNumber(birth: string): number {
  return /^\d+$/.test(birth) ? Number(birth) : Math.floor(Date.parse(birth) / 1_000);
}

/** proc(5): field 22 of stat, in clock ticks since boot. Elsewhere the second that `ps` tells. */
function ownBirth(): number {
  if (process.platform === 'linux') {
    const stat = readFileSync('/proc/self/stat', 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  }
  const started = execFileSync('ps', ['-o', 'lstart=', '-p', `${process.pid}`], {
    encoding: 'utf8',
    env: { LC_ALL: 'C', PATH: process.env['PATH'] ?? '/bin:/usr/bin' },
  });
  return birthNumber(started.trim());
}
