/** The load generator's connection over Streamable HTTP, both eras: one POST for each message, answers as JSON or as events. */
import { type Connection, type Exchange, openConnection } from './http-connection.ts';
import { type Era, type Message, protocolVersions, type Request, type RpcId } from './message.ts';
import type { Receiver, Transport } from './transport.ts';

export interface HttpOptions {
  readonly url: string;
  readonly era: Era;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface HttpTransport extends Transport {
  /** Legacy only: the stream on which the server speaks unasked. Resolves when it stands. */
  openStream(): Promise<void>;
  /** As the server gave it; null in the modern era. */
  sessionId(): string | null;
}

/** A connection that rested for longer is not used again: the server may be closing it at this very moment. */
const restMsMax = 2_000;

export function openHttp({ url, era, headers: own = {} }: HttpOptions): HttpTransport {
  const { hostname, port, pathname } = new URL(url);
  const idle: { readonly connection: Connection; readonly sinceMs: number }[] = [];
  const all = new Set<Connection>();
  const underWay = new Map<RpcId, Connection>();
  let receiver: Receiver | null = null;
  let session: string | null = null;
  let version: string | null = null;

  const acquire = (): Connection => {
    for (let rest = idle.pop(); rest !== undefined; rest = idle.pop()) {
      if (performance.now() - rest.sinceMs < restMsMax) return rest.connection;
      rest.connection.destroy();
    }
    const connection = openConnection(
      hostname,
      Number(port),
      (free) => idle.push({ connection: free, sinceMs: performance.now() }),
      (gone) => {
        all.delete(gone);
        const at = idle.findIndex((rest) => rest.connection === gone);
        if (at !== -1) idle.splice(at, 1);
      },
    );
    all.add(connection);
    return connection;
  };

  const baseHeaders = (): Record<string, string> => ({
    ...own,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...(session === null ? {} : { 'mcp-session-id': session }),
    ...(version === null ? {} : { 'mcp-protocol-version': version }),
  });

  const onMessage = (message: Message) => {
    const legacyVersion = message.result?.['protocolVersion'];
    if (era === 'legacy' && typeof legacyVersion === 'string') version = legacyVersion;
    receiver?.message(message);
  };

  const post = (body: string, id: RpcId | null, headers: Readonly<Record<string, string>>) => {
    const connection = acquire();
    if (id !== null) underWay.set(id, connection);
    connection.start(
      exchange({
        method: 'POST',
        path: pathname,
        headers: { ...baseHeaders(), ...headers },
        body,
        id,
        onSession: (given) => {
          session = given;
        },
        onMessage,
        onOver: (problem) => {
          if (id === null) return;
          underWay.delete(id);
          if (problem !== null) receiver?.broken(id, problem);
        },
      }),
    );
  };

  return {
    sessionId: () => session,
    request: (request) =>
      post(
        JSON.stringify({ jsonrpc: '2.0', ...request }),
        request.id,
        era === 'modern' ? modernHeaders(request) : {},
      ),
    notify: (method, params) => post(JSON.stringify({ jsonrpc: '2.0', method, params }), null, {}),
    answer: (id, result) => post(JSON.stringify({ jsonrpc: '2.0', id, result }), null, {}),
    cancel: (requestId) => {
      if (era === 'modern') underWay.get(requestId)?.destroy();
      else {
        const params = { requestId, reason: 'no longer wanted' };
        post(
          JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params }),
          null,
          {},
        );
      }
    },
    receive: (next) => {
      receiver = next;
    },
    openStream: () =>
      new Promise((resolve, reject) => {
        acquire().start({
          ...exchange({
            method: 'GET',
            path: pathname,
            headers: { ...baseHeaders(), accept: 'text/event-stream' },
            body: '',
            id: null,
            onSession: () => {},
            onMessage,
            onOver: (problem) => reject(new Error(problem ?? 'The stream ended.')),
            onHead: (status) => {
              if (status === 200) resolve();
              else reject(new Error(`The stream was refused with ${status}.`));
            },
          }),
        });
      }),
    close: async () => {
      for (const connection of all) connection.destroy();
    },
  };
}

function modernHeaders({ method, params }: Request): Record<string, string> {
  const name = params['name'] ?? params['uri'];
  const named = ['tools/call', 'prompts/get', 'resources/read'].includes(method);
  return {
    'mcp-protocol-version': protocolVersions.modern,
    'mcp-method': method,
    ...(named && typeof name === 'string' ? { 'mcp-name': name } : {}),
  };
}

interface ExchangeOptions {
  readonly method: Exchange['method'];
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Of the request that this exchange answers; null: nothing is expected. */
  readonly id: RpcId | null;
  onSession(id: string): void;
  onMessage(message: Message): void;
  onOver(problem: string | null): void;
  onHead?(status: number): void;
}

function exchange(options: ExchangeOptions): Exchange {
  const { id } = options;
  let status = 0;
  let isEvents = false;
  let text = '';
  let answered = false;
  const deliver = (json: string) => {
    const message = JSON.parse(json) as Message;
    if (message.method === undefined) {
      answered = true;
      // An error that could not be tied to a request is this request's.
      const owner = message.id ?? id;
      options.onMessage(owner === null ? message : { ...message, id: owner });
    } else options.onMessage(message);
  };
  const events = () => {
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
      const lines = text.slice(0, end).split('\n');
      text = text.slice(end + 2);
      const data = lines
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice('data:'.length).trim())
        .join('\n');
      if (data !== '') deliver(data);
    }
  };
  return {
    method: options.method,
    path: options.path,
    headers: options.headers,
    body: options.body,
    head: (code, headers) => {
      status = code;
      isEvents = headers.get('content-type')?.startsWith('text/event-stream') ?? false;
      const session = headers.get('mcp-session-id');
      if (session !== undefined) options.onSession(session);
      options.onHead?.(code);
    },
    data: (part) => {
      text += part.replaceAll('\r\n', '\n');
      if (isEvents) events();
    },
    over: (problem) => {
      const isJson = text.trimStart().startsWith('{');
      if (problem === null && !isEvents && isJson && id !== null) deliver(text);
      if (answered || id === null) options.onOver(null);
      else options.onOver(problem ?? `HTTP ${status} without an answer: ${text.slice(0, 100)}`);
    },
  };
}
