/** How every check command (`npm run -s NAME -- --json`) reports: one JSON object on stdout, progress on stderr, exit 0 only if ok. */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';

export interface Skip {
  readonly name: string;
  readonly reason: string;
}

export interface CheckContext {
  /** What stood after the name, without `--json` and `--seed N`. */
  readonly args: string[];
  /** Given by `--seed N`, else drawn; printed either way, so that a run can be repeated. */
  readonly seed: number;
  /** One line on stderr. */
  progress(line: string): void;
  /** Nothing is skipped silently: the reason is printed and stands in the result. */
  skip(name: string, reason: string): void;
}

export interface CheckOptions<T extends object> {
  /** As in `npm run -s NAME`. */
  readonly name: string;
  run(context: CheckContext): Promise<{ ok: boolean } & T>;
  /** The result for a person, where `--json` was not asked for. */
  text(result: { ok: boolean } & T): string;
}

/**
 * Runs a check and ends the process: 0 where `ok`, 1 where not or where it threw, 2 on a bad argument.
 * `argv` is what follows the program: `process.argv.slice(2)` unless told otherwise.
 */
export async function runCheck<T extends object>(
  options: CheckOptions<T>,
  argv: readonly string[] = process.argv.slice(2),
): Promise<void> {
  const { args, json, seed } = parse(argv);
  if (seed === null) {
    process.stderr.write(`${options.name}: --seed needs a whole number\n`);
    process.exitCode = 2;
    return;
  }
  const skipped: Skip[] = [];
  const progress = (line: string): void => {
    process.stderr.write(`${line}\n`);
  };
  const startedAt = process.hrtime.bigint();
  progress(`${options.name}: seed ${seed}`);
  let result: ({ ok: boolean } & T) | { ok: false; error: string };
  try {
    result = await options.run({
      args,
      seed,
      progress,
      skip(name, reason) {
        skipped.push({ name, reason });
        progress(`skipped: ${name}: ${reason}`);
      },
    });
  } catch (error) {
    progress(error instanceof Error ? (error.stack ?? error.message) : String(error));
    result = { ok: false, error: error instanceof Error ? error.message : String(error) };
  }
  const durationMs = Math.round(Number(process.hrtime.bigint() - startedAt) / 1e6);
  const head = {
    ok: result.ok,
    seed,
    commit: commit(),
    node: process.version,
    durationMs,
    skipped,
  };
  const text = (): string => ('error' in result ? `failed: ${result.error}` : options.text(result));
  await write(json ? JSON.stringify({ ...head, ...result }) : text());
  // A handle left open by a failed check must not keep its answer from the caller.
  process.exit(result.ok ? 0 : 1);
}

function parse(argv: readonly string[]): { args: string[]; json: boolean; seed: number | null } {
  const args = [...argv];
  const json = args.includes('--json');
  let seed: number | null = randomInt(2 ** 31);
  const at = args.indexOf('--seed');
  if (at >= 0) {
    const given = Number(args[at + 1] ?? 'none');
    seed = Number.isSafeInteger(given) && given >= 0 ? given : null;
    args.splice(at, 2);
  }
  return { args: args.filter((arg) => arg !== '--json'), json, seed };
}

/** The commit that was checked, with `+` where the work tree differs from it; `unknown` outside a checkout. */
function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+');
  } catch {
    return 'unknown';
  }
}

/** process.exit drops what a pipe has not taken yet. */
function write(line: string): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(`${line}\n`, () => resolve());
  });
}
