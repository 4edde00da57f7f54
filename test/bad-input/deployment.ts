/** A small good deployment to spoil: made once by the real program, copied for each case, driven through the real command line. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { BuiltPackage } from '../support/built-package.ts';

export interface Deployment {
  readonly folder: string;
  readonly state: string;
  readonly policies: string;
  readonly key: string;
  readonly args: readonly string[];
  readonly built: BuiltPackage;
}

export interface Ran {
  readonly exit: number | null;
  readonly out: string;
  readonly err: string;
  /** What was printed as JSON; null where it was none. */
  readonly json: Readonly<Record<string, unknown>> | null;
}

export const goodSecret = 'good';
const goodPolicy = `secrets:
  ${goodSecret}:
    provider: { use: generated, kind: random }
    backend: local://good/key
    schedule: manual
    grace: 0s
`;
/** A command that hangs is a failed case, not a hung check. */
const runWithinMs = 60_000;

export function deploymentIn(folder: string, built: BuiltPackage): Deployment {
  const [state, policies, key] = ['state', 'schedules', 'key'].map((part) =>
    path.join(folder, part),
  ) as [string, string, string];
  return {
    folder,
    state,
    policies,
    key,
    args: ['--state', state, '--policies', policies, '--key', key],
    built,
  };
}

/** With one generation of one secret. */
export async function makeGood(folder: string, built: BuiltPackage): Promise<Deployment> {
  const made = deploymentIn(folder, built);
  mkdirSync(made.policies, { recursive: true, mode: 0o700 });
  writeFileSync(path.join(made.policies, 'good.yaml'), goodPolicy, { mode: 0o600 });
  const ran = await rotate(made, ['run', goodSecret]);
  if (ran.exit !== 0)
    throw new Error(`The good deployment could not be made: ${ran.out}${ran.err}`);
  return made;
}

export function copyOf({ folder, built }: Deployment, to: string): Deployment {
  cpSync(folder, to, {
    recursive: true,
    preserveTimestamps: true,
    // The sockets' folder belongs to whoever serves the state, and a copy of it would be open to others.
    filter: (source) => path.basename(source) !== 'run',
  });
  return deploymentIn(to, built);
}

export function rotate(
  deployment: Deployment,
  args: readonly string[],
  program: 'rotate' | 'rotated' = 'rotate',
): Promise<Ran> {
  return new Promise((resolve) => {
    const all = [deployment.built[program], ...args, ...deployment.args, '--json'];
    const options = {
      timeout: runWithinMs,
      killSignal: 'SIGKILL',
      maxBuffer: 64 * 1024 * 1024,
    } as const;
    execFile(process.execPath, all, options, (error, out, err) => {
      const exit = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ exit, out, err, json: lastJson(out) });
    });
  });
}

/** Every file by its bytes, so that "nothing was changed" can be said. */
export function digestOf(folder: string): string {
  const hash = createHash('sha256');
  const names = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !isPassing(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
  for (const name of names)
    hash.update(`${path.relative(folder, name)}\0`).update(readFileSync(name));
  return hash.digest('hex');
}

/** What a mere reader of a WAL database makes beside it: shared memory, and a log of no bytes. */
function isPassing(name: string): boolean {
  return name.endsWith('-shm') || name.endsWith('-wal');
}

/** The generation that `rotate status` shows and whether the audit chain is whole; null where either cannot be told. */
export async function lookAt(deployment: Deployment): Promise<{ generation: number } | null> {
  const status = await rotate(deployment, ['status']);
  const audit = await rotate(deployment, ['audit', 'verify']);
  const secrets = status.json?.['secrets'] as { secret: string; generation: number }[] | undefined;
  const generation = secrets?.find(({ secret }) => secret === goodSecret)?.generation;
  return status.exit === 0 && audit.exit === 0 && generation !== undefined ? { generation } : null;
}

/** Once the cause is gone, the good secret rotates as if nothing had been. */
export async function stillWorks(deployment: Deployment): Promise<boolean> {
  const before = await lookAt(deployment);
  const ran = await rotate(deployment, ['run', goodSecret]);
  const after = await lookAt(deployment);
  return ran.exit === 0 && before !== null && after?.generation === before.generation + 1;
}

/** The daemon logs a line each; the error is the last. */
function lastJson(out: string): Readonly<Record<string, unknown>> | null {
  const last = out.trimEnd().split('\n').at(-1) ?? '';
  try {
    return JSON.parse(last) as Readonly<Record<string, unknown>>;
  } catch {
    return null;
  }
}
