/** Loaded into server-everything before its own code (`node --import`): writes down each request as the server parsed it. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { callKey, type Message, type RpcId } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';

/** As much of the SDK's classes as is touched here. */
interface ReadBufferClass {
  prototype: { readMessage(): Message | null };
}
interface ServerClass {
  prototype: {
    connect(transport: unknown): Promise<void>;
    registerTool(name: string, config: object, run: Handler): unknown;
  };
}
type Handler = (args: unknown, extra: Extra) => unknown;
interface Extra {
  readonly _meta?: Readonly<Record<string, unknown>>;
  sendRequest(
    request: { readonly method: string; readonly params: Readonly<Record<string, unknown>> },
    ...rest: readonly unknown[]
  ): unknown;
}

const key = process.env['API_KEY'] ?? 'none';
const log = openCallLog(process.env[logVariable], key);

const entry = process.argv[1];
if (entry === undefined) throw new Error('Nothing is to be run.');
const sdk = await loadSdk(entry);
countRequests(sdk.ReadBuffer);
changeTools(sdk.McpServer);

/** The same module files that the server itself imports. */
async function loadSdk(server: string) {
  const { resolve } = createRequire(server);
  const load = async (name: string): Promise<Record<string, unknown>> =>
    await import(pathToFileURL(resolve(name).replace('/cjs/', '/esm/')).href);
  const stdio = await load('@modelcontextprotocol/sdk/shared/stdio.js');
  const mcp = await load('@modelcontextprotocol/sdk/server/mcp.js');
  return {
    ReadBuffer: stdio['ReadBuffer'] as ReadBufferClass,
    McpServer: mcp['McpServer'] as ServerClass,
  };
}

function countRequests({ prototype }: ReadBufferClass): void {
  const calls = new Map<RpcId, string>();
  const original = prototype.readMessage;
  prototype.readMessage = function readMessage(this: unknown) {
    const message = original.call(this as ReadBufferClass['prototype']);
    if (message?.method === undefined) return message;
    if (message.method === 'notifications/cancelled') {
      log.cancelled(calls.get(message.params?.['requestId'] as RpcId) ?? null);
    } else if (message.id !== undefined && message.id !== null) {
      const id = (message.params?.['_meta'] as Record<string, unknown> | undefined)?.[callKey];
      if (typeof id === 'string') {
        calls.set(message.id, id);
        log.call({ id, method: message.method });
      }
    }
    return message;
  };
}

/** An elicitation tells which call it belongs to; a key with `-tools` in it opens one more tool. */
function changeTools({ prototype }: ServerClass): void {
  const register = prototype.registerTool;
  prototype.registerTool = function registerTool(name, config, run) {
    if (name !== 'trigger-elicitation-request') return register.call(this, name, config, run);
    return register.call(this, name, config, (args, extra) => {
      const id = String(extra._meta?.[callKey]);
      return run(args, {
        ...extra,
        sendRequest: (request, ...rest) => {
          const message = `${String(request.params['message'])} [${id}]`;
          return extra.sendRequest({ ...request, params: { ...request.params, message } }, ...rest);
        },
      });
    });
  };
  const connect = prototype.connect;
  prototype.connect = function connectMore(transport) {
    const count = Number(/-tools(\d+)/.exec(key)?.[1] ?? 0);
    for (let n = 1; n <= count; n += 1) {
      const config = { description: 'Opened by the key.', inputSchema: {} };
      register.call(this, `extra-${n}`, config, () => ({ content: [] }));
    }
    return connect.call(this, transport);
  };
}
