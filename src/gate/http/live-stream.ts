/** A stream that lives longer than a credential: opened again upstream with the new one while the client's end stays open. */
import type { IncomingMessage } from 'node:http';
import { asRotatedError } from '../../errors.ts';
import type { Entry } from '../entry.ts';
import { readMessage } from '../message.ts';
import { answerFailure } from './answers.ts';
import type { Around, Incoming } from './backend.ts';
import type { HttpClient } from './client.ts';
import { createEventSplitter, type ServerEvent } from './events.ts';
import { isEventStream, passedOn } from './headers.ts';
import type { HeldValues, Lease } from './held-values.ts';
import { cleanEvent, outgoingHeaders, outgoingUrl, passBack, refuseRedirect } from './upstream.ts';

export interface LiveStreamOptions {
  readonly entry: Entry;
  readonly values: HeldValues;
  readonly client: HttpClient;
  readonly around: Around;
  readonly redact: boolean;
  /** The body of a `subscriptions/listen`; null: a GET of an earlier revision. */
  readonly listen: Buffer | null;
  /** The gate ends. */
  readonly until: AbortSignal;
}

/** After the new stream stands, what was still under way on the old one is waited for so long. */
const overlapMs = 100;
/** So long the new subscription may take to be acknowledged. */
const acknowledgeMs = 10_000;
/** A stream that cannot be opened again is tried for again after so long, twice as long each time up to the second. */
const retryFirstMs = 100;
const retryMostMs = 10_000;
/** With the old stream gone, so many tries; then the client's end is closed, and it comes back by itself. */
const triesMost = 10;

interface Connection {
  readonly answer: IncomingMessage;
  readonly lease: Lease;
  readonly ending: AbortController;
  over: boolean;
}

