import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import type { RotatedError } from '../errors.ts';
import type { NotifySpec } from '../policy/policy.ts';
import { createRedactor } from '../secret/redactor.ts';
import { Secret } from '../secret/secret.ts';
import { createNotifier, type Notice, type NotifierContext } from './notifier.ts';

const notice: Notice = {
  secret: 'search',
  rotation: 'r1',
  level: 'alert',
  event: 'parked',
  message: 'The new key canary-5f2e does not work.',
  next: 'Run: rotate status search.',
};
const patience = () => AbortSignal.timeout(30_000);

let directory = '';
let server: Server | null = null;
let failures: RotatedError[] = [];
let uptimeMs = 0;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-notify-'));
  failures = [];
  uptimeMs = 0;
});
afterEach(async () => {
  server?.close();
  server?.closeAllConnections();
  server = null;
  await rm(directory, { recursive: true, force: true });
});

function notifier(spec: NotifySpec, context: Partial<NotifierContext> = {}) {
  const redactor = createRedactor();
  redactor.add(new Secret('canary-5f2e'));
  return createNotifier(spec, {
    directory,
    clock: { ...systemClock(), monotonicMs: () => uptimeMs },
    redactor,
    onFailure: (error) => failures.push(error),
    ...context,
  });
}

/** A webhook that answers with `status` and keeps what it got. */
async function webhook(status = () => 200) {
  const got: Record<string, unknown>[] = [];
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on('end', () => {
      got.push(JSON.parse(body) as Record<string, unknown>);
      response.writeHead(status(), { location: '/elsewhere' }).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const spec = {
    kind: 'http',
    name: 'hook',
    url: `http://127.0.0.1:${port}/T0/s3cr3t-path`,
  } as const;
  return { got, spec };
}

test('a command gets the notice as JSON on stdin, without any known value', async () => {
  await writeFile(
    join(directory, 'tell.cjs'),
    `const fs = require('node:fs');
     fs.writeFileSync('got', fs.readFileSync(0)); fs.writeFileSync('argv', process.argv.join());`,
  );
  const command = [process.execPath, 'tell.cjs', '--channel=ops'] as const;
  await notifier({ kind: 'exec', name: 'ops', command: [...command] }).send(
    { ...notice, extra: 'left out' } as Notice,
    patience(),
  );
  expect(failures).toEqual([]);
  const got = JSON.parse(await readFile(join(directory, 'got'), 'utf8')) as object;
  expect(got).toEqual({
    ...notice,
    message: 'The new key [redacted] does not work.',
    at: expect.stringMatching(/^\d{4}-\d{2}-\d{2}T/) as string,
    suppressed: 0,
  });
  expect(await readFile(join(directory, 'argv'), 'utf8')).not.toContain('parked');
});

test('a webhook gets the notice as JSON', async () => {
  const { got, spec } = await webhook();
  await notifier(spec).send(notice, patience());
  expect(got).toMatchObject([{ secret: 'search', event: 'parked', level: 'alert' }]);
});

test('no failure leaves send, and each is told once, without the path of the webhook', async () => {
  const { spec } = await webhook(() => 500);
  await notifier(spec).send(notice, patience());
  await notifier({ ...spec, url: 'http://127.0.0.1:1/T0/s3cr3t-path' }).send(notice, patience());
  await notifier({ kind: 'exec', name: 'x', command: ['./none'] }).send(notice, patience());
  await notifier({ kind: 'exec', name: 'x', command: ['false'] }).send(notice, patience());
  await notifier(spec).send(notice, AbortSignal.abort());
  expect(failures.map((error) => error.code)).toEqual([
    'unavailable',
    'unavailable',
    'not-found',
    'unavailable',
    'timeout',
  ]);
  const shown = failures.map((error) => JSON.stringify(error) + String(error.stack)).join('\n');
  expect(shown).not.toContain('s3cr3t');
});

test('a redirect is a failure', async () => {
  const { spec } = await webhook(() => 302);
  await notifier(spec).send(notice, patience());
  expect(failures).toMatchObject([{ code: 'invalid-answer' }]);
});

test('a webhook across a network is https', () => {
  expect(() => notifier({ kind: 'http', name: 'x', url: 'http://hooks.example/' })).toThrow(
    expect.objectContaining({ code: 'policy-invalid' }),
  );
});

test('a repeat is left out until its time is over, and counted', async () => {
  const { got, spec } = await webhook();
  const it = notifier(spec, { limits: { repeatMs: 1_000 } });
  await it.send(notice, patience());
  await it.send(notice, patience());
  await it.send({ ...notice, rotation: 'r2' }, patience());
  uptimeMs = 999;
  await it.send(notice, patience());
  uptimeMs = 1_000;
  await it.send(notice, patience());
  expect(got.map((each) => [each['rotation'], each['suppressed']])).toEqual([
    ['r1', 0],
    ['r2', 1],
    ['r1', 1],
  ]);
});

test('what was not delivered may be said again at once', async () => {
  let status = 503;
  const { got, spec } = await webhook(() => status);
  const it = notifier(spec);
  await it.send(notice, patience());
  status = 200;
  await it.send(notice, patience());
  await it.send(notice, patience());
  expect(got).toHaveLength(2);
  expect(failures).toHaveLength(1);
});

test('a flood is cut to so many in a minute, and the rest is counted', async () => {
  const { got, spec } = await webhook();
  const it = notifier(spec, { limits: { perMinuteMost: 2 } });
  for (let at = 0; at < 5; at++) await it.send({ ...notice, rotation: `r${at}` }, patience());
  uptimeMs = 60_000;
  await it.send({ ...notice, rotation: 'later' }, patience());
  expect(got.map((each) => [each['rotation'], each['suppressed']])).toEqual([
    ['r0', 0],
    ['r1', 0],
    ['later', 3],
  ]);
});
