import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import type { ReportSpec } from '../policy/policy.ts';
import { Secret } from '../secret/secret.ts';
import type { Change, Consumer } from './consumer.ts';
import { createConsumer } from './create.ts';
import { createReloadHandler, type ReloadHandlerOptions } from './receiver.ts';
import { signatureHeader, signReload, signReport, timestampHeader } from './signature.ts';
import type { ConsumerContext } from './target.ts';

const key = 'a-key-of-more-than-sixteen-bytes';
const reference = 'local://keys/reload';
const change: Change = { secret: 'reports-db', generation: 7, stage: 'current' };
const instances = [{ id: 'main', generation: 7, state: 'serving' }] as const;
const patience = () => AbortSignal.timeout(30_000);

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }
});

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/reload`;
}

interface Options {
  readonly key?: string | null;
  readonly report?: ReportSpec | null;
  readonly context?: Partial<ConsumerContext>;
  readonly timeoutMs?: number;
}

function consumer(url: string, options: Options = {}): Consumer {
  const chosen = options.key === undefined ? reference : options.key;
  return createConsumer(
    {
      kind: 'http',
      url,
      key: chosen,
      role: 'user',
      report: options.report === undefined ? { kind: 'http', url, key: chosen } : options.report,
      timeoutMs: options.timeoutMs ?? 5_000,
    },
    {
      directory: '/',
      read: { read: async () => [] },
      resolveReference: async () => ({ key: new Secret(key) }),
      clock: systemClock(),
      random: systemRandom(),
      redactor: { add: () => undefined },
      ...options.context,
    },
  );
}

function handler(options: Partial<ReloadHandlerOptions> = {}) {
  return createReloadHandler({
    key,
    onReload: () => undefined,
    report: () => instances,
    ...options,
  });
}

test('a server with the handler is probed, reloaded and asked to report', async () => {
  const onReload = vi.fn();
  const report = vi.fn(() => instances);
  const it = consumer(await listen(handler({ onReload, report }).node));
  await it.probe(patience());
  expect(onReload).not.toHaveBeenCalled();
  await it.reload([change], patience());
  expect(onReload.mock.calls).toEqual([[[change]]]);
  expect(await it.report('reports-db', patience())).toEqual([
    { instance: 'main', generation: 7, state: 'serving' },
  ]);
  expect(report.mock.calls).toEqual([['reports-db']]);
});

test('a server that fails to reload is told again, not believed', async () => {
  const onReload = () => Promise.reject(new Error('canary-12345'));
  const it = consumer(await listen(handler({ onReload }).node));
  const error = await it.reload([change], patience()).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'consumer-failed', effect: 'unknown' });
  expect(JSON.stringify(error)).not.toContain('canary-12345');
});

test('reloads of one server never run at the same time', async () => {
  let running = 0;
  let most = 0;
  const onReload = async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  };
  const it = consumer(await listen(handler({ onReload }).node));
  await Promise.all([1, 2, 3].map(() => it.reload([change], patience())));
  expect(most).toBe(1);
});

/** What a server that speaks the protocol says, with one thing wrong. */
async function wrongReport(
  answer: (nonce: string, body: string) => { body?: string; signature?: string },
): Promise<unknown> {
  const url = await listen((request, response) => {
    const nonce = new URL(request.url ?? '', 'http://x').searchParams.get('nonce') ?? '';
    const body = JSON.stringify({ instances });
    const said = answer(nonce, body);
    response.setHeader('content-type', 'application/json');
    if (said.signature !== undefined) response.setHeader(signatureHeader, said.signature);
    response.end(said.body ?? body);
  });
  return consumer(url)
    .report('reports-db', patience())
    .catch((reason: unknown) => reason);
}

test('a report is believed only with a signature over this nonce, this secret and this body', async () => {
  const sign = (nonce: string, secret: string, body: string, with_ = key) => ({
    signature: signReport(with_, nonce, secret, body),
  });
  // The positive control: the same server, signing right.
  expect(await wrongReport((nonce, body) => sign(nonce, 'reports-db', body))).toHaveLength(1);
  const unsigned = { code: 'report-unsigned', effect: 'none', secret: 'reports-db' };
  expect(await wrongReport(() => ({}))).toMatchObject(unsigned);
  expect(await wrongReport(() => ({ signature: 'v1=' }))).toMatchObject(unsigned);
  expect(
    await wrongReport((nonce, body) => sign(nonce, 'reports-db', body, 'another-key-of-16-bytes')),
  ).toMatchObject(unsigned);
  expect(
    await wrongReport((_, body) => sign('an-older-nonce-1', 'reports-db', body)),
  ).toMatchObject(unsigned);
  expect(await wrongReport((nonce, body) => sign(nonce, 'search', body))).toMatchObject(unsigned);
  expect(
    await wrongReport((nonce, body) => ({
      ...sign(nonce, 'reports-db', body),
      body: body.replace('7', '8'),
    })),
  ).toMatchObject(unsigned);
  expect(
    await wrongReport((nonce, body) => ({ signature: signReload(key, nonce, body) })),
  ).toMatchObject(unsigned);
});

test('each report is asked with a nonce of its own', async () => {
  const nonces = new Set<string | null>();
  const url = await listen((request, response) => {
    nonces.add(new URL(request.url ?? '', 'http://x').searchParams.get('nonce'));
    handler().node(request, response);
  });
  const it = consumer(url);
  for (let times = 0; times < 5; times++) await it.report('reports-db', patience());
  expect(nonces.size).toBe(5);
});

test('an unsigned report over plain HTTP counts as unknown; a reload without a key reaches this machine only', async () => {
  const onReload = vi.fn();
  const asked: (string | undefined)[] = [];
  const url = await listen((request, response) => {
    asked.push(request.method);
    response.end();
    onReload(request.headers[signatureHeader]);
  });
  const it = consumer(url, { key: null });
  expect(it.reports).toBe(false);
  expect(await it.report('reports-db', patience())).toBe('unknown');
  await it.reload([change], patience());
  expect(asked).toEqual(['POST']);
  expect(onReload.mock.calls).toEqual([[undefined]]);
  for (const far of ['http://192.0.2.1/reload', 'http://reports.example/reload']) {
    expect(() => consumer(far, { key: null })).toThrow(
      expect.objectContaining({ code: 'policy-invalid' }),
    );
    // A signature protects it, and it holds no secret.
    expect(consumer(far).reports).toBe(true);
  }
  expect(consumer('https://reports.example/reload', { key: null }).reports).toBe(true);
});

test('a redirect is not followed: neither a reload nor a report goes elsewhere', async () => {
  const elsewhere = vi.fn<RequestListener>((_, response) => response.end());
  const target = await listen(elsewhere);
  const url = await listen((_, response) => {
    response.writeHead(307, { location: target }).end();
  });
  const it = consumer(url);
  await expect(it.reload([change], patience())).rejects.toMatchObject({
    code: 'consumer-failed',
    effect: 'none',
    next: expect.stringContaining('redirect') as string,
  });
  await expect(it.report('reports-db', patience())).rejects.toMatchObject({
    code: 'invalid-answer',
  });
  expect(elsewhere).not.toHaveBeenCalled();
});

test.each([
  [200, 'text/html', 'invalid-answer'],
  [200, undefined, 'invalid-answer'],
  [204, 'application/json', 'invalid-answer'],
  [404, 'application/json', 'invalid-answer'],
  [401, 'application/json', 'denied'],
  [429, 'application/json', 'throttled'],
  [503, 'application/json', 'unavailable'],
])('a report answered with %s %s is %s', async (status, type, code) => {
  const url = await listen((_, response) => {
    response.writeHead(status, {
      'retry-after': '7',
      ...(type === undefined ? {} : { 'content-type': type }),
    });
    response.end(JSON.stringify({ instances }));
  });
  await expect(consumer(url).report('reports-db', patience())).rejects.toMatchObject({ code });
});

test('a report that never ends is cut, by its length or by its deadline', async () => {
  const endless = await listen((_, response) => {
    response.setHeader('content-type', 'application/json');
    const more = () => {
      while (!response.destroyed && response.write('x'.repeat(65_536)));
      response.once('drain', more);
    };
    more();
  });
  await expect(consumer(endless).report('reports-db', patience())).rejects.toMatchObject({
    code: 'invalid-answer',
  });
  const dripping = await listen((_, response) => {
    response.setHeader('content-type', 'application/json');
    response.write('{');
  });
  await expect(
    consumer(dripping, { timeoutMs: 200 }).report('reports-db', patience()),
  ).rejects.toMatchObject({ code: 'timeout' });
});

test('a key that is too short, or one of several, is a mistake before anything is sent', async () => {
  const called = vi.fn<RequestListener>((_, response) => response.end());
  const url = await listen(called);
  const fields = [{ key: new Secret('short') }, { a: new Secret(key), b: new Secret(key) }, {}];
  for (const each of fields) {
    const it = consumer(url, { context: { resolveReference: async () => each } });
    for (const work of [it.probe(patience()), it.reload([change], patience())]) {
      await expect(work).rejects.toMatchObject({ code: 'policy-invalid', effect: 'none' });
    }
  }
  expect(called).not.toHaveBeenCalled();
});

test('the key is made known to the redactor', async () => {
  const add = vi.fn();
  const url = await listen(handler().node);
  await consumer(url, { context: { redactor: { add } } }).reload([change], patience());
  const [added] = add.mock.calls.flat() as Secret[];
  expect(added?.reveal()).toBe(key);
});

test('addresses that differ only in their writing are one consumer', () => {
  const id = consumer('http://127.0.0.1:80/reload').id;
  expect(id).toBe('http:127.0.0.1/reload');
  expect(consumer('http://127.0.0.1/x/../reload').id).toBe(id);
  expect(consumer('https://127.0.0.1/reload').id).not.toBe(id);
});

/** The handler alone, as a web server calls it. */
function post(body: string, headers: Record<string, string>): Request {
  return new Request('http://server/reload', { method: 'POST', body, headers });
}

test('the handler refuses what is unsigned, stale, from the future, or no list of changes', async () => {
  const onReload = vi.fn();
  const clock = { now: () => 1_800_000_000_000 };
  const it = handler({ onReload, clock });
  const body = JSON.stringify({ changes: [change] });
  const status = async (text: string, timestamp: string, signature: string) =>
    (await it.fetch(post(text, { [timestampHeader]: timestamp, [signatureHeader]: signature })))
      .status;
  const now = '1800000000';
  expect(await status(body, now, 'v1=00')).toBe(401);
  expect(await status(body, now, signReload('another-key-of-16-bytes', now, body))).toBe(401);
  expect(await status(`${body} `, now, signReload(key, now, body))).toBe(401);
  for (const stale of ['1799999699', '1800000301']) {
    expect(await status(body, stale, signReload(key, stale, body))).toBe(401);
  }
  expect(await status(body, 'soon', signReload(key, 'soon', body))).toBe(401);
  expect(await status('{}', now, signReload(key, now, '{}'))).toBe(400);
  expect((await it.fetch(post(body, {}))).status).toBe(401);
  expect((await it.fetch(post('x'.repeat(1_048_577), {}))).status).toBe(413);
  expect((await it.fetch(new Request('http://server/', { method: 'DELETE' }))).status).toBe(405);
  expect(onReload).not.toHaveBeenCalled();
  for (const fresh of ['1799999701', '1800000299']) {
    expect(await status(body, fresh, signReload(key, fresh, body))).toBe(204);
  }
  expect(onReload).toHaveBeenCalledTimes(2);
});

test('the handler signs no nonce or name that could be mistaken for another message', async () => {
  const it = handler();
  const status = async (query: Record<string, string>) =>
    (await it.fetch(new Request(`http://server/?${new URLSearchParams(query).toString()}`))).status;
  expect(await status({ secret: 'a', nonce: 'n'.repeat(32) })).toBe(200);
  expect(await status({ secret: 'a' })).toBe(400);
  expect(await status({ secret: 'a', nonce: 'short' })).toBe(400);
  expect(await status({ secret: 'a', nonce: `${'n'.repeat(32)}\nb` })).toBe(400);
  expect(await status({ secret: 'a\nb', nonce: 'n'.repeat(32) })).toBe(400);
});

test('a handler needs a key that cannot be guessed', () => {
  expect(() => handler({ key: 'short' })).toThrow(TypeError);
  expect(() => handler({ key: undefined as unknown as string })).toThrow(TypeError);
});
