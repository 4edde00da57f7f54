/** An image started as a container engine would: its own user as process 1, a root that cannot be written, a volume and a /tmp. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { execa } from 'execa';
import type { ImageConfig } from './engine.ts';

export interface Container {
  /** Runs a command beside process 1: in its namespaces, with its root, as `uid`. */
  exec(uid: number, command: readonly string[]): Promise<{ exitCode: number; output: string }>;
  /** Sends process 1 SIGTERM; its exit code, or null where it had to be killed after `withinMs`. */
  stop(withinMs: number): Promise<number | null>;
  /** stdout and stderr so far. */
  output(): string;
  /** Ends everything in it at once. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ContainerOptions {
  /** The folder that an image is mounted on. */
  readonly root: string;
  readonly config: ImageConfig;
  readonly uid: number;
  /** Folders of this machine to show inside, read-only: inside → outside. */
  readonly folders: Readonly<Record<string, string>>;
}

const execTimeoutMs = 30_000;

/**
 * Process 1 of new mount, pid and network namespaces. Steps: the root bound onto itself, what a container gets mounted in it, then
 * the whole remounted read-only; positional parameters keep paths out of the shell's syntax.
 */
const script = `set -eu
root=$1 uid=$2; shift 2
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero random urandom; do
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  mount -t tmpfs -o "mode=700,uid=$uid,gid=$uid,nosuid,nodev" tmpfs "$root$1"
  shift
done
shift
while [ "$1" != -- ]; do
  mount --bind "$2" "$root$1"
  mount -o remount,ro,bind "$root$1"
  shift 2
done
shift
mount -o remount,ro,bind "$root"
exec chroot --userspec="$uid:$uid" "$root" "$@"`;

export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { config, uid, root } = options;
  const folders = Object.entries(options.folders).flat();
  // What the image's environment says and nothing of this machine's, as in a container.
  const command = inEnvironment(config, [...config.entrypoint, ...config.command]);
  const namespaces = [
    '--mount',
    '--pid',
    '--net',
    '--fork',
    '--kill-child',
    '--propagation',
    'private',
  ];
  const argv = [
    '-c',
    script,
    'start',
    root,
    String(uid),
    ...config.volumes,
    '--',
    ...folders,
    '--',
    ...command,
  ];
  const child = spawn('unshare', [...namespaces, 'sh', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return {
    output: () => output,
    exec: async (as, command) => {
      const pid = await processOne(child);
      if (pid === null) return { exitCode: -1, output: 'process 1 has ended' };
      const user = ['--setuid', String(as), '--setgid', String(as)];
      const into = [
        '--target',
        String(pid),
        '--mount',
        '--pid',
        '--net',
        '--root',
        '--wd',
        ...user,
      ];
      const result = await execa('nsenter', [...into, '--', ...inEnvironment(config, command)], {
        timeout: execTimeoutMs,
        stdin: 'ignore',
        reject: false,
        all: true,
      });
      return { exitCode: result.exitCode ?? -1, output: result.all };
    },
    stop: async (withinMs) => {
      const pid = await processOne(child);
      if (pid === null) return child.exitCode;
      const ended = once(child, 'exit');
      process.kill(pid, 'SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), withinMs);
      await ended;
      clearTimeout(timer);
      return child.exitCode;
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

function inEnvironment(config: ImageConfig, command: readonly string[]): string[] {
  return ['/usr/bin/env', '-i', '-C', config.workingDirectory, ...config.environment, ...command];
}

/** `unshare --fork` has one child: the container's process 1, as this machine numbers it. */
async function processOne(unshare: ChildProcess): Promise<number | null> {
  if (unshare.exitCode !== null || unshare.pid === undefined) return null;
  try {
    const children = await readFile(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8');
    const pid = Number.parseInt(children, 10);
    return Number.isNaN(pid) ? null : pid;
  } catch {
    return null;
  }
}
