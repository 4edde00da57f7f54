/** The 2026-07-28 test server over stdio. */
import type { McpServer, Transport } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { callKey, type Message, type RpcId } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';
import { modernServers } from './modern-tools.ts';
import { watched } from './watched.ts';

const key = process.env['API_KEY'] ?? 'none';
const log = openCallLog(process.env[logVariable], key);
const factory = modernServers({
  key,
  touch: (server: McpServer, call) =>
    server.server.notification({
      method: 'notifications/resources/updated',
      params: { uri: watched, _meta: { [callKey]: call } },
    }),
});
const wire: Transport = new StdioServerTransport();
serveStdio(factory, {
  legacy: process.env['ERA'] === 'both' ? 'serve' : 'reject',
  transport: wire,
});
// After serveStdio has put its own receiver there: each request is written down before it is served.
const serve = wire.onmessage;
const calls = new Map<RpcId, string>();
wire.onmessage = (message, extra) => {
  const { id, method, params } = message as Message;
  const call = (params?.['_meta'] as Record<string, unknown> | undefined)?.[callKey];
  if (method === 'notifications/cancelled') {
    log.cancelled(calls.get(params?.['requestId'] as RpcId) ?? null);
  } else if (method !== undefined && typeof call === 'string') {
    log.call({ id: call, method, round: params?.['requestState'] === undefined ? 1 : 2 });
    if (id !== undefined && id !== null) calls.set(id, call);
  }
  serve?.(message, extra);
};
