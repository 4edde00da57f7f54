/** A real MCP server by stdio for tests, of the SDK: ERA says which eras it speaks, KEY is what it holds. */
import { appendFileSync } from 'node:fs';
import { fromJsonSchema, McpServer } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';

const key = process.env['KEY'] ?? 'none';
const journal = process.env['JOURNAL'];
const era = process.env['ERA'];
const isModern = era !== 'legacy';
/** What a test wants to know that no answer tells. */
const note = (text: string) => {
  if (journal !== undefined) appendFileSync(journal, `${process.pid} ${text}\n`);
};
note(`start ${key}`);
process.on('exit', () => note('exit'));

const none = fromJsonSchema<Record<string, never>>({ type: 'object' });
const text = (given: string) => ({ content: [{ type: 'text' as const, text: given }] });
const releases = new Map<string, () => void>();

function create(): McpServer {
  const server = new McpServer(
    { name: 'stdio', version: '1.0.0' },
    {
      capabilities: { tools: { listChanged: true }, logging: {}, resources: { subscribe: true } },
    },
  );
  server.registerTool('key', { inputSchema: none }, async () => text(key.slice(-6)));
  server.registerTool('pid', { inputSchema: none }, async () => text(String(process.pid)));
  const named = fromJsonSchema<{ name: string }>({
    type: 'object',
    properties: { name: { type: 'string' } },
    required: ['name'],
  });
  server.registerTool('hold', { inputSchema: named }, async ({ name }, context) => {
    note(`hold ${name}`);
    await new Promise<void>((resolve) => {
      releases.set(name, resolve);
      context.mcpReq.signal.addEventListener('abort', () => {
        note(`cancelled ${name}`);
        resolve();
      });
    });
    return text(`held ${name} ${key.slice(-6)}`);
  });
  server.registerTool('release', { inputSchema: named }, async ({ name }) => {
    releases.get(name)?.();
    releases.delete(name);
    return text('released');
  });
  const counted = fromJsonSchema<{ steps: number }>({
    type: 'object',
    properties: { steps: { type: 'integer' } },
    required: ['steps'],
  });
  server.registerTool('steps', { inputSchema: counted }, async ({ steps }, context) => {
    const { progressToken } = context.mcpReq._meta ?? {};
    if (progressToken === undefined) return text('done');
    for (let progress = 1; progress <= steps; progress++) {
      await context.mcpReq.notify({
        method: 'notifications/progress',
        params: { progressToken, progress, total: steps },
      });
    }
    return text('done');
  });
  const sized = fromJsonSchema<{ bytes: number }>({
    type: 'object',
    properties: { bytes: { type: 'integer' } },
    required: ['bytes'],
  });
  server.registerTool('large', { inputSchema: sized }, async ({ bytes }) =>
    text('x'.repeat(bytes)),
  );
  const region = fromJsonSchema<{ region: string }>({
    type: 'object',
    properties: { region: { type: 'string', 'x-mcp-header': 'Region' } as never },
    required: ['region'],
  });
  server.registerTool('region', { inputSchema: region }, async (given) => text(given.region));
  if (!isModern) {
    server.registerTool('ask', { inputSchema: none }, async (_given, context) => {
      const answer = await context.mcpReq.send({
        method: 'elicitation/create',
        params: { message: 'name?', requestedSchema: { type: 'object', properties: {} } },
      });
      return text(JSON.stringify(answer));
    });
    server.registerTool('announce', { inputSchema: none }, async () => {
      server.sendToolListChanged();
      return text('announced');
    });
  }
  return server;
}

if (isModern) serveStdio(() => create(), { legacy: era === 'both' ? 'serve' : 'reject' });
else {
  const server = create();
  server.server.setRequestHandler('resources/subscribe', (request) => {
    note(`subscribe ${request.params.uri}`);
    return {};
  });
  await server.connect(new StdioServerTransport());
}
