/** A real MCP server over HTTP for tests: both eras of the SDK, a key that it wants, and a record of what came. */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type NodeIncomingMessageLike, toNodeHandler } from '@modelcontextprotocol/node';
import {
  createMcpHandler,
  type EventStore,
  fromJsonSchema,
  isLegacyRequest,
  type JSONRPCMessage,
  McpServer,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server';

export interface TestUpstream extends AsyncDisposable {
  readonly url: string;
  /** Keys that are accepted: `Bearer KEY`. */
  readonly keys: Set<string>;
  /** Every request there was. */
  readonly seen: { readonly method: string; readonly headers: IncomingHttpHeaders }[];
  /** Called with what to do to let a `hold` call go on. */
  held(): Promise<() => void>;
  /** As after a restart without a memory. */
  forgetSessions(): void;
  /** Says that tools changed, to whoever listens. */
  toolsChanged(): void;
  /** Resolves at the next request that fits. */
  next(fits: (request: { method: string; headers: IncomingHttpHeaders }) => boolean): Promise<void>;
}

export async function startUpstream(
  key: string,
  { resumable = false }: { readonly resumable?: boolean } = {},
): Promise<TestUpstream> {
  const keys = new Set([key]);
  const seen: TestUpstream['seen'] = [];
  const waiting = new Set<(request: { method: string; headers: IncomingHttpHeaders }) => void>();
  const sessions = new Map<
    string,
    { transport: WebStandardStreamableHTTPServerTransport; server: McpServer }
  >();
  const holds: (() => void)[] = [];
  const holdWaiters: ((release: () => void) => void)[] = [];
  const hold = () =>
    new Promise<void>((resolve) => {
      const waiter = holdWaiters.shift();
      if (waiter === undefined) holds.push(resolve);
      else waiter(resolve);
    });

  const mcpServer = () => {
    const server = new McpServer(
      { name: 'upstream', version: '1.0.0' },
      { capabilities: { tools: { listChanged: true }, logging: {} } },
    );
    const none = fromJsonSchema<Record<string, never>>({ type: 'object' });
    server.registerTool('hold', { inputSchema: none }, async () => {
      await hold();
      return { content: [{ type: 'text', text: 'held' }] };
    });
    server.registerTool('keys', { inputSchema: none }, async () => ({
      content: [{ type: 'text', text: [...keys].join(' ') }],
    }));
    server.registerTool('large', { inputSchema: none }, async () => ({
      content: [{ type: 'text', text: 'x'.repeat(8 << 20) }],
    }));
    return server;
  };
  const modern = createMcpHandler(mcpServer, { legacy: 'reject' });
  const legacy = async (request: Request): Promise<Response> => {
    const id = request.headers.get('mcp-session-id');
    if (id !== null) {
      const session = sessions.get(id);
      if (session === undefined) return new Response(null, { status: 404 });
      return session.transport.handleRequest(request);
    }
    const server = mcpServer();
    const transport: WebStandardStreamableHTTPServerTransport =
      new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        // The adapter holds back the head of a stream until something stands on it.
        keepAliveMs: 20,
        ...(resumable ? { eventStore: eventStore() } : {}),
        onsessioninitialized: (name) => {
          sessions.set(name, { transport, server });
        },
      });
    await server.connect(transport);
    return transport.handleRequest(request);
  };
  const handle = toNodeHandler({
    fetch: async (request) =>
      (await isLegacyRequest(request)) ? legacy(request) : modern.fetch(request),
  });
  const http = createServer((request, response) => {
    const record = { method: request.method ?? '', headers: request.headers };
    seen.push(record);
    for (const one of waiting) one(record);
    const given = request.headers.authorization?.replace(/^Bearer /, '') ?? '';
    if (!keys.has(given)) {
      response.writeHead(401, { 'www-authenticate': 'Bearer' }).end('{"error":"key"}');
      return;
    }
    void handle(request as NodeIncomingMessageLike, response);
  });
  await new Promise<void>((resolve) => {
    http.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`,
    keys,
    seen,
    held: () =>
      new Promise((resolve) => {
        const release = holds.shift();
        if (release === undefined) holdWaiters.push(resolve);
        else resolve(release);
      }),
    forgetSessions: () => sessions.clear(),
    toolsChanged() {
      modern.notify.toolsChanged();
      for (const { server } of sessions.values()) server.sendToolListChanged();
    },
    next: (fits) =>
      new Promise((resolve) => {
        const look = (request: { method: string; headers: IncomingHttpHeaders }) => {
          if (!fits(request)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
      }),
    async [Symbol.asyncDispose]() {
      await modern.close();
      const closed = new Promise((resolve) => http.close(resolve));
      http.closeAllConnections();
      await closed;
    },
  };
}

function eventStore(): EventStore {
  const events: { id: string; streamId: string; message: JSONRPCMessage }[] = [];
  return {
    storeEvent: async (streamId, message) => {
      events.push({ id: `${streamId}_${events.length}`, streamId, message });
      return `${streamId}_${events.length - 1}`;
    },
    getStreamIdForEventId: async (id) => events.find((event) => event.id === id)?.streamId,
    replayEventsAfter: async (lastId, { send }) => {
      const from = events.findIndex((event) => event.id === lastId);
      const streamId = events[from]?.streamId ?? '';
      for (const event of events.slice(from + 1)) {
        if (event.streamId === streamId) await send(event.id, event.message);
      }
      return streamId;
    },
  };
}
