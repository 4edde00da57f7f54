/** Leaks made on purpose, one by each way in which the check collects: a scan that misses one of them proves nothing. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Canaries } from './canaries.ts';
import type { Evidence } from './evidence.ts';
import type { ProcessWatch } from './processes.ts';
import type { Hit } from './scanner.ts';

export interface Control {
  /** The source of its canary. */
  readonly source: string;
  /** Where it must be found. */
  readonly where: RegExp;
}

const encodings: Readonly<Record<string, (value: string) => string>> = {
  raw: (value) => value,
  'a window of twelve characters': (value) => value.slice(5, 17),
  base64: (value) => Buffer.from(value).toString('base64'),
  'base64 inside a longer one': (value) => Buffer.from(`user:${value}!`).toString('base64'),
  base64url: (value) => Buffer.from(`u${value}`).toString('base64url'),
  hex: (value) => Buffer.from(value).toString('hex'),
  'hex in upper case': (value) => Buffer.from(value).toString('hex').toUpperCase(),
  'URL-encoded': (value) => `https://host/?key=${encodeURIComponent(value)}`,
  'form-encoded': (value) => new URLSearchParams({ key: value }).toString(),
  'JSON-escaped': (value) => JSON.stringify({ key: value }),
  'JSON in JSON': (value) => JSON.stringify({ body: JSON.stringify({ key: value }) }),
};

export async function plantControls(
  folder: string,
  canaries: Canaries,
  evidence: Evidence,
  watch: ProcessWatch,
): Promise<readonly Control[]> {
  const controls: Control[] = [];
  const plant = (what: string, where: RegExp): string => {
    const source = `control: ${what}`;
    controls.push({ source, where });
    return canaries.make(source);
  };
  mkdirSync(folder, { recursive: true });
  for (const [form, encode] of Object.entries(encodings)) {
    const value = plant(`a file, ${form}`, /^controls: /);
    writeFileSync(path.join(folder, `${Object.keys(encodings).indexOf(form)}.txt`), encode(value));
  }
  const named = plant('the name of a file', /^the name of a file in controls/);
  writeFileSync(path.join(folder, Buffer.from(named).toString('hex')), '');

  // Not checkpointed and not closed until it was read: the value stands in the -wal file.
  using database = new DatabaseSync(path.join(folder, 'planted.sqlite'));
  database.exec('PRAGMA journal_mode = WAL; CREATE TABLE plain (value TEXT)');
  const inWal = plant('a write-ahead log', /^controls: planted\.sqlite-wal$/);
  database.prepare('INSERT INTO plain VALUES (?)').run(inWal);
  evidence.folder('controls', folder);

  const logged = plant('a log line', /^a planted log$/);
  evidence.text('a planted log', `{"level":"info","message":${JSON.stringify(logged)}}\n`);

  const inArguments = plant('the arguments of a process', /^the arguments of a process$/);
  const inEnvironment = plant('the environment of a process', /^the environment of /);
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()', inArguments], {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { PLANTED: inEnvironment },
  });
  const exited = once(child, 'exit');
  await watch.until(inArguments);
  child.stdin.end();
  await exited;
  return controls;
}

export function foundControls(
  controls: readonly Control[],
  hits: readonly Hit[],
): readonly string[] {
  return controls
    .filter(({ source, where }) =>
      hits.some((hit) => hit.canary === source && where.test(hit.where)),
    )
    .map(({ source }) => source);
}
