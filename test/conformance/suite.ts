/** The conformance suite as published, run against one address: every check of one revision, also those that are not scored. */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Outcome, Outcomes } from './compare.ts';

export type Revision = '2025-11-25' | '2026-07-28';

const program = path.resolve(
  import.meta.dirname,
  '../../node_modules/@modelcontextprotocol/conformance/dist/index.js',
);

/** The suite takes 5–12 s on a machine of its own, and limits each scenario itself. */
const deadlineMs = 900_000;

export async function runSuite(revision: Revision, url: string): Promise<Outcomes> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-conformance-'));
  try {
    const output = await run(['server', '--requirements', revision, '--url', url, '-o', folder]);
    const outcomes = await readOutcomes(folder);
    if (outcomes.size === 0) throw new Error(`The suite ran no check:\n${output.slice(-2_000)}`);
    return outcomes;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** `scenario/check`, with a number behind it where a scenario makes the same check more than once. */
async function readOutcomes(folder: string): Promise<Outcomes> {
  const outcomes = new Map<string, Outcome>();
  for (const name of await readdir(folder)) {
    const scenario = name
      .replace(/^server-/, '')
      .replace(/-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d+Z$/, '');
    for (const check of await readChecks(path.join(folder, name, 'checks.json'))) {
      const key = unused(`${scenario}/${check.id}`, outcomes);
      outcomes.set(key, { status: check.status, message: check.errorMessage ?? '' });
    }
  }
  return outcomes;
}

interface Check {
  readonly id: string;
  readonly status: Outcome['status'];
  readonly errorMessage?: string;
}

/** A scenario that broke leaves no file. */
async function readChecks(file: string): Promise<readonly Check[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return [{ id: 'no-result', status: 'FAILURE', errorMessage: 'The scenario broke.' }];
  }
  return JSON.parse(text) as readonly Check[];
}

function unused(key: string, taken: Outcomes): string {
  let [free, count] = [key, 1];
  while (taken.has(free)) {
    count += 1;
    free = `${key}#${count}`;
  }
  return free;
}

/** Its exit code says whether a scored check failed; which one, its files say. */
async function run(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: deadlineMs,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.once('close', (...ended) => resolve(ended));
  });
  if (code === null) throw new Error(`The suite was ended by ${signal}:\n${output.slice(-2_000)}`);
  return output;
}
