/** Servers that throw back in the face of the caller whatever they were sent, or know: in body, headers, status line, redirects. */
import { createServer, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

export interface Echoes extends AsyncDisposable {
  readonly url: string;
  /** How often a path was asked. */
  asked(path: string): number;
  /** Resolves when the path was asked so often. */
  until(path: string, times: number): Promise<void>;
  /** What stands in the answers of `/reload`: the server knows the key as well. */
  know(text: string): void;
  /** Every credential that was ever sent, with the path. */
  sent(): readonly (readonly [path: string, value: string])[];
}

export async function startEchoes(): Promise<Echoes> {
  const counts = new Map<string, number>();
  const credentials = new Map<string, string>();
  let known = '';
  let stir = Promise.withResolvers<void>();

  const server = createServer((request, response) => {
    void (async () => {
      const path = new URL(request.url ?? '/', 'http://echo').pathname;
      const body = await bodyOf(request);
      const nth = (counts.get(path) ?? 0) + 1;
      counts.set(path, nth);
      stir.resolve();
      stir = Promise.withResolvers();
      const sent = request.headers.authorization ?? '';
      if (sent.startsWith('Bearer ')) credentials.set(sent.slice('Bearer '.length), path);
      const text = JSON.stringify({ sent, body, known });
      const echo = { 'content-type': 'application/json', 'x-sent': encodeURIComponent(sent) };
      switch (path) {
        case '/hang':
          return;
        case '/redirect':
          response.writeHead(302, { ...echo, location: `/other?key=${encodeURIComponent(sent)}` });
          break;
        case '/refuse':
          response.writeHead(401, encodeURIComponent(sent), echo);
          break;
        case '/person':
          response.writeHead(nth % 2 === 1 ? 500 : 200, encodeURIComponent(sent), echo);
          break;
        case '/cut':
          response.writeHead(200, { ...echo, 'content-length': '100000' });
          response.write(text);
          response.socket?.destroySoon();
          return;
        case '/reload':
          if (request.method === 'GET') response.writeHead(200, echo);
          else response.writeHead(request.method === 'HEAD' ? 200 : 500, echo);
          break;
        default:
          response.writeHead(500, encodeURIComponent(sent), echo);
      }
      response.end(text);
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: (path) => counts.get(path) ?? 0,
    until: async (path, times) => {
      while ((counts.get(path) ?? 0) < times) await stir.promise;
    },
    know: (text) => {
      known = text;
    },
    sent: () => [...credentials].map(([value, path]) => [path, value]),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}
