/** Watches the command lines and environments of every process below this one, as another account's `ps` could. */
import { readFileSync } from 'node:fs';

/** The policy, or whoever started it, put this variable there: its value is left out of the sample. */
export interface DeclaredVariable {
  readonly variable: string;
  /** Part of the command line of the processes that may have it. */
  readonly command: string;
  /** Part of the command line of those that may not, though they name the others. */
  readonly notCommand?: string;
}

export interface ProcessWatch extends Disposable {
  /** One text for each command line and environment that was ever seen. */
  samples(): readonly { readonly where: string; readonly text: string }[];
  /** How many processes were seen whose command line holds this. */
  seen(command: string): number;
  /** Resolves when one was seen whose command line holds this. */
  until(command: string): Promise<void>;
}

/** A Node process lives several times as long before it runs its first line. */
const everyMs = 10;

export function watchProcesses(declared: readonly DeclaredVariable[]): ProcessWatch {
  const byPid = new Map<number, Set<string>>();
  const samples = new Map<string, { where: string; text: string }>();

  function look(): void {
    for (const pid of descendants(process.pid)) {
      const before = read(`/proc/${pid}/cmdline`);
      const environment = read(`/proc/${pid}/environ`);
      // Between fork and exec the two would belong to different programs.
      if (before === '' || before !== read(`/proc/${pid}/cmdline`)) continue;
      const seen = byPid.get(pid) ?? new Set();
      byPid.set(pid, seen.add(before));
      const words = before.replaceAll('\0', ' ');
      const left = environment
        .split('\0')
        .filter((entry) => !isDeclared(entry, words, declared))
        .join('\0');
      samples.set(`a${before}`, { where: 'the arguments of a process', text: before });
      samples.set(`e${before}\0${left}`, {
        where: `the environment of ${words.slice(0, 200)}`,
        text: left,
      });
    }
  }

  const seen = (command: string) =>
    [...byPid.values()].filter((lines) =>
      [...lines].some((line) => line.replaceAll('\0', ' ').includes(command)),
    ).length;
  let looked = Promise.withResolvers<void>();
  const timer = setInterval(() => {
    look();
    looked.resolve();
    looked = Promise.withResolvers();
  }, everyMs);
  return {
    samples: () => [...samples.values()],
    seen,
    until: async (command) => {
      while (seen(command) === 0) await looked.promise;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function isDeclared(entry: string, words: string, declared: readonly DeclaredVariable[]): boolean {
  return declared.some(
    ({ variable, command, notCommand }) =>
      entry.startsWith(`${variable}=`) &&
      words.includes(command) &&
      (notCommand === undefined || !words.includes(notCommand)),
  );
}

/** Node starts children from its main thread alone. */
function descendants(pid: number): readonly number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
  return children.flatMap((child) => [child, ...descendants(child)]);
}

/** Empty where the process has ended. */
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
