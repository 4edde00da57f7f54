/** A server behind the gate that is a child process: each request goes to the era that its body is of, as the server speaks it. */
import { asRotatedError } from '../../errors.ts';
import { type Message, readMessage, splitBatch } from '../message.ts';
import { answerError, answerFailure, answerTooLarge, readBody, rpcErrors } from './answers.ts';
import type { Backend, Incoming } from './backend.ts';
import { headerOf, mediaType } from './headers.ts';
import { createLegacy, type LegacyTimes } from './legacy.ts';
import { createModern, type ModernLimits } from './modern.ts';
import { noSavedSessions, type SavedSessions } from './saved-sessions.ts';
import { createEraProbe, type ServerParts } from './server.ts';
import { frameOfBody } from './frames-of-http.ts';
import { isLegacyVersion, modernVersionOf } from './versions.ts';

/** Messages of one batch (revision 2025-03-26). */
const batchMost = 100;

export interface StdioOptions {
  readonly times?: LegacyTimes | undefined;
  readonly limits?: ModernLimits | undefined;
}

export function createStdioBackend(
  parts: ServerParts,
  saved: SavedSessions = noSavedSessions(),
  { times, limits }: StdioOptions = {},
): Backend {
  const legacy = createLegacy(parts, saved, times);
  const modern = createModern(parts, limits);
  const era = createEraProbe(parts);

  async function post(incoming: Incoming): Promise<void> {
    const { request, response } = incoming;
    if (mediaType(request.headers) !== 'application/json') {
      const message = 'Unsupported Media Type: Content-Type must be application/json';
      answerError(response, 415, { code: rpcErrors.transport, message });
      return;
    }
    if (!accepts(incoming)) {
      const message =
        'Not Acceptable: Client must accept both application/json and text/event-stream';
      answerError(response, 406, { code: rpcErrors.transport, message });
      return;
    }
    const body = await readBody(request);
    if (body === null) {
      answerTooLarge(response);
      return;
    }
    const frame = frameOfBody(body);
    const batch = splitBatch(frame);
    const messages = readAll(batch ?? [frame]);
    if (messages === null || messages.length === 0 || messages.length > batchMost) {
      const message = 'Parse error: Invalid JSON-RPC message';
      answerError(response, 400, { code: rpcErrors.parse, message });
      return;
    }
    if (batch !== null) {
      if (messages.some((one) => modernVersionOf(one) !== null)) {
        const message = 'Invalid Request: this revision knows no batches';
        answerError(response, 400, { code: rpcErrors.invalidRequest, message });
        return;
      }
      await legacy.post(incoming, messages);
      return;
    }
    const [message] = messages;
    if (message === undefined) return;
    if (await isModern(incoming, message)) await postModern(incoming, message);
    else await legacy.post(incoming, messages);
  }

  /** By its body; where that says nothing, by what it goes with, at last by what the server speaks. */
  async function isModern({ request }: Incoming, message: Message): Promise<boolean> {
    if (modernVersionOf(message) !== null) return true;
    if (message.method === 'initialize') return false;
    if (request.headers['mcp-session-id'] !== undefined) return false;
    const version = headerOf(request.headers, 'mcp-protocol-version');
    if (version !== null) return !isLegacyVersion(version);
    return (await era()).modern !== null;
  }

  async function postModern(incoming: Incoming, message: Message): Promise<void> {
    const { response } = incoming;
    const { modern: supported } = await era();
    const id = message.idRange;
    const text = id === null ? null : message.bytes.toString('utf8', id.start, id.end);
    if (supported === null) {
      // Not an error of the newer revision: by that a client of both eras knows to fall back.
      const error = { code: rpcErrors.transport, message: 'Bad Request: Server not initialized' };
      answerError(response, 400, error, { id: text });
      return;
    }
    if (message.kind === 'response') {
      const error = {
        code: rpcErrors.invalidRequest,
        message: 'Invalid Request: no response is expected',
      };
      answerError(response, 400, error, { id: text });
      return;
    }
    if (message.kind === 'notification') {
      // Over HTTP this revision has none: a client cancels by closing its stream.
      response.writeHead(202).end();
      return;
    }
    await modern.post(incoming, message, supported);
  }

  async function other(incoming: Incoming): Promise<void> {
    const { request, response } = incoming;
    const isKnown = request.method === 'GET' || request.method === 'DELETE';
    const hasSession = request.headers['mcp-session-id'] !== undefined;
    if (isKnown && (hasSession || (await era()).modern === null)) {
      await legacy.other(incoming);
      return;
    }
    const error = { code: rpcErrors.transport, message: 'Method not allowed.' };
    answerError(response, 405, error, { headers: { allow: 'GET, POST, DELETE' } });
  }

  return {
    async handle(incoming) {
      try {
        await (incoming.request.method === 'POST' ? post(incoming) : other(incoming));
      } catch (error) {
        const { code } = asRotatedError(error, 'none');
        parts.log.warn({ server: parts.entry.name, code }, 'a request cannot be served');
        answerFailure(incoming.response, error);
      }
    },
    async close() {
      await Promise.all([legacy.close(), modern.close()]);
      await parts.shared.close();
    },
  };
}

/** null where one of them is no message. */
function readAll(frames: readonly Buffer[]): readonly Message[] | null {
  const messages = frames.map(readMessage).filter((message) => message !== null);
  return messages.length === frames.length ? messages : null;
}

/** Both kinds of answer, in whatever way it is said. */
function accepts({ request }: Incoming): boolean {
  const accept = headerOf(request.headers, 'accept');
  if (accept === null) return false;
  if (accept.includes('*/*')) return true;
  return accept.includes('application/json') && accept.includes('text/event-stream');
}
