/** The health port: is the daemon alive, is it ready, what does Prometheus see. Answers GET alone, and holds no secret. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RotatedError } from '../errors.ts';
import { parseListen } from '../listen.ts';

export interface Health {
  /** null: alive. Else one sentence about what is wrong. */
  alive(): string | null;
  /** null: ready. Alive, owner of its state, policies applied, not stopping. */
  ready(): string | null;
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
}

export interface HealthServer {
  /** As bound: with the port that was chosen where 0 was asked for. */
  readonly address: string;
  close(): Promise<void>;
}

export async function serveHealth(listen: string, health: Health): Promise<HealthServer> {
  const { host, port } = parseListen(listen);
  const server = createServer((request, response) => {
    answer(request, response, health).catch(() => {
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  server.headersTimeout = 5_000;
  server.requestTimeout = 5_000;
  server.maxConnections = 64;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new RotatedError(
          'refused',
          `Nothing can listen on ${listen} (${error.code ?? 'unknown'}).`,
          {
            next: 'Name a free address: --listen 127.0.0.1:PORT.',
          },
        ),
      );
    });
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  health: Health,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
    return;
  }
  switch (request.url?.split('?')[0]) {
    case '/healthz':
      state(response, health.alive());
      return;
    case '/readyz':
      state(response, health.alive() ?? health.ready());
      return;
    case '/metrics': {
      const text = await health.metrics.render();
      response.writeHead(200, { 'content-type': health.metrics.contentType }).end(text);
      return;
    }
    default:
      response.writeHead(404).end();
  }
}

function state(response: ServerResponse, wrong: string | null): void {
  response
    .writeHead(wrong === null ? 200 : 503, { 'content-type': 'application/json' })
    .end(`${JSON.stringify({ ok: wrong === null, reason: wrong })}\n`);
}
