/** What the lightest test server answers, by stdio and HTTP alike: echo in both eras, without an SDK. */
import { type Message, protocolVersions } from '../load/message.ts';

const capabilities = { tools: { listChanged: true } };
const serverInfo = { name: 'echo-test-server', version: '1.0.0' };
const tools = [
  {
    name: 'echo',
    description: 'Says it again.',
    inputSchema: { type: 'object', properties: { message: { type: 'string' } } },
  },
];

/** null: a notification, which gets no answer. */
export function answerOf({ id, method, params = {} }: Message): string | null {
  if (method === undefined || id === undefined || id === null) return null;
  const result = resultOf(method, params);
  if (result !== null) return JSON.stringify({ jsonrpc: '2.0', id, result });
  const error = { code: -32601, message: `Method not found: ${method}` };
  return JSON.stringify({ jsonrpc: '2.0', id, error });
}

function resultOf(
  method: string,
  params: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> | null {
  switch (method) {
    case 'tools/call': {
      const { message } = params['arguments'] as { message: string };
      return { content: [{ type: 'text', text: `Echo: ${message}` }] };
    }
    case 'tools/list':
      return { tools };
    case 'initialize':
      return {
        protocolVersion: params['protocolVersion'] ?? protocolVersions.legacy,
        capabilities,
        serverInfo,
      };
    case 'server/discover':
      // A probe without the modern envelope is answered as a server of the older eras would.
      if (!JSON.stringify(params['_meta'] ?? {}).includes('protocolVersion')) return null;
      return { supportedVersions: [protocolVersions.modern], capabilities, serverInfo };
    case 'ping':
      return {};
    default:
      return null;
  }
}
