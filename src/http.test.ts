import { expect, test } from 'vitest';
import { callHttp, checkedUrl, isLoopback } from './http.ts';

test.each([
  ['http://localhost:80/', true],
  ['http://127.0.0.1/', true],
  ['http://127.9.8.7/', true],
  ['http://[::1]/', true],
  ['http://2130706433/', true],
  ['http://127.0.0.1.example/', false],
  ['http://localhost.example/', false],
  ['http://10.0.0.1/', false],
  ['http://[::ffff:10.0.0.1]/', false],
  ['http://0.0.0.0/', false],
])('%s stays on this machine: %s', (url, expected) => {
  expect(isLoopback(new URL(url))).toBe(expected);
});

test('an address with a login, of another scheme, or plain across a network is refused without being repeated', () => {
  for (const address of [
    'https://user:canary-77@host/',
    'ftp://host/canary-77',
    'canary-77',
    'http://host.example/',
  ]) {
    let thrown: unknown;
    try {
      checkedUrl(address, 'loopback');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'policy-invalid' });
    expect(JSON.stringify(thrown)).not.toContain('canary-77');
  }
});

test('a header that fetch refuses is not quoted in the error', async () => {
  const error = await callHttp(globalThis.fetch, {
    url: new URL('http://127.0.0.1:9/'),
    method: 'GET',
    headers: { authorization: 'canary-77\nx' },
    timeoutMs: 1_000,
    signal: AbortSignal.timeout(5_000),
  }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'unavailable' });
  expect(JSON.stringify(error) + String((error as Error).stack)).not.toContain('canary-77');
});
