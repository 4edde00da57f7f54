/** What the crash tests rely on: the test apps report what they really serve, signed, and use the key they serve. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { createConsumer } from '../../../src/consumer/create.ts';
import { createRedactor } from '../../../src/secret/redactor.ts';
import { Secret } from '../../../src/secret/secret.ts';
import { askJson } from '../issuer/call.ts';
import { startIssuer, type RunningIssuer } from '../issuer/server.ts';
import { hashOf } from '../issuer/store.ts';
import { startApps, type AppSettings, type RunningApps } from './server.ts';

let directory: string;
let issuer: RunningIssuer;
let apps: RunningApps;
const never = new AbortController().signal;
const key = 'a key of the report protocol';

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-apps-'));
  issuer = await startIssuer({ directory });
  apps = await startApps();
});

afterAll(async () => {
  await issuer?.[Symbol.asyncDispose]();
  await apps?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function issue(): Promise<string> {
  const url = `${issuer.url}/p/app/keys`;
  return (await askJson<{ value: string }>({ method: 'POST', url, body: '{}' })).value;
}

function fileWith(name: string, generation: number, value: string): Promise<void> {
  const text = JSON.stringify({ secret: name, generation, fields: { value } });
  return writeFile(join(directory, name), text);
}

function settingsOf(name: string, more: Partial<AppSettings> = {}): AppSettings {
  const base = {
    file: join(directory, name),
    key,
    issuer: issuer.url,
    principal: 'app',
    role: 'user',
  } as const;
  return { ...base, instances: ['one', 'two'], lagReports: 0, refuses: [], states: {}, ...more };
}

function consumerOf(name: string, hmac = key) {
  const spec = { url: apps.address(name), key: 'local://hmac' } as const;
  return createConsumer(
    {
      kind: 'http',
      role: 'user',
      timeoutMs: 5_000,
      ...spec,
      report: { kind: 'http', ...spec },
    },
    {
      directory,
      read: { read: async () => [] },
      resolveReference: async () => ({ key: new Secret(hmac) }),
      clock: systemClock(),
      random: systemRandom(),
      redactor: createRedactor(),
    },
  );
}

test('each instance adopts what the file says at a reload and uses it at the issuer', async () => {
  await fileWith('plain', 1, await issue());
  await apps.configure('plain', settingsOf('plain'));
  const consumer = consumerOf('plain');
  await consumer.probe(never);
  await fileWith('plain', 2, await issue());
  await consumer.reload([{ secret: 'plain', generation: 2, stage: 'current' }], never);
  expect(await consumer.report('plain', never)).toEqual([
    { instance: 'one', generation: 2, state: 'serving' },
    { instance: 'two', generation: 2, state: 'serving' },
  ]);
  expect(await apps.use('plain')).toEqual([
    { instance: 'one', status: 200 },
    { instance: 'two', status: 200 },
  ]);
  expect((await apps.serving('plain')).map((one) => one.accepted)).toEqual([true, true]);
});

test('a slow instance goes on serving, and reporting, the old generation', async () => {
  await fileWith('slow', 1, await issue());
  await apps.configure('slow', settingsOf('slow', { instances: ['one'], lagReports: 2 }));
  await fileWith('slow', 2, await issue());
  const consumer = consumerOf('slow');
  const seen: (number | null)[] = [];
  for (let index = 0; index < 3; index++) {
    const report = await consumer.report('slow', never);
    seen.push(report === 'unknown' ? null : (report[0]?.generation ?? null));
    expect((await apps.serving('slow'))[0]?.generation).toBe(seen.at(-1));
  }
  expect(seen).toEqual([1, 1, 2]);
});

test('a served key that was revoked shows as refused', async () => {
  const value = await issue();
  await fileWith('dead', 1, value);
  await apps.configure('dead', settingsOf('dead', { instances: ['one'] }));
  const truth = await issuer.probe('app', value);
  await askJson({ method: 'DELETE', url: `${issuer.url}/p/app/keys/${truth?.ref}` });
  expect(await apps.serving('dead')).toMatchObject([{ instance: 'one', accepted: false }]);
  expect(await apps.use('dead')).toEqual([{ instance: 'one', status: 401 }]);
});

test('a reload signed with another key is refused', async () => {
  await apps.configure('guarded', settingsOf('guarded'));
  const stranger = consumerOf('guarded', 'another key of the protocol');
  await expect(
    stranger.reload([{ secret: 'guarded', generation: 2, stage: 'current' }], never),
  ).rejects.toMatchObject({ code: 'consumer-failed' });
});

test('a verifier accepts every generation that its file names, and forgets what the file no longer names', async () => {
  const file = join(directory, 'verifier');
  const accepted = [1, 2].map((generation) => ({
    generation,
    fields: { value: `v${generation}` },
  }));
  await writeFile(file, JSON.stringify({ secret: 'verifier', generation: 2, accepted }));
  await apps.configure('verifier', settingsOf('verifier', { role: 'verifier', instances: ['v'] }));
  expect(await apps.serving('verifier')).toMatchObject([
    { generation: 2, hashes: [hashOf('v1'), hashOf('v2')], accepted: null },
  ]);
  const rest = accepted.slice(1);
  await writeFile(file, JSON.stringify({ secret: 'verifier', generation: 2, accepted: rest }));
  const change = { secret: 'verifier', generation: 2, stage: 'retired' } as const;
  await consumerOf('verifier').reload([change], never);
  expect(await apps.serving('verifier')).toMatchObject([{ hashes: [hashOf('v2')] }]);
});
