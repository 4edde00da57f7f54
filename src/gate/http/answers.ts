/** Answers that the gate gives by itself, and the bodies of requests it reads. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { asRotatedError, type RotatedError } from '../../errors.ts';
import { frameBytesMax } from '../frames.ts';
import { errorFrame, gateErrors } from '../message.ts';

/** JSON-RPC and MCP codes that the gate itself answers with. */
export const rpcErrors = {
  parse: -32_700,
  invalidRequest: -32_600,
  methodNotFound: -32_601,
  invalidParams: -32_602,
  /** What the SDK's servers use for refusals of the transport. */
  transport: -32_000,
  sessionUnknown: -32_001,
  headerMismatch: -32_020,
  capabilityMissing: -32_021,
  versionUnsupported: -32_022,
} as const;

/** `id`: as it stood in the request, null where it is not known. */
export function answerError(
  response: ServerResponse,
  status: number,
  error: { readonly code: number; readonly message: string; readonly data?: object },
  { id = null, headers = {} }: ErrorOptions = {},
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = errorFrame(id ?? 'null', error.code, error.message, error.data);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': body.length,
    ...headers,
  });
  response.end(body);
}

interface ErrorOptions {
  readonly id?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Why no server answers: with the next step, since a client shows little else. */
export function answerFailure(
  response: ServerResponse,
  thrown: unknown,
  options: ErrorOptions = {},
): RotatedError {
  const error = asRotatedError(thrown, 'none');
  const status = error.code === 'unavailable' ? 502 : 503;
  const message = error.next === '' ? error.message : `${error.message} ${error.next}`;
  answerError(response, status, { code: gateErrors.notStarted, message }, options);
  return error;
}

/** All of it; null where it is too long, and the connection is then of no further use. Rejects where it breaks off. */
export function readBody(
  message: IncomingMessage,
  bytesMax: number = frameBytesMax,
): Promise<Buffer | null> {
  if (Number(message.headers['content-length'] ?? 0) > bytesMax) return Promise.resolve(null);
  // By events: an iterator of a stream costs more than all the rest of a small call.
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    message.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= bytesMax) chunks.push(chunk);
      else resolve(null);
    });
    message.on('end', () => {
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
    });
    message.on('error', reject);
    message.on('close', () => {
      if (!message.complete) reject(new Error('broken off'));
    });
  });
}

export function answerTooLarge(response: ServerResponse): void {
  answerError(
    response,
    413,
    { code: rpcErrors.transport, message: 'The message is too long.' },
    { headers: { connection: 'close' } },
  );
}