export async function serveLiveStream(
  incoming: Incoming,
  options: LiveStreamOptions,
): Promise<void> {
  const { entry, values, client, around, redact, listen, until } = options;
  const { request, response } = incoming;
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const done = Promise.withResolvers<void>();
  let lastEventId: string | null = null;
  let current: Connection;
  let next: Connection | null = null;
  let isMoving = false;
  /** While both streams of a subscription are open: what one of them has brought already, for the other one to leave out. */
  let seen: { readonly by: Connection; readonly text: string }[] | null = null;

  try {
    current = await open(null);
  } catch (error) {
    if (!gone.signal.aborted) answerFailure(response, error);
    return;
  }
  const { answer } = current;
  if ((answer.statusCode ?? 0) !== 200 || !isEventStream(answer.headers)) {
    try {
      await passBack(answer, response, redact ? values.redactor : null);
    } catch {
      response.destroy();
    } finally {
      close(current);
    }
    return;
  }
  const headers = passedOn(
    answer.rawHeaders,
    answer.headers.connection,
    new Set(['content-length']),
  );
  response.writeHead(200, headers);
  response.flushHeaders();
  response.on('drain', () => {
    current.answer.resume();
    next?.answer.resume();
  });
  const forget = values.onChange(() => void move());
  gone.signal.addEventListener('abort', () => done.resolve());
  until.addEventListener('abort', end, { once: true });
  receive(current, (event) => deliver(current, event));
  // A change may have come while it was opened.
  void move();
  await done.promise;
  forget();
  until.removeEventListener('abort', end);
  gone.abort();
  close(current);
  if (next !== null) close(next);

  /** Throws where there is no answer. */
  async function open(from: string | null): Promise<Connection> {
    const lease = await values.lease();
    const ending = new AbortController();
    const onGone = () => ending.abort();
    gone.signal.addEventListener('abort', onGone, { once: true });
    lease.onCut = onGone;
    try {
      const given = outgoingHeaders(incoming, lease.held, { identity: true, body: listen });
      const answer = await client.send({
        url: outgoingUrl(incoming, lease.held),
        method: request.method ?? 'GET',
        headers: from === null ? given : resumed(given, from),
        body: listen,
        signal: ending.signal,
      });
      answer.on('error', () => undefined);
      refuseRedirect(answer, entry, lease.held);
      return { answer, lease, ending, over: false };
    } catch (error) {
      ending.abort();
      lease.release();
      throw error;
    }
  }

  function close(connection: Connection): void {
    connection.over = true;
    connection.ending.abort();
    connection.answer.destroy();
    connection.lease.release();
  }

  function receive(connection: Connection, onEvent: (event: ServerEvent) => void): void {
    const split = createEventSplitter();
    connection.answer.on('data', (chunk: Buffer) => {
      try {
        for (const event of split(chunk)) onEvent(event);
      } catch {
        close(connection);
      }
    });
    connection.answer.on('close', () => {
      connection.over = true;
      connection.lease.release();
      if (connection === current && !isMoving) end();
    });
  }

  function deliver(from: Connection, event: ServerEvent): void {
    if (response.writableEnded || (from.over && from !== current)) return;
    if (seen !== null && event.frame !== null) {
      const text = event.frame.toString('latin1');
      const at = seen.findIndex((one) => one.by !== from && one.text === text);
      if (at !== -1) {
        seen.splice(at, 1);
        return;
      }
      seen.push({ by: from, text });
    }
    lastEventId = event.id ?? lastEventId;
    const bytes = redact ? cleanEvent(event, values.redactor) : event.bytes;
    if (response.write(bytes)) return;
    current.answer.pause();
    next?.answer.pause();
  }

  function end(): void {
    response.end();
    done.resolve();
  }

  async function move(): Promise<void> {
    if (isMoving) return;
    isMoving = true;
    let waitMs = retryFirstMs;
    for (let tries = 1; !gone.signal.aborted && current.lease.held !== values.newest(); tries++) {
      try {
        await moveOnce();
        waitMs = retryFirstMs;
        tries = 0;
        continue;
      } catch (error) {
        const { code } = asRotatedError(error, 'none');
        around.log.warn({ server: entry.name, code, tries }, 'a stream cannot be opened again');
        if (next !== null) close(next);
        next = null;
        seen = null;
      }
      if (current.over && tries >= triesMost) break;
      await around.clock.sleep(waitMs, gone.signal).catch(() => undefined);
      waitMs = Math.min(waitMs * 2, retryMostMs);
    }
    isMoving = false;
    if (current.over) end();
  }

  async function moveOnce(): Promise<void> {
    const old = current;
    // What a server keeps for a stream it hands to one reader alone: the old one goes first, nothing is lost by that.
    if (listen === null && lastEventId !== null) close(old);
    let opened = await open(lastEventId);
    if (opened.answer.statusCode === 409 && !old.over) {
      // This server allows one stream at a time.
      close(opened);
      close(old);
      opened = await open(lastEventId);
    }
    if (opened.answer.statusCode !== 200 || !isEventStream(opened.answer.headers)) {
      const status = opened.answer.statusCode ?? 0;
      close(opened);
      throw asRotatedError(new Error(`status ${status}`), 'none');
    }
    next = opened;
    if (listen === null) {
      receive(opened, (event) => deliver(opened, event));
      if (!old.over) await overlap(old);
    } else {
      await acknowledged(opened);
      seen = [];
      await overlap(old);
      seen = null;
    }
    current = opened;
    next = null;
    if (!old.over) close(old);
    if (opened.over) throw asRotatedError(new Error('closed again'), 'none');
    around.log.info({ server: entry.name }, 'a stream goes on with the new credential');
  }

  /** The client has had its acknowledgement: the second one is swallowed. */
  async function acknowledged(opened: Connection): Promise<void> {
    const acknowledgement = Promise.withResolvers<void>();
    let isAcknowledged = false;
    receive(opened, (event) => {
      if (isAcknowledged) {
        deliver(opened, event);
        return;
      }
      if (event.frame === null) return;
      if (readMessage(event.frame)?.method !== 'notifications/subscriptions/acknowledged') {
        acknowledgement.reject(new Error('not acknowledged'));
        return;
      }
      isAcknowledged = true;
      seen = [];
      acknowledgement.resolve();
    });
    opened.answer.on('close', () => acknowledgement.reject(new Error('closed')));
    const late = setTimeout(() => acknowledgement.reject(new Error('late')), acknowledgeMs);
    try {
      await acknowledgement.promise;
    } finally {
      clearTimeout(late);
    }
  }

  async function overlap(old: Connection): Promise<void> {
    if (old.over) return;
    await around.clock.sleep(overlapMs, gone.signal).catch(() => undefined);
  }
}

function resumed(headers: readonly string[], from: string): string[] {
  const others: string[] = [];
  for (let at = 0; at + 1 < headers.length; at += 2) {
    if (headers[at]?.toLowerCase() === 'last-event-id') continue;
    others.push(headers[at] as string, headers[at + 1] as string);
  }
  return [...others, 'Last-Event-ID', from];
}
