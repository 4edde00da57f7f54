/** A loopback issuer for benchmarks: keys in memory, an answer after a set time, and nothing else, so that it is not what is measured. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Key {
  readonly ref: string;
  readonly name: string;
  readonly value: string;
  readonly createdAt: number;
}

const accounts = new Map<string, Map<string, Key>>();
let delayMs = 0;
let made = 0;
let calls = 0;

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts).toString('utf8');
    const [status, answer] = handle(request, body);
    const text = JSON.stringify(answer);
    setTimeout(() => respond(response, status, text), delayMs);
  });
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
// Whoever started this ended without saying so: end too.
process.stdin.on('end', () => process.exit(0)).resume();

/** `/ACCOUNT/keys`, `/ACCOUNT/keys/REF`, `/ACCOUNT/verify`; `/control?delayMs=20` answers how many calls there were. */
function handle({ method, url, headers }: IncomingMessage, body: string): [number, unknown] {
  const place = new URL(url ?? '/', 'http://issuer');
  const [account = '', noun, ref] = place.pathname.split('/').filter((part) => part !== '');
  if (account === 'control') {
    delayMs = Number(place.searchParams.get('delayMs') ?? delayMs);
    return [200, { calls }];
  }
  calls++;
  const keys = accounts.get(account) ?? new Map<string, Key>();
  accounts.set(account, keys);
  if (noun === 'verify') {
    const value = headers.authorization?.slice('Bearer '.length);
    const found = [...keys.values()].some((key) => key.value === value);
    return found ? [200, {}] : [401, {}];
  }
  if (method === 'GET') {
    return [
      200,
      [...keys.values()].map(({ ref: id, name, createdAt }) => ({
        ref: id,
        name,
        createdAt,
        enabled: true,
      })),
    ];
  }
  if (method === 'DELETE') return keys.delete(ref ?? '') ? [200, {}] : [404, {}];
  made++;
  const key = {
    ref: `key-${made}`,
    name: (JSON.parse(body) as { name: string }).name,
    value: `value-${account}-${made}`,
    createdAt: Date.now(),
  };
  keys.set(key.ref, key);
  return [200, { ref: key.ref, value: key.value }];
}

function respond(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(text);
}
