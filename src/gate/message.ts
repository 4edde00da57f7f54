/** What one frame says: request, notification or response, its id and method, found without parsing the rest. */
import {
  canonicalId,
  elementsOf,
  hasEscape,
  isPlainText,
  membersOf,
  type Range,
  skipSpace,
  stringAt,
  valueAt,
} from './scan.ts';

/** A frame, with its newline, and what was found in it. */
export interface Message {
  readonly kind: 'request' | 'notification' | 'response';
  readonly bytes: Buffer;
  /** `canonicalId` of the id; null for a notification. */
  readonly id: string | null;
  readonly idRange: Range | null;
  /** Null for a response. */
  readonly method: string | null;
  readonly params: Range | null;
  readonly result: Range | null;
  readonly error: Range | null;
}

/** Null where the bytes are no JSON-RPC 2.0 message. Read a hundred thousand times a second: nothing is made in vain. */
export function readMessage(bytes: Buffer): Message | null {
  let isVersioned = false;
  let hasMethod = false;
  let method: string | null = null;
  let idRange: Range | null = null;
  let params: Range | null = null;
  let result: Range | null = null;
  let error: Range | null = null;
  const members = membersOf(bytes, 0, bytes.length);
  if (members === null) return null;
  for (let at = 0; at < members.length; at += 4) {
    const start = members[at + 2] as number;
    const end = members[at + 3] as number;
    switch (memberName(bytes, members[at] as number, members[at + 1] as number)) {
      case 'jsonrpc':
        isVersioned = isText(bytes, start, end, '2.0');
        break;
      case 'id':
        idRange = { start, end };
        break;
      case 'method':
        hasMethod = true;
        // Nine calls of ten: not worth a string of its own each time.
        method = isText(bytes, start, end, 'tools/call')
          ? 'tools/call'
          : stringAt(bytes, { start, end });
        break;
      case 'params':
        params = { start, end };
        break;
      case 'result':
        result = { start, end };
        break;
      case 'error':
        error = { start, end };
        break;
      default:
    }
  }
  if (!isVersioned) return null;
  const id = idRange === null ? null : canonicalId(bytes, idRange);
  // A null id is no id that could be answered: left to the server, which will say so.
  const kind = method === null ? 'response' : id === null ? 'notification' : 'request';
  if (kind === 'response' && (hasMethod || (result === null && error === null))) return null;
  return { kind, bytes, id, idRange, method, params, result, error };
}

function isText(bytes: Buffer, start: number, end: number, text: string): boolean {
  if (bytes[start] !== 0x22) return false;
  return (
    isPlainText(bytes, start, end, text) ||
    (hasEscape(bytes, start, end) && stringAt(bytes, { start, end }) === text)
  );
}

type MemberName = 'id' | 'error' | 'method' | 'params' | 'result' | 'jsonrpc';
const memberNames: readonly MemberName[] = ['id', 'error', 'method', 'params', 'result', 'jsonrpc'];

/** Told apart by length and first letter; the quotes count. */
function memberName(bytes: Buffer, start: number, end: number): MemberName | null {
  const candidate = candidateOf(end - start, bytes[start + 1] as number);
  if (candidate !== null && isPlainText(bytes, start, end, candidate)) return candidate;
  // `"\u0069d"` is an id as well.
  if (!hasEscape(bytes, start, end)) return null;
  const text = stringAt(bytes, { start, end });
  return memberNames.find((name) => name === text) ?? null;
}

function candidateOf(length: number, first: number): MemberName | null {
  switch (length) {
    case 4:
      return 'id';
    case 7:
      return 'error';
    case 8:
      return first === 0x6d ? 'method' : first === 0x70 ? 'params' : 'result';
    case 9:
      return 'jsonrpc';
    default:
      return null;
  }
}

/** The messages of a batch (revision 2025-03-26) as frames of their own; null where the frame is none. */
export function splitBatch(frame: Buffer): readonly Buffer[] | null {
  if (frame[skipSpace(frame, 0, frame.length)] !== 0x5b) return null;
  const elements = elementsOf(frame, { start: 0, end: frame.length });
  return (
    elements?.map(({ start, end }) =>
      Buffer.concat([frame.subarray(start, end), Buffer.from('\n')]),
    ) ?? null
  );
}

export function paramOf(message: Message, ...keys: readonly string[]): Range | null {
  return valueAt(message.bytes, message.params, ...keys);
}

export function stringParam(message: Message, ...keys: readonly string[]): string | null {
  return stringAt(message.bytes, paramOf(message, ...keys));
}

/** The id that a cancellation names. */
export function cancelledId(message: Message): string | null {
  const range = paramOf(message, 'requestId');
  return range === null ? null : canonicalId(message.bytes, range);
}

/**
 * The id of a frame of which only the two ends are left, as `canonicalId`; null where it is no such message. SDKs write
 * the id at one of the ends, and begin with what tells a request from an answer.
 */
export function idAtEnds(kind: 'request' | 'response', head: Buffer, tail: Buffer): string | null {
  const id = String.raw`"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)`;
  const version = String.raw`"jsonrpc"\s*:\s*"2\.0"`;
  const telling = kind === 'request' ? 'method' : '(?:result|error)';
  const first = new RegExp(
    String.raw`^\s*\{\s*(?:(?:${version}|${id})\s*,\s*){0,2}"${telling}"\s*:`,
  ).exec(head.toString('utf8'));
  if (first === null) return null;
  const last = new RegExp(String.raw`${id}\s*(?:,\s*${version}\s*)?\}\s*$`);
  const found = new RegExp(id).exec(first[0])?.[1] ?? last.exec(tail.toString('utf8'))?.[1];
  if (found === undefined) return null;
  const text = Buffer.from(found);
  return canonicalId(text, { start: 0, end: text.length });
}

/** The JSON text of a range, parsed. Throws SyntaxError where the server wrote something else. */
export function parseRange(bytes: Buffer, range: Range): unknown {
  return JSON.parse(bytes.toString('utf8', range.start, range.end)) as unknown;
}

export function frameOf(message: object): Buffer {
  return Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
}

/** Codes of our own stay outside the range that JSON-RPC and MCP reserve (-32768 … -32000). */
export const gateErrors = {
  /** The server ended before it answered; whether the call was carried out is unknown. */
  serverEnded: -31_001,
  /** The server cannot be started. */
  notStarted: -31_002,
  /** An emergency ended the call. */
  cut: -31_003,
  tooLarge: -31_004,
} as const;

/** An error answer to the request whose id stands in these bytes as written. */
export function errorFrame(id: string, code: number, message: string, data?: object): Buffer {
  const error = JSON.stringify({ code, message, ...(data === undefined ? {} : { data }) });
  return Buffer.from(`{"jsonrpc":"2.0","id":${id},"error":${error}}\n`);
}
