/** Which headers a proxy passes on, and how a message's fields are written in headers (revision 2026-07-28). */
import type { IncomingHttpHeaders } from 'node:http';

/** RFC 9110 §7.6.1: they belong to one connection. `expect` was answered by our own end. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
]);

/** Name, value, name, value, … as received, without what belongs to the connection or stands in `without` (lower case). */
export function passedOn(
  rawHeaders: readonly string[],
  connection: string | undefined,
  without: ReadonlySet<string>,
): string[] {
  const named = new Set(
    (connection ?? '')
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase();
    if (hopByHop.has(name) || named.has(name) || without.has(name)) continue;
    kept.push(rawHeaders[at] as string, rawHeaders[at + 1] as string);
  }
  return kept;
}

export function headerOf(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return value === undefined ? null : Array.isArray(value) ? value.join(', ') : value;
}

export function isEventStream(headers: IncomingHttpHeaders): boolean {
  return mediaType(headers) === 'text/event-stream';
}

export function mediaType(headers: IncomingHttpHeaders): string {
  return (headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

const marker = /^=\?base64\?(.*)\?=$/s;
const plain = /^[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?$/;
const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** As a header's value: plain where it can be, else the base64 form. */
export function encodeField(text: string): string {
  return plain.test(text) && !marker.test(text)
    ? text
    : `=?base64?${Buffer.from(text).toString('base64')}?=`;
}

/** null where the base64 form holds no base64 or no UTF-8. */
export function decodeField(value: string): string | null {
  const inside = marker.exec(value)?.[1];
  if (inside === undefined) return value;
  if (!base64.test(inside)) return null;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(inside, 'base64'));
  } catch {
    return null;
  }
}

/** Which parameter `Mcp-Name` repeats, by method; that of the tasks extension too. */
export const namedBy: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
  ['tasks/get', 'taskId'],
  ['tasks/update', 'taskId'],
  ['tasks/cancel', 'taskId'],
]);
