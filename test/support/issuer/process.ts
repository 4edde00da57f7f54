/** The test issuer as a program: its HTTP face for callers, and the control paths for tests. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createIssuer, type Answer } from './issuer.ts';
import { callOf } from './route.ts';
import type { PrincipalSettings } from './settings.ts';
import { openIssuerStore } from './store.ts';

interface Arguments {
  readonly directory: string;
  readonly port: number;
  readonly defaults: Partial<PrincipalSettings>;
}

const args = JSON.parse(process.argv[2] ?? '{}') as Arguments;
const store = openIssuerStore(join(args.directory, 'issuer.sqlite'), args.defaults);
const issuer = createIssuer(store, () => Date.now());

const server = createServer((request, response) => {
  serve(request, response).catch((error: unknown) => {
    process.stderr.write(`test issuer: ${String(error)}\n`);
    if (!response.headersSent) answer(response, { kind: 'answer', status: 500 });
  });
});
server.listen(args.port, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
// Callers keep connections for as long as their tests run: none is closed under a question.
server.keepAliveTimeout = 0;
// Whoever started this ended without saying so: end too.
process.stdin.on('end', () => process.exit(0)).resume();

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://issuer');
  const body = await readJson(request);
  const path = url.pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent);
  const principal = url.searchParams.get('principal') ?? (body['principal'] as string) ?? '';
  switch (`${request.method} /${path[0] ?? ''}`) {
    case 'GET /events': {
      const after = Number(url.searchParams.get('after') ?? 0);
      return answer(response, json({ events: store.events(principal, after) }));
    }
    case 'GET /keys':
      return answer(
        response,
        json({ keys: issuer.keys(principal), late: store.late(principal).length }),
      );
    case 'POST /probe':
      return answer(response, json({ key: issuer.probe(principal, String(body['value'])) }));
    case 'POST /land':
      return answer(response, json({ landed: issuer.land(principal) }));
    case 'POST /clone':
      store.transact(() => {
        store.clone(principal, body['to'] as string);
        store.configure(body['to'] as string, body['settings'] as Partial<PrincipalSettings>);
      });
      return answer(response, json({}));
    case 'POST /configure':
      store.configure(principal, body['settings'] as Partial<PrincipalSettings>);
      return answer(response, json({}));
    default: {
      const { method = 'GET', headers } = request;
      const call = callOf(method, path, headers.authorization, body);
      return answer(
        response,
        call === null ? { kind: 'answer', status: 404 } : issuer.handle(call),
      );
    }
  }
}

function json(body: unknown): Answer {
  return { kind: 'answer', status: 200, body };
}

function answer(response: ServerResponse, given: Answer): void {
  if (given.kind === 'hang') return;
  if (given.kind === 'cut') {
    response.socket?.resetAndDestroy();
    return;
  }
  response.writeHead(given.status, { 'content-type': 'application/json' });
  response.end(given.text ?? JSON.stringify(given.body ?? {}));
}

async function readJson(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? {} : (JSON.parse(text) as Readonly<Record<string, unknown>>);
}
