/** The fixture as other programs start it: its command by stdio, its address over HTTP. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';

const folder = path.join(import.meta.dirname, 'fixture');

/** What a client's config would hold. */
export const fixtureCommand: readonly string[] = [
  process.execPath,
  path.join(folder, 'stdio-main.ts'),
];

export interface FixtureProcess extends AsyncDisposable {
  readonly url: string;
}

/** Over HTTP; with a key, it refuses requests that do not carry it. */
export async function startFixture(key: string | null): Promise<FixtureProcess> {
  const env = { ...process.env, ...(key === null ? {} : { FIXTURE_WANTS_KEY: key }) };
  const child = spawn(process.execPath, [path.join(folder, 'http-main.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  });
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    once(lines, 'line') as Promise<[string]>,
    exited.then(() => Promise.reject(new Error('The fixture did not start.'))),
  ]);
  return {
    url: (JSON.parse(line) as { url: string }).url,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await exited;
    },
  };
}
