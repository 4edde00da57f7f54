/** `Mcp-Param-*`: which arguments of which tool are repeated in headers (x-mcp-header of its schema). */
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../../clock.ts';
import { type Message, parseRange, paramOf, stringParam } from '../message.ts';
import { decodeField, encodeField, headerOf } from './headers.ts';
import { differs, malformed, missing, type Refusal } from './versions.ts';

export interface ParamHeader {
  readonly path: readonly string[];
  /** Without the prefix. */
  readonly header: string;
}

/** Asks the server, with the `_meta` that its client sent. */
export type AskServer = (method: string, params: object) => Promise<Message>;

export interface ParamHeaders {
  /** Why the headers of this call do not fit its arguments; null where they do, or where the tools cannot be had. */
  mismatch(headers: IncomingHttpHeaders, message: Message): Promise<Refusal | null>;
  /** The tools have changed. */
  forget(): void;
}

/** A list of tools holds so long where nobody says that it changed. */
const listMs = 60_000;
/** A server that names a next page for ever. */
const pagesMost = 100;
const prefix = 'mcp-param-';
/** Deeper no schema of arguments goes. */
const depthMost = 16;
const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export type ToolHeaders = ReadonlyMap<string, readonly ParamHeader[]>;

export function createParamHeaders(ask: AskServer, clock: Clock): ParamHeaders {
  let tools: ToolHeaders | null = null;
  let readAtMs = 0;
  let reading: Promise<ToolHeaders | null> | null = null;

  async function read(meta: unknown): Promise<ToolHeaders | null> {
    const found = await listTools(ask, meta);
    if (found !== null) {
      tools = found;
      readAtMs = clock.monotonicMs();
    }
    return found;
  }

  function fresh(meta: unknown): Promise<ToolHeaders | null> {
    reading ??= read(meta).finally(() => {
      reading = null;
    });
    return reading;
  }

  return {
    forget() {
      tools = null;
    },
    async mismatch(headers, message) {
      const known = tools !== null && clock.monotonicMs() - readAtMs < listMs ? tools : null;
      const list = known ?? (await fresh(metaOf(message)));
      const wrong = list === null ? null : mismatchIn(list, headers, message);
      if (wrong === null || known === null) return wrong;
      // The schema may have changed since: refused is only what the newest one forbids.
      const newest = await fresh(metaOf(message));
      return newest === null ? null : mismatchIn(newest, headers, message);
    },
  };
}

/** Every page; null where the server does not answer so. */
export async function listTools(ask: AskServer, meta: unknown): Promise<ToolHeaders | null> {
  const found = new Map<string, readonly ParamHeader[]>();
  let cursor: string | undefined;
  for (let page = 0; page < pagesMost; page++) {
    const params = { _meta: meta, ...(cursor === undefined ? {} : { cursor }) };
    const answer = await ask('tools/list', params);
    if (answer.result === null) return null;
    cursor = collectTools(answer, found);
    if (cursor === undefined) break;
  }
  return found;
}

/** Notes the tools of one answer to `tools/list`; the cursor of the next page. */
export function collectTools(
  answer: Message,
  into: Map<string, readonly ParamHeader[]>,
): string | undefined {
  try {
    const { tools, nextCursor } = parseRange(answer.bytes, answer.result as never) as {
      tools?: { name?: unknown; inputSchema?: unknown }[];
      nextCursor?: unknown;
    };
    for (const { name, inputSchema } of tools ?? []) {
      if (typeof name === 'string') into.set(name, paramHeadersOf(inputSchema));
    }
    return typeof nextCursor === 'string' ? nextCursor : undefined;
  } catch {
    return undefined;
  }
}

/** The annotations that are reached by `properties` alone. */
export function paramHeadersOf(schema: unknown): readonly ParamHeader[] {
  const found: ParamHeader[] = [];
  const walk = (node: unknown, path: readonly string[]): void => {
    if (!isRecord(node) || path.length > depthMost) return;
    const header = node['x-mcp-header'];
    if (typeof header === 'string' && token.test(header) && path.length > 0) {
      found.push({ path, header });
    }
    const properties = node['properties'];
    if (!isRecord(properties)) return;
    for (const [key, child] of Object.entries(properties)) walk(child, [...path, key]);
  };
  walk(schema, []);
  return found;
}

/** The headers that a call of this tool carries. */
export function paramHeaderValues(
  declared: readonly ParamHeader[],
  args: unknown,
): readonly (readonly [string, string])[] {
  return declared.flatMap(({ path, header }) => {
    const text = textOf(valueIn(args, path));
    return text === null ? [] : [[`Mcp-Param-${header}`, encodeField(text)] as const];
  });
}

function mismatchIn(
  tools: ToolHeaders,
  headers: IncomingHttpHeaders,
  message: Message,
): Refusal | null {
  const declared = tools.get(stringParam(message, 'name') ?? '') ?? [];
  if (declared.length === 0) return null;
  const args = argumentsOf(message);
  for (const { path, header } of declared) {
    const value = valueIn(args, path);
    const text = textOf(value);
    if (text === null) continue;
    const name = `Mcp-Param-${header}`;
    const given = headerOf(headers, `${prefix}${header.toLowerCase()}`);
    if (given === null) return missing(name);
    const decoded = decodeField(given.trim());
    if (decoded === null) return malformed(name);
    const isSame =
      typeof value === 'number' && /^-?\d+(\.\d+)?$/.test(decoded)
        ? Number(decoded) === value
        : decoded === text;
    if (!isSame) return differs(name, given, text);
  }
  return null;
}

export function argumentsOf(message: Message): unknown {
  return parsedParam(message, 'arguments');
}

function metaOf(message: Message): unknown {
  const meta = parsedParam(message, '_meta');
  if (!isRecord(meta)) return meta;
  // They belong to the client's own call.
  const own = ['progressToken', 'io.modelcontextprotocol/logLevel'];
  return Object.fromEntries(Object.entries(meta).filter(([key]) => !own.includes(key)));
}

function parsedParam(message: Message, key: string): unknown {
  const range = paramOf(message, key);
  if (range === null) return undefined;
  try {
    return parseRange(message.bytes, range);
  } catch {
    return undefined;
  }
}

function valueIn(root: unknown, path: readonly string[]): unknown {
  let node = root;
  for (const key of path) {
    if (!isRecord(node) || !Object.hasOwn(node, key)) return undefined;
    node = node[key];
  }
  return node;
}

/** As it stands in a header; null where there is nothing to repeat. */
function textOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  if (typeof value !== 'number' || !Number.isFinite(value)) return null;
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? null : String(value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
