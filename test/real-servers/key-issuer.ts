/** An issuer of API keys on this machine, and the API behind them: it refuses dead keys, and logs every use of every key. */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** One request to the API, in order of arrival. Asking about a key (`POST /keys/verify`) is none. */
export interface Use {
  /** null where there never was such a key. */
  readonly ref: string | null;
  readonly afterRevoke: boolean;
  readonly path: string;
}

export interface KeyIssuer extends AsyncDisposable {
  readonly url: string;
  readonly adminToken: string;
  readonly uses: readonly Use[];
  refOf(value: string): string | null;
}

interface Key {
  readonly ref: string;
  readonly name: string;
  readonly value: string;
  readonly createdAt: number;
  readonly token: string;
  isRevoked: boolean;
}

/** So that calls are in flight whenever a server is swapped. */
const slowMs = 300;

export async function startKeyIssuer(prefix: string): Promise<KeyIssuer> {
  const keys: Key[] = [];
  const uses: Use[] = [];
  const adminToken = randomBytes(24).toString('base64url');
  const byValue = (value: string) => keys.find((key) => key.value === value);
  const server = createServer((request, response) => {
    serve(request, response).catch((error: unknown) => {
      process.stderr.write(`key issuer: ${String(error)}\n`);
      response.destroy();
    });
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://issuer');
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const body = await readJson(request);
    if (url.pathname.startsWith('/keys')) {
      if (bearer !== adminToken) return json(response, 401, { message: 'not an admin' });
      return administer(request.method ?? '', url, body, response);
    }
    const key = byValue(bearer);
    uses.push({
      ref: key?.ref ?? null,
      afterRevoke: key?.isRevoked === true,
      path: url.pathname,
    });
    if (key === undefined || key.isRevoked) return json(response, 401, { message: 'dead key' });
    return answerApi(key, url, body, response);
  }

  function administer(
    method: string,
    url: URL,
    body: Readonly<Record<string, unknown>>,
    response: ServerResponse,
  ): void {
    const ref = url.pathname.split('/')[2];
    if (method === 'GET') {
      const shown = keys.filter((key) => !key.isRevoked);
      return json(response, 200, {
        keys: shown.map(({ ref, name, createdAt }) => ({ ref, name, createdAt, enabled: true })),
      });
    }
    if (method === 'DELETE') {
      const key = keys.find((one) => one.ref === ref);
      if (key !== undefined) key.isRevoked = true;
      return json(response, 200, {});
    }
    if (ref === 'verify') {
      const key = byValue(String(body['value']));
      return json(response, 200, { isAlive: key !== undefined && !key.isRevoked });
    }
    // The same token gives the same key: a mint whose answer was lost can be repeated.
    const token = String(body['token']);
    let key = keys.find((one) => one.token === token);
    if (key === undefined) {
      key = {
        ref: `key-${keys.length + 1}`,
        name: String(body['name']),
        value: prefix + randomBytes(24).toString('base64url'),
        createdAt: Date.now(),
        token,
        isRevoked: false,
      };
      keys.push(key);
    }
    return json(response, 200, { ref: key.ref, value: key.value });
  }

  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    adminToken,
    uses,
    refOf: (value) => byValue(value)?.ref ?? null,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}

/** Every answer says which key it was given for, beside what was asked. */
async function answerApi(
  { ref }: Key,
  url: URL,
  body: Readonly<Record<string, unknown>>,
  response: ServerResponse,
): Promise<void> {
  const query = url.searchParams.get('query') ?? textIn(body, 'query');
  switch (url.pathname) {
    case '/v2/libs/search':
      return json(response, 200, {
        results: [{ id: '/demo/library', title: `${query} ${ref}`, description: 'a library' }],
      });
    case '/v2/context':
      await delay(slowMs);
      response.writeHead(200, { 'content-type': 'text/plain' }).end(`${query} ${ref}`);
      return;
    case '/search':
      return json(response, 200, {
        results: [{ title: `${query} ${ref}`, url: 'https://example.com/', snippet: 'found' }],
      });
    case '/v1/agent':
      return stream(response, `${said(body)} ${ref}`);
    default:
      return json(response, 404, { message: 'no such path' });
  }
}

/** An answer that comes in parts, as an agent's does. */
async function stream(response: ServerResponse, text: string): Promise<void> {
  const send = (event: object) => response.write(`data: ${JSON.stringify(event)}\n\n`);
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  send({ type: 'response.created', response: { id: 'run' } });
  send({ type: 'response.reasoning.search_queries', queries: ['something'] });
  await delay(slowMs);
  const content = [{ type: 'output_text', text }];
  const output = [{ type: 'message', role: 'assistant', content }];
  send({ type: 'response.completed', response: { id: 'run', status: 'completed', output } });
  response.end();
}

function said(body: Readonly<Record<string, unknown>>): string {
  const [first] = (body['input'] ?? []) as readonly Readonly<Record<string, unknown>>[];
  return textIn(first ?? {}, 'content');
}

function textIn(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  return typeof value === 'string' ? value : '';
}

async function readJson(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? {} : (JSON.parse(text) as Readonly<Record<string, unknown>>);
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
