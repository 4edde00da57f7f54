/** The lightest server there can be, so that a relay in front of it is what costs: echo in both eras, without an SDK. */
import { createLineSplitter } from '../load/lines.ts';
import { callKey, type Message, protocolVersions, type RpcId } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';

const log = openCallLog(process.env[logVariable], process.env['API_KEY'] ?? 'none');
const capabilities = { tools: { listChanged: true } };
const serverInfo = { name: 'echo-test-server', version: '1.0.0' };
const tools = [
  {
    name: 'echo',
    description: 'Says it again.',
    inputSchema: { type: 'object', properties: { message: { type: 'string' } } },
  },
];

process.stdin.on(
  'data',
  createLineSplitter((line) => {
    const { id, method, params } = JSON.parse(line) as Message;
    if (method === undefined || id === undefined || id === null) return;
    const call = (params?.['_meta'] as Record<string, unknown> | undefined)?.[callKey];
    if (typeof call === 'string') log.call(call);
    answer(id, method, params ?? {});
  }),
);

function answer(id: RpcId, method: string, params: Readonly<Record<string, unknown>>): void {
  switch (method) {
    case 'tools/call': {
      const { message } = params['arguments'] as { message: string };
      return result(id, { content: [{ type: 'text', text: `Echo: ${message}` }] });
    }
    case 'tools/list':
      return result(id, { tools });
    case 'initialize':
      return result(id, {
        protocolVersion: params['protocolVersion'] ?? protocolVersions.legacy,
        capabilities,
        serverInfo,
      });
    case 'server/discover':
      // A probe without the modern envelope is answered as a server of the older eras would.
      if (JSON.stringify(params['_meta'] ?? {}).includes('protocolVersion')) {
        return result(id, {
          supportedVersions: [protocolVersions.modern],
          capabilities,
          serverInfo,
        });
      }
      break;
    case 'ping':
      return result(id, {});
    default:
  }
  const error = { code: -32601, message: `Method not found: ${method}` };
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, error })}\n`);
}

function result(id: RpcId, value: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, result: value })}\n`);
}
