/** One call passed on to an HTTP server with the credentials of the moment, and its answer passed back without them. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { RotatedError } from '../../errors.ts';
import { referencesOf, type Entry } from '../entry.ts';
import type { ByteRedactor } from '../redaction.ts';
import { readBody } from './answers.ts';
import type { Incoming } from './backend.ts';
import { createEventSplitter, eventOf, type ServerEvent } from './events.ts';
import { isEventStream, mediaType, passedOn } from './headers.ts';
import type { Held } from './held-values.ts';

/** What the server is called with: the client's headers without those for the gate, the entry's own over them. */
export function outgoingHeaders(
  { request, forGate }: Incoming,
  held: Held,
  { identity, body }: { readonly identity: boolean; readonly body: Buffer | null },
): string[] {
  const own = Object.entries(held.headers);
  const replaced = new Set(own.map(([name]) => name.toLowerCase()));
  const without = new Set(['host', ...forGate, ...replaced]);
  if (identity) without.add('accept-encoding');
  if (body !== null) without.add('content-length');
  return [
    'Host',
    held.url.host,
    ...passedOn(request.rawHeaders, request.headers.connection, without),
    ...(identity ? ['Accept-Encoding', 'identity'] : []),
    ...(body === null ? [] : ['Content-Length', String(body.length)]),
    ...own.flat(),
  ];
}

/** The entry's address, with the query that the client added. */
export function outgoingUrl({ request }: Incoming, held: Held): URL {
  const at = request.url?.indexOf('?') ?? -1;
  if (at === -1) return held.url;
  const url = new URL(held.url);
  const query = (request.url as string).slice(at + 1);
  url.search = url.search === '' ? query : `${url.search}&${query}`;
  return url;
}

/** Throws where the server sends clients elsewhere: what we send is meant for the address that the entry names. */
export function refuseRedirect(answer: IncomingMessage, entry: Entry, held: Held): void {
  const status = answer.statusCode ?? 0;
  if (status < 300 || status > 399 || status === 304) return;
  answer.resume();
  const target = answer.headers.location ?? '';
  const where = URL.canParse(target, held.url.href) ? new URL(target, held.url) : null;
  // A query may hold what the entry's own holds: not repeated.
  const shown = where === null ? 'another address' : `${where.origin}${where.pathname}`;
  throw new RotatedError('unavailable', `${entry.name} redirects to ${shown}.`, {
    next: 'Write that address in the server file, if you trust it.',
  });
}

/** Passes an answer back. Resolves when all of it was written; rejects where either side broke off. */
export async function passBack(
  answer: IncomingMessage,
  response: ServerResponse,
  redactor: ByteRedactor | null,
): Promise<void> {
  const status = answer.statusCode ?? 502;
  const keep = (without: readonly string[]) =>
    passedOn(answer.rawHeaders, answer.headers.connection, new Set(without));
  if (redactor === null) {
    response.writeHead(status, keep([]));
    await pipeline(answer, response);
    return;
  }
  if (isEventStream(answer.headers)) {
    requirePlain(answer);
    response.writeHead(status, keep(['content-length']));
    response.flushHeaders();
    const split = createEventSplitter();
    await pipeline(
      answer,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          for (const event of split(chunk)) yield cleanEvent(event, redactor);
        }
      },
      response,
    );
    return;
  }
  const body = await readBody(answer);
  if (body === null) {
    answer.destroy();
    throw new RotatedError('unavailable', 'The server sent an answer that is too long.', {
      effect: 'unknown',
    });
  }
  if (body.length > 0) requirePlain(answer);
  const cleaned = redactor.finds(body) ? cleanBody(body, answer, redactor) : body;
  const length = body.length === 0 ? [] : ['Content-Length', String(cleaned.length)];
  response.writeHead(
    status,
    body.length === 0 ? keep([]) : [...keep(['content-length']), ...length],
  );
  response.end(cleaned);
}

export function cleanEvent(event: ServerEvent, redactor: ByteRedactor): Buffer {
  if (!redactor.finds(event.bytes)) return event.bytes;
  return event.frame === null
    ? redactor.cleanText(event.bytes)
    : eventOf(redactor.cleanFrame(event.frame), event.id);
}

function cleanBody(body: Buffer, answer: IncomingMessage, redactor: ByteRedactor): Buffer {
  if (mediaType(answer.headers) !== 'application/json') return redactor.cleanText(body);
  try {
    return redactor.cleanFrame(body);
  } catch {
    return redactor.cleanText(body);
  }
}

/** What cannot be read cannot be searched for credentials either. */
function requirePlain(answer: IncomingMessage): void {
  const encoding = answer.headers['content-encoding'] ?? 'identity';
  if (encoding === 'identity') return;
  answer.destroy();
  throw new RotatedError('unavailable', 'The server answers compressed, though asked not to.', {
    next: 'Set "redact": false for it in the server file, or let it honour Accept-Encoding.',
  });
}

/** The server wants a login of the client's own (RFC 9728), and the entry has none to give. */
export function wantsLogin(answer: IncomingMessage, entry: Entry): boolean {
  return (
    answer.statusCode === 401 &&
    /\bresource_metadata=/.test(answer.headers['www-authenticate'] ?? '') &&
    referencesOf(entry).length === 0
  );
}
