import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../clock.ts';
import { Secret } from '../secret/secret.ts';
import type { CheckSpec } from './check.ts';
import { createVerifier } from './create.ts';
import type { Candidate } from './verifier.ts';

const canary = 'canary "91c0" \\ & é';
const candidate: Candidate = {
  secret: 'search',
  generation: 4,
  fields: { API_KEY: new Secret(canary), USER: new Secret('someone') },
};
const patience = () => AbortSignal.timeout(30_000);

let directory = '';
const servers: Server[] = [];
const add = vi.fn();
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-verify-'));
});
afterEach(async () => {
  add.mockReset();
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }
  await rm(directory, { recursive: true, force: true });
});

function verifier(spec: CheckSpec) {
  return createVerifier(spec, { directory, redactor: { add }, clock: systemClock() });
}

async function outcome(spec: CheckSpec, given = candidate, signal = patience()): Promise<unknown> {
  const result = await verifier(spec)
    .verify(given, signal)
    .catch((error: unknown) => error);
  const shown = inspect(result, { depth: 10, showHidden: true }) + JSON.stringify(result);
  expect(shown).not.toContain(canary);
  expect(shown).not.toContain('91c0');
  return result;
}

describe('http', () => {
  type HttpSpec = Extract<CheckSpec, { kind: 'http' }>;

  async function listen(listener: RequestListener): Promise<string> {
    const server = createServer(listener);
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/me`;
  }

  function spec(url: string, call: Partial<HttpSpec['call']> = {}, timeoutMs = 5_000): HttpSpec {
    return {
      kind: 'http',
      call: { url, method: 'GET', headers: {}, body: null, ...call },
      expectStatus: [200, 204],
      timeoutMs,
    };
  }

  const answering = (status: number, headers: Record<string, string> = {}) =>
    listen((_, response) => {
      // A body that echoes what was sent, as error pages do.
      response.writeHead(status, headers).end(canary);
    });

  test.each([
    [200, { ok: true }],
    [204, { ok: true }],
    [401, { ok: false, kind: 'rejected' }],
    [403, { ok: false, kind: 'restricted' }],
    [429, { code: 'throttled', effect: 'none', retryAfterMs: 7_000 }],
    [500, { code: 'unavailable' }],
    [503, { code: 'unavailable' }],
    [201, { code: 'invalid-answer' }],
    [302, { code: 'invalid-answer' }],
    [400, { code: 'invalid-answer' }],
    [404, { code: 'invalid-answer' }],
  ])('status %s', async (status, expected) => {
    const url = await answering(status, { 'retry-after': '7', location: 'http://127.0.0.1:1/' });
    expect(await outcome(spec(url))).toMatchObject(expected);
  });

  test('a status that the policy expects is right, whatever it is', async () => {
    expect(await outcome({ ...spec(await answering(401)), expectStatus: [401] })).toEqual({
      ok: true,
    });
  });

  /** Sends once and tells what arrived. */
  async function sent(call: Partial<HttpSpec['call']>, given = candidate) {
    const seen: { request?: IncomingMessage; body: string } = { body: '' };
    const url = await listen((request, response) => {
      seen.request = request;
      request.on('data', (chunk: Buffer) => {
        seen.body += chunk.toString();
      });
      request.on('end', () => response.end());
    });
    const result = await outcome(spec(url, call), given);
    return { ...seen, result };
  }

  test('fields stand in headers and body, escaped as the body needs, and never in the address', async () => {
    const plain = { ...candidate, fields: { API_KEY: new Secret('k-1 "x"') } };
    const header = await sent(
      { headers: { 'x-key': 'Bearer ${API_KEY}', 'x-plain': '$API_KEY' } },
      plain,
    );
    expect(header.request?.headers).toMatchObject({
      'x-key': 'Bearer k-1 "x"',
      'x-plain': '$API_KEY',
    });
    const json = await sent({
      method: 'POST',
      headers: { 'Content-Type': 'application/json; charset=utf-8' },
      body: '{"key":"${API_KEY}","user":"${USER}"}',
    });
    expect(JSON.parse(json.body)).toEqual({ key: canary, user: 'someone' });
    const form = await sent({
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: 'key=${API_KEY}&user=${USER}',
    });
    expect(Object.fromEntries(new URLSearchParams(form.body))).toEqual({
      key: canary,
      user: 'someone',
    });
    const raw = await sent({
      method: 'PUT',
      headers: { 'content-type': 'text/plain' },
      body: '<${API_KEY}>',
    });
    expect(raw.body).toBe(`<${canary}>`);
    for (const { request } of [header, json, form, raw]) expect(request?.url).toBe('/me');
  });

  test('a field that no header can carry is a mistake, and is not repeated', async () => {
    for (const value of [canary, `${canary}\r\nx-evil: 1`, `${canary}\0`]) {
      const given = { ...candidate, fields: { API_KEY: new Secret(value) } };
      const { result, request } = await sent({ headers: { 'x-key': '${API_KEY}' } }, given);
      expect(result).toMatchObject({ code: 'policy-invalid', secret: 'search' });
      expect(request).toBeUndefined();
    }
  });

  test('a field that the secret does not have is a mistake, and nothing is sent', async () => {
    for (const name of ['PASSWORD', 'constructor', '__proto__']) {
      const { result, request } = await sent({ headers: { 'x-key': `\${${name}}` } });
      expect(result).toMatchObject({ code: 'policy-invalid', secret: 'search' });
      expect(request).toBeUndefined();
    }
  });

  test('a redirect never carries the credential elsewhere', async () => {
    const elsewhere = vi.fn<RequestListener>((_, response) => response.end());
    const url = await answering(307, { location: await listen(elsewhere) });
    expect(await outcome(spec(url, { headers: { 'x-user': '${USER}' } }))).toMatchObject({
      code: 'invalid-answer',
    });
    expect(elsewhere).not.toHaveBeenCalled();
  });

  test('a credential is never sent unencrypted across a network', () => {
    expect(() => verifier(spec('http://api.example/me'))).toThrow(
      expect.objectContaining({ code: 'policy-invalid' }),
    );
    expect(verifier(spec('https://api.example/me')).id).toBe('http:GET api.example/me');
  });

  test('a server that hangs, that is gone, or a caller that has stopped: cannot tell', async () => {
    const hanging = await listen(() => undefined);
    expect(await outcome(spec(hanging, {}, 200))).toMatchObject({ code: 'timeout' });
    const aborted = AbortSignal.abort(new Error('stopped'));
    expect(await outcome(spec(hanging), candidate, aborted)).toMatchObject({ code: 'timeout' });
    expect(await outcome(spec('http://127.0.0.1:1/'))).toMatchObject({ code: 'unavailable' });
  });

  test('a body that never ends is not read', async () => {
    const url = await listen((_, response) => {
      response.writeHead(200);
      response.write('x');
    });
    expect(await outcome(spec(url))).toEqual({ ok: true });
  });
});

describe('exec', () => {
  type ExecSpec = Extract<CheckSpec, { kind: 'exec' }>;

  async function script(body: string, spec: Partial<ExecSpec> = {}): Promise<ExecSpec> {
    await writeFile(join(directory, 'check.cjs'), body);
    return {
      kind: 'exec',
      command: [process.execPath, 'check.cjs', '--dry-run'],
      env: null,
      timeoutMs: 20_000,
      ...spec,
    };
  }

  test.each([
    ['process.exit(0)', { ok: true }],
    ['process.exit(1)', { ok: false, kind: 'rejected' }],
    ['process.exit(75)', { code: 'unavailable', secret: 'search' }],
    ['process.exit(2)', { code: 'invalid-answer', secret: 'search' }],
    ['process.kill(process.pid, "SIGKILL"); setInterval(() => {}, 99)', { code: 'invalid-answer' }],
  ])('%s', async (body, expected) => {
    const noise = 'console.log(process.env.API_KEY); console.error(process.env.API_KEY);';
    expect(await outcome(await script(`${noise}${body}`))).toMatchObject(expected);
  });

  test('a deadline or a missing program cannot tell', async () => {
    const hanging = await script('setInterval(() => {}, 1000)', { timeoutMs: 300 });
    expect(await outcome(hanging)).toMatchObject({ code: 'timeout' });
    expect(await outcome({ ...hanging, command: ['./none'] })).toMatchObject({
      code: 'not-found',
      secret: 'search',
    });
  });

  test('fields go by environment under the names of the policy, never as arguments', async () => {
    const body = `require('node:fs').writeFileSync('seen', JSON.stringify([process.argv, process.env]))`;
    const seen = async (spec: Partial<ExecSpec>) => {
      expect(await outcome(await script(body, spec))).toEqual({ ok: true });
      const text = await readFile(join(directory, 'seen'), 'utf8');
      return JSON.parse(text) as [string[], Record<string, string>];
    };
    const [argv, env] = await seen({});
    expect(env).toMatchObject({
      API_KEY: canary,
      USER: 'someone',
      ROTATED_SECRET: 'search',
      ROTATED_GENERATION: '4',
    });
    expect(argv.join(' ')).not.toContain(canary);
    expect(argv).toContain('--dry-run');
    const [, mapped] = await seen({ env: { TOKEN: 'API_KEY' } });
    expect(mapped).toMatchObject({ TOKEN: canary });
    expect(mapped).not.toHaveProperty('API_KEY');
    expect(mapped).not.toHaveProperty('USER');
  });

  test('a field cannot change what runs, nor stand under a name that is none', async () => {
    for (const env of [
      { PATH: 'API_KEY' },
      { LD_PRELOAD: 'API_KEY' },
      { NODE_OPTIONS: 'API_KEY' },
      { ROTATED_SECRET: 'API_KEY' },
      { 'API-KEY': 'API_KEY' },
      { TOKEN: 'PASSWORD' },
    ]) {
      expect(await outcome(await script('', { env }))).toMatchObject({ code: 'policy-invalid' });
    }
    const fields = { 'api-key': new Secret(canary) };
    expect(await outcome(await script(''), { ...candidate, fields })).toMatchObject({
      code: 'policy-invalid',
      next: expect.stringContaining('env:') as string,
    });
  });

  test('a value that no environment can hold is not repeated', async () => {
    const fields = { API_KEY: new Secret(`${canary}\0`) };
    expect(await outcome(await script(''), { ...candidate, fields })).toMatchObject({
      code: 'unavailable',
    });
  });

  test('the values are made known to the redactor first', async () => {
    await outcome(await script(''));
    expect(add.mock.calls).toEqual([[candidate.fields]]);
  });
});
