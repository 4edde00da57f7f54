/** A client for tests that speaks to the gate in bare HTTP, so that a test sees what stands on the wire. */
import { createEventSplitter, type ServerEvent } from '../events.ts';

export const legacyHeaders = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
};

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** The messages of the answer, as JSON or as events. */
  readonly messages: readonly Message[];
}

export interface Message {
  readonly id?: string | number | null;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { code: number; message: string; data?: Record<string, unknown> };
}

export async function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...legacyHeaders, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return {
    status: response.status,
    headers: response.headers,
    messages: messagesOf(response, Buffer.from(await response.arrayBuffer())),
  };
}

function messagesOf(response: Response, body: Buffer): Message[] {
  if (response.headers.get('content-type')?.startsWith('text/event-stream') === true) {
    return createEventSplitter()(body).flatMap((event) => messageOf(event) ?? []);
  }
  if (body.length === 0) return [];
  const parsed = JSON.parse(body.toString()) as Message | Message[];
  return Array.isArray(parsed) ? parsed : [parsed];
}

export interface EventStream {
  readonly response: Response;
  /** The next message; null at the end. */
  next(): Promise<Message | null>;
  lastId(): string | null;
  /** Resolves once an event had an id; somebody must be reading. */
  identified(): Promise<void>;
  close(): void;
}

/** Opens a stream of events: a GET, or a POST with a body. */
export async function openStream(
  url: string,
  headers: Record<string, string>,
  body?: unknown,
): Promise<EventStream> {
  const ending = new AbortController();
  const response = await fetch(url, {
    method: body === undefined ? 'GET' : 'POST',
    headers:
      body === undefined
        ? { accept: 'text/event-stream', ...headers }
        : { ...legacyHeaders, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: ending.signal,
  });
  const reader = response.body?.getReader();
  const split = createEventSplitter();
  const ready: Message[] = [];
  let lastId: string | null = null;
  const identified = Promise.withResolvers<void>();
  return {
    identified: () => identified.promise,
    response,
    lastId: () => lastId,
    async next() {
      for (;;) {
        const message = ready.shift();
        if (message !== undefined) return message;
        const read = await reader?.read();
        if (read === undefined || read.done) return null;
        for (const event of split(Buffer.from(read.value))) {
          lastId = event.id ?? lastId;
          if (lastId !== null) identified.resolve();
          const found = messageOf(event);
          if (found !== null) ready.push(found);
        }
      }
    },
    close: () => ending.abort(),
  };
}

function messageOf({ frame }: ServerEvent): Message | null {
  return frame === null ? null : (JSON.parse(frame.toString()) as Message);
}

export const modernVersion = '2026-07-28';

/** A request of 2026-07-28 and the headers that repeat it. */
export function modern(
  id: string | number,
  method: string,
  params: Record<string, unknown> = {},
  meta: Record<string, unknown> = {},
): { readonly body: object; readonly headers: Record<string, string> } {
  const name = params['name'] ?? params['uri'];
  return {
    body: {
      jsonrpc: '2.0',
      id,
      method,
      params: {
        ...params,
        _meta: {
          'io.modelcontextprotocol/protocolVersion': modernVersion,
          'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
          'io.modelcontextprotocol/clientCapabilities': {},
          ...meta,
        },
      },
    },
    headers: {
      'mcp-protocol-version': modernVersion,
      'mcp-method': method,
      ...(typeof name === 'string' ? { 'mcp-name': name } : {}),
    },
  };
}

export function initialize(id: string | number, version = '2025-11-25'): object {
  return {
    jsonrpc: '2.0',
    id,
    method: 'initialize',
    params: {
      protocolVersion: version,
      capabilities: { elicitation: {}, sampling: {} },
      clientInfo: { name: 'test', version: '1' },
    },
  };
}

export const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' };

export function call(
  id: string | number,
  name: string,
  args: Record<string, unknown> = {},
  meta?: Record<string, unknown>,
): object {
  return {
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name, arguments: args, ...(meta === undefined ? {} : { _meta: meta }) },
  };
}
