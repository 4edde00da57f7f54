/** buildah as this check uses it: a storage of its own, nothing pulled, so that no container engine is needed. */
import { execa } from 'execa';
import { z } from 'zod';

export interface ImageConfig {
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** `NAME=value` each. */
  readonly environment: readonly string[];
  readonly volumes: readonly string[];
  readonly workingDirectory: string;
  /** Exec form, without its leading `CMD`; null where the image has none. */
  readonly healthCheck: readonly string[] | null;
}

export interface Engine {
  /** Runs buildah and returns its stdout, trimmed. Where it fails, the end of its output goes to `progress`. */
  run(args: readonly string[]): Promise<string>;
  has(image: string): Promise<boolean>;
  config(image: string): Promise<ImageConfig>;
}

/** A cold build fetches the packages of two stages. */
const timeoutMs = 10 * 60_000;
const linesShown = 60;

export function buildah(storage: string, progress: (line: string) => void): Engine {
  const where = ['--storage-driver', 'vfs', '--root', `${storage}/root`];
  const base = [...where, '--runroot', `${storage}/run`];
  const call = (args: readonly string[]) =>
    execa('buildah', [...base, ...args], { timeout: timeoutMs, stdin: 'ignore', reject: false });
  const run = async (args: readonly string[]): Promise<string> => {
    const result = await call(args);
    if (result.exitCode === 0) return result.stdout.trim();
    const printed = `${result.stdout}\n${result.stderr}`.trim().split('\n');
    for (const line of printed.slice(-linesShown)) progress(`  ${line}`);
    throw new Error(`buildah ${args[0] ?? ''} failed (exit ${result.exitCode ?? 'by signal'}).`);
  };
  return {
    run,
    has: async (image) => (await call(['images', '--quiet', image])).exitCode === 0,
    config: async (image) =>
      parseConfig(JSON.parse(await run(['inspect', '--type', 'image', image]))),
  };
}

const list = z.array(z.string()).nullish();
const inspected = z.object({
  Docker: z.object({
    config: z.object({
      User: z.string(),
      Entrypoint: list,
      Cmd: list,
      Env: list,
      Volumes: z.record(z.string(), z.unknown()).nullish(),
      WorkingDir: z.string(),
      Healthcheck: z.object({ Test: z.array(z.string()) }).nullish(),
    }),
  }),
});

function parseConfig(value: unknown): ImageConfig {
  const { config } = inspected.parse(value).Docker;
  const [kind, ...test] = config.Healthcheck?.Test ?? [];
  return {
    user: config.User,
    entrypoint: config.Entrypoint ?? [],
    command: config.Cmd ?? [],
    environment: config.Env ?? [],
    volumes: Object.keys(config.Volumes ?? {}),
    workingDirectory: config.WorkingDir,
    healthCheck: kind === 'CMD' ? test : null,
  };
}
