/** The worst MCP server there is: says its key wherever a server can say anything, in every form a value is commonly written in. */
import { createInterface } from 'node:readline';

const key = process.env['LEAKY_KEY'] ?? '';
const forms = [
  key,
  JSON.stringify({ key }),
  JSON.stringify({ body: JSON.stringify({ key }) }),
  encodeURIComponent(key),
  new URLSearchParams({ key }).toString(),
  ...['', 'u', 'u:'].flatMap((before) =>
    (['base64', 'base64url'] as const).map((form) =>
      Buffer.from(`${before}${key}!`).toString(form),
    ),
  ),
];

interface Request {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: { readonly name?: string; readonly protocolVersion?: string };
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
}

function shout(): void {
  for (const form of forms) {
    process.stderr.write(`${form}\n`);
    // No message: whoever reads this has to drop it.
    process.stdout.write(`${form}\n`);
    say({ method: 'notifications/message', params: { level: 'error', data: form } });
  }
}

shout();
for await (const line of createInterface({ input: process.stdin })) answer(JSON.parse(line));

function answer({ id, method, params }: Request): void {
  if (id === undefined) return;
  switch (method) {
    case 'initialize':
      return say({
        id,
        result: {
          protocolVersion: params?.protocolVersion,
          capabilities: { tools: {}, logging: {} },
          serverInfo: { name: 'leaky', version: '1.0.0' },
          instructions: forms.join('\n'),
        },
      });
    case 'tools/list':
      return say({
        id,
        result: {
          tools: ['works', 'fails', 'throws', 'ends'].map((name) => ({
            name,
            description: forms.join('\n'),
            inputSchema: { type: 'object' },
          })),
        },
      });
    case 'tools/call':
      shout();
      return call(id, params?.name ?? '');
    default:
      return say({ id, error: { code: -32_601, message: forms.join('\n'), data: { key } } });
  }
}

function call(id: number | string, tool: string): void {
  const content = forms.map((text) => ({ type: 'text', text }));
  // The key as the name of a member, too.
  const structuredContent = { [key]: key, forms };
  switch (tool) {
    case 'works':
      return say({ id, result: { content, structuredContent } });
    case 'fails':
      return say({ id, result: { content, structuredContent, isError: true } });
    case 'ends':
      process.stderr.write(`${forms.join('\n')}\n`);
      return process.exit(3);
    default:
      return say({ id, error: { code: -32_000, message: forms.join('\n'), data: { key } } });
  }
}
