/** What a request to a remote server carries in its headers, by what was said to it before. Pure. */
import type { Launch } from '../entry.ts';
import { type Message, stringParam } from '../message.ts';
import { encodeField, namedBy } from './headers.ts';
import { argumentsOf, type ParamHeader, paramHeaderValues } from './param-headers.ts';
import { modernVersionOf } from './versions.ts';

/** What one link and its server have agreed on. */
export interface Conversation {
  /** Of an earlier revision, where the server made one. */
  sessionId: string | null;
  /** As the server answered to `initialize`. */
  version: string | null;
  /** The arguments that headers repeat, by tool, as far as they were seen. */
  readonly tools: ReadonlyMap<string, readonly ParamHeader[]>;
}

/** Name, value, name, value, …; `length`: of the body, null without one. */
export function headersOf(
  launch: Extract<Launch, { kind: 'remote' }>,
  url: URL,
  { sessionId, version, tools }: Conversation,
  message: Message | null,
  length: number | null,
): string[] {
  const modern = message === null ? null : modernVersionOf(message);
  const revision = modern ?? version;
  const headers = ['Host', url.host, 'Accept-Encoding', 'identity'];
  headers.push('Accept', 'application/json, text/event-stream');
  if (length !== null) {
    headers.push('Content-Type', 'application/json', 'Content-Length', String(length));
  }
  if (revision !== null) headers.push('MCP-Protocol-Version', revision);
  if (sessionId !== null && modern === null) headers.push('Mcp-Session-Id', sessionId);
  if (modern !== null && message !== null) headers.push(...repeatedIn(message, tools));
  // The entry's own word counts last, and replaces ours.
  const named = Object.entries(launch.headers);
  const names = new Set(named.map(([name]) => name.toLowerCase()));
  const kept: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    if (names.has((headers[at] as string).toLowerCase())) continue;
    kept.push(headers[at] as string, headers[at + 1] as string);
  }
  return [...kept, ...named.flat()];
}

/** What the headers of a request of 2026-07-28 repeat of its body. */
function repeatedIn(message: Message, tools: Conversation['tools']): readonly string[] {
  const { method } = message;
  if (method === null) return [];
  const headers = ['Mcp-Method', encodeField(method)];
  const parameter = namedBy.get(method);
  const name = parameter === undefined ? null : stringParam(message, parameter);
  if (name !== null) headers.push('Mcp-Name', encodeField(name));
  const declared = method === 'tools/call' ? tools.get(name ?? '') : undefined;
  if (declared !== undefined && declared.length > 0) {
    headers.push(...paramHeaderValues(declared, argumentsOf(message)).flat());
  }
  return headers;
}
