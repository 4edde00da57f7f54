import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import { Secret } from '../secret/secret.ts';
import { createConsumer } from './create.ts';
import { signReload, signReport } from './signature.ts';

const docs = join(import.meta.dirname, '../../docs/consumers.md');
const key = '0123456789abcdef0123456789abcdef';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('the server in the docs is reloaded and reports, run as it is printed there', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'rotated-docs-'));
  const example = /```js\n([\s\S]*?)```/.exec(await readFile(docs, 'utf8'))?.[1] ?? '';
  // From a checkout the package has no built entry point yet: only the name of the import changes.
  const here = JSON.stringify(new URL('./receiver.ts', import.meta.url).href);
  const source = example.replace("'rotated/consumer'", here);
  expect(source).not.toBe(example);
  await writeFile(join(directory, 'server.mjs'), source);

  let generation = 6;
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/reload`;
  const context = {
    directory,
    read: {
      read: async () => [{ generation, fields: { PGPASSWORD: new Secret(`word-${generation}`) } }],
    },
    resolveReference: async () => ({ reload: new Secret(key) }),
    clock: systemClock(),
    random: systemRandom(),
    redactor: { add: () => undefined },
  };
  const common = { role: 'user', timeoutMs: 10_000, report: null } as const;
  const file = createConsumer(
    {
      ...common,
      kind: 'file',
      path: 'db.json',
      format: 'json',
      template: null,
      mode: 0o600,
      then: null,
    },
    context,
  );
  const reference = 'local://keys/reports#reload';
  const http = createConsumer(
    { ...common, kind: 'http', url, key: reference, report: { kind: 'http', url, key: reference } },
    context,
  );
  const patience = () => AbortSignal.timeout(30_000);
  const render = () =>
    file.reload([{ secret: 'reports-db', generation, stage: 'current' }], patience());
  await render();

  const server = spawn(process.execPath, ['server.mjs'], {
    cwd: directory,
    env: { RELOAD_KEY: key, PORT: `${port}` },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    await expect
      .poll(() =>
        http.probe(patience()).then(
          () => 'up',
          () => 'down',
        ),
      )
      .toBe('up');
    expect(await http.report('reports-db', patience())).toMatchObject([{ generation: 6 }]);
    generation = 7;
    const change = { secret: 'reports-db', generation, stage: 'current' } as const;
    await expect(http.reload([change], patience())).rejects.toMatchObject({
      code: 'consumer-failed',
    });
    expect(await http.report('reports-db', patience())).toMatchObject([{ generation: 6 }]);
    await render();
    await http.reload([change], patience());
    expect(await http.report('reports-db', patience())).toEqual([
      { instance: 'main', generation: 7, state: 'serving' },
    ]);
  } finally {
    server.kill('SIGKILL');
    await once(server, 'exit');
    await rm(directory, { recursive: true, force: true });
  }
});

test('the docs give the signed bytes that another implementation of HMAC agrees with', async () => {
  const text = await readFile(docs, 'utf8');
  expect(text).toContain('`v1\\nreload\\n` + timestamp + `\\n` + the body');
  expect(text).toContain('`v1\\nreport\\n` + nonce + `\\n` + secret + `\\n` + the body');
  const openssl = async (message: string) => {
    const child = promisify(execFile)('openssl', ['dgst', '-sha256', '-hmac', key]);
    child.child.stdin?.end(message);
    return `v1=${(await child).stdout.trim().split(' ').at(-1)}`;
  };
  const body = '{"changes":[]}';
  expect(signReload(key, '1800000000', body)).toBe(
    await openssl(`v1\nreload\n1800000000\n${body}`),
  );
  expect(signReport(key, 'nonce', 'reports-db', body)).toBe(
    await openssl(`v1\nreport\nnonce\nreports-db\n${body}`),
  );
});
