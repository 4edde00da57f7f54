/** The little of JSON-RPC and MCP that the load generator has to say and to understand: no SDK, so that it costs little. */

export type Era = 'legacy' | 'modern';

export const protocolVersions = { legacy: '2025-11-25', modern: '2026-07-28' } as const;

export type RpcId = string | number;

/** Whatever came from the other side, as parsed. */
export interface Message {
  readonly id?: RpcId | null;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown };
}

/** In `_meta` of every request: the id by which servers log the call. */
export const callKey = 'test/call';

export interface Request {
  readonly id: RpcId;
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

export const clientInfo = { name: 'load', version: '1.0.0' };

export const clientCapabilities = {
  elicitation: { form: {} },
  sampling: {},
  roots: { listChanged: true },
};

/** The envelope that every request of the modern era carries in `_meta`. */
export const modernMeta = {
  'io.modelcontextprotocol/protocolVersion': protocolVersions.modern,
  'io.modelcontextprotocol/clientInfo': clientInfo,
  'io.modelcontextprotocol/clientCapabilities': clientCapabilities,
};

/** The text of a tool's answer, its blocks joined. */
export function textOf(result: Readonly<Record<string, unknown>>): string {
  const { content } = result;
  if (!Array.isArray(content)) return '';
  return content
    .map((block: { text?: unknown }) => (typeof block.text === 'string' ? block.text : ''))
    .join('\n');
}
