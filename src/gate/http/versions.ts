/** Which era a client's message is of: told by its body; headers only repeat it. Pure. */
import type { IncomingHttpHeaders } from 'node:http';
import { type Message, paramOf, stringParam } from '../message.ts';
import { rpcErrors } from './answers.ts';
import { decodeField, headerOf, namedBy } from './headers.ts';

export const modernVersion = '2026-07-28';
export const versionKey = 'io.modelcontextprotocol/protocolVersion';
export const capabilitiesKey = 'io.modelcontextprotocol/clientCapabilities';
const clientInfoKey = 'io.modelcontextprotocol/clientInfo';

const legacyVersions = new Set(['2024-11-05', '2025-03-26', '2025-06-18', '2025-11-25']);

/** Without a header an earlier client is taken for one of this revision. */
export function isLegacyVersion(version: string): boolean {
  return legacyVersions.has(version);
}

/** The revision that the message itself names; null for one of the earlier eras. */
export function modernVersionOf(message: Message): string | null {
  const version = stringParam(message, '_meta', versionKey);
  return version === null || isLegacyVersion(version) ? null : version;
}

export interface Refusal {
  readonly code: number;
  readonly message: string;
  readonly data?: object;
}

/**
 * Why a modern request is not passed on; null where it is. One that does not say its revision never is: a server of both
 * eras would take the process for one of an earlier era from then on.
 */
export function refusalOf(
  headers: IncomingHttpHeaders,
  message: Message,
  supported: readonly string[],
): Refusal | null {
  const version = stringParam(message, '_meta', versionKey);
  if (version === null && headers['mcp-protocol-version'] === undefined) {
    return unsupported(supported, null);
  }
  const mismatch = headerMismatch(headers, message, version);
  if (mismatch !== null) return mismatch;
  if (version === null) return incomplete(versionKey);
  if (!supported.includes(version)) return unsupported(supported, version);
  if (isObject(message, capabilitiesKey) !== true) return incomplete(capabilitiesKey);
  return isObject(message, clientInfoKey) === false ? incomplete(clientInfoKey) : null;
}

/** null where it is not there. */
function isObject(message: Message, key: string): boolean | null {
  const range = paramOf(message, '_meta', key);
  return range === null ? null : message.bytes[range.start] === openBrace;
}

const openBrace = 0x7b;

function unsupported(supported: readonly string[], requested: string | null): Refusal {
  return {
    code: rpcErrors.versionUnsupported,
    message: 'Unsupported protocol version',
    data: { supported, ...(requested === null ? {} : { requested }) },
  };
}

function incomplete(key: string): Refusal {
  return {
    code: rpcErrors.invalidParams,
    message: `Invalid params: _meta lacks a valid ${key}`,
  };
}

/** Why the headers of a modern request do not fit its body; null where they do. */
function headerMismatch(
  headers: IncomingHttpHeaders,
  message: Message,
  version: string | null,
): Refusal | null {
  const given = headerOf(headers, 'mcp-protocol-version');
  if (given === null) return missing('MCP-Protocol-Version');
  if (version !== null && given.trim() !== version) {
    return differs('MCP-Protocol-Version', given, version);
  }
  const method = headerOf(headers, 'mcp-method');
  if (method === null) return missing('Mcp-Method');
  if (method.trim() !== message.method) return differs('Mcp-Method', method, message.method ?? '');
  const parameter = namedBy.get(message.method ?? '');
  const name = parameter === undefined ? null : stringParam(message, parameter);
  if (name === null) return null;
  const header = headerOf(headers, 'mcp-name');
  if (header === null) return missing('Mcp-Name');
  const decoded = decodeField(header.trim());
  if (decoded === null) return malformed('Mcp-Name');
  return decoded === name ? null : differs('Mcp-Name', header, name);
}

export function missing(header: string): Refusal {
  return {
    code: rpcErrors.headerMismatch,
    message: `Header mismatch: the required header ${header} is missing.`,
    data: { mismatch: { header: '(missing)', body: header } },
  };
}

export function malformed(header: string): Refusal {
  return {
    code: rpcErrors.headerMismatch,
    message: `Header mismatch: ${header} holds no valid base64.`,
  };
}

export function differs(header: string, given: string, body: string): Refusal {
  return {
    code: rpcErrors.headerMismatch,
    message: `Header mismatch: ${header} does not say what the body says.`,
    data: { mismatch: { header: given, body } },
  };
}
