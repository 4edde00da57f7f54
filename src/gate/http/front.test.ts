import { request } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { Secret } from '../../secret/secret.ts';
import type { Backend } from './backend.ts';
import { type Front, openFront } from './front.ts';
import { frontFor, testAround, token, withToken } from './testing/around.ts';

let front: Front | null = null;
afterEach(async () => {
  await front?.close();
  front = null;
});

const answering: Backend = {
  async handle({ response }) {
    response.writeHead(200).end('in');
  },
  async close() {},
};

/** With any headers, Host included, which fetch does not allow. */
function ask(
  path: string,
  headers: Record<string, string>,
): Promise<{ status: number; text: string; authenticate: string | undefined }> {
  const url = new URL(path, front?.address);
  return new Promise((resolve, reject) => {
    request(url, { method: 'POST', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text,
          authenticate: response.headers['www-authenticate'],
        }),
      );
    })
      .on('error', reject)
      .end();
  });
}

describe('the front', () => {
  test('lets in who holds the token, under each path of a server', async () => {
    front = await frontFor(testAround(), { 'my server': answering });
    for (const path of ['/my%20server/mcp', '/my%20server', '/my%20server/mcp/?x=1']) {
      expect(await ask(path, withToken)).toMatchObject({ status: 200, text: 'in' });
    }
    expect(await ask('/my%20server', { 'x-rotated-token': token })).toMatchObject({ status: 200 });
  });

  test('refuses whoever does not: 401, and nothing reaches the server', async () => {
    front = await frontFor(testAround(), { search: answering });
    const refused: Record<string, string>[] = [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: token },
      { 'x-rotated-token': 'wrong' },
    ];
    for (const headers of refused) {
      const answer = await ask('/search/mcp', headers);
      expect(answer).toMatchObject({ status: 401, authenticate: 'Bearer realm="rotated gate"' });
      expect(answer.text).not.toBe('in');
    }
  });

  test('refuses pages of other sites, by Origin and by Host, token or not', async () => {
    front = await frontFor(testAround(), { search: answering });
    const refused: Record<string, string>[] = [
      { origin: 'https://evil.example' },
      { origin: 'null' },
      { origin: 'http://localhost.evil.example' },
      { origin: 'http://localhost@evil.example' },
      { host: 'evil.example' },
      { host: 'localhost.evil.example:7331' },
    ];
    for (const headers of refused) {
      expect(await ask('/search/mcp', { ...withToken, ...headers })).toMatchObject({ status: 403 });
    }
    const admitted: Record<string, string>[] = [
      { origin: 'http://localhost:6274' },
      { origin: 'http://[::1]' },
      { host: 'localhost:1' },
    ];
    for (const headers of admitted) {
      expect(await ask('/search/mcp', { ...withToken, ...headers })).toMatchObject({ status: 200 });
    }
  });

  test('names the paths there are to whoever asks for another', async () => {
    front = await frontFor(testAround(), { search: answering });
    const answer = await ask('/serach/mcp', withToken);
    expect(answer.status).toBe(404);
    expect(answer.text).toContain('/search/mcp');
  });

  test('does not open to other machines without a token', async () => {
    const options = { ...testAround(), port: 0, hosts: [], backends: new Map() };
    await expect(openFront({ ...options, host: '0.0.0.0', token: null })).rejects.toThrow(
      'without a token',
    );
    front = await openFront({ ...options, host: '0.0.0.0', token: new Secret(token) });
  });

  test('says which address is taken', async () => {
    front = await frontFor(testAround(), {});
    const port = Number(new URL(front.address).port);
    const options = { ...testAround(), port, hosts: [], backends: new Map() };
    await expect(
      openFront({ ...options, host: '127.0.0.1', token: new Secret(token) }),
    ).rejects.toThrow(`127.0.0.1:${port} (EADDRINUSE)`);
  });
});
