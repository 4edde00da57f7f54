/** The 2026-07-28 test server over HTTP: prints `{"port"}`, takes its key from each request's Authorization header, ends with its stdin. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler } from '@modelcontextprotocol/server';
import { callKey, type Message } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';
import { modernServers } from './modern-tools.ts';
import { watched } from './watched.ts';

const key = process.env['API_KEY'] ?? 'none';
const log = openCallLog(process.env[logVariable], key);
const handler = createMcpHandler(
  modernServers({
    key,
    touch: (_, call) =>
      handler.bus.publish({
        kind: 'resource_updated',
        uri: watched,
        params: { _meta: { [callKey]: call } },
      }),
  }),
  { legacy: 'reject' },
);
const handle = toNodeHandler(handler);

const server = createServer((request, response) => {
  void read(request).then((body) => {
    const { method = '', params } = body as Message;
    const call = (params?.['_meta'] as Record<string, unknown> | undefined)?.[callKey];
    if (typeof call === 'string') {
      // Over HTTP, a client cancels by closing the stream.
      response.on('close', () => {
        if (!response.writableFinished) log.cancelled(call);
      });
      const used = request.headers.authorization?.replace(/^Bearer /, '') ?? key;
      log.call({
        id: call,
        method,
        round: params?.['requestState'] === undefined ? 1 : 2,
        key: used,
      });
    }
    return handle(request as Parameters<typeof handle>[0], response, body);
  });
});
// A stall of this machine must not look like a client that rests.
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();

async function read(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? undefined : JSON.parse(text);
}
