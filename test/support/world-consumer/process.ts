/** The test applications as a program: one process serves the apps of many principals. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { issuerControl, type IssuerControl } from '../issuer/server.ts';
import { createApp, type App, type AppSettings } from './app.ts';

const apps = new Map<string, App>();
const issuers = new Map<string, IssuerControl>();

const server = createServer((request, response) => {
  serve(request, response).catch((error: unknown) => {
    process.stderr.write(`test app: ${String(error)}\n`);
    if (!response.headersSent) answer(response, 500, {});
  });
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
// Callers keep connections for as long as their tests run: none is closed under a question.
server.keepAliveTimeout = 0;
// Whoever started this ended without saying so: end too.
process.stdin.on('end', () => process.exit(0)).resume();

/** `/app/NAME` is the reload address of one app; the rest is for tests. */
async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://app');
  const [, root = '', name = ''] = url.pathname.split('/').map(decodeURIComponent);
  if (root === 'app') {
    const app = apps.get(name);
    if (app === undefined) answer(response, 404, {});
    else app.handler.node(request, response);
    return;
  }
  const app = apps.get(name);
  switch (`${request.method} ${root}`) {
    case 'POST configure':
      await configure(name, await readJson<AppSettings>(request));
      return answer(response, 200, {});
    case 'POST forget':
      apps.delete(name);
      return answer(response, 200, {});
    case 'GET serving':
      return answer(response, 200, { instances: (await app?.serving()) ?? [] });
    case 'POST use':
      return answer(response, 200, { uses: (await app?.use()) ?? [] });
    default:
      return answer(response, 404, {});
  }
}

async function configure(name: string, settings: AppSettings): Promise<void> {
  const issuer = issuers.get(settings.issuer) ?? issuerControl(settings.issuer);
  issuers.set(settings.issuer, issuer);
  apps.set(name, await createApp(settings, issuer));
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

async function readJson<T>(request: IncomingMessage): Promise<T> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString('utf8')) as T;
}
