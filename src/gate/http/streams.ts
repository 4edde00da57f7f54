/** The streams of one session of an earlier revision: what goes on which, and what a client that lost one gets again. */
import type { ServerResponse } from 'node:http';
import { eventOf, eventStreamHeaders, keepAliveComment, primingEvent } from './events.ts';

export interface Stream {
  /** Tells it from every other stream of this session, also those before a restart of the gate. */
  readonly key: string;
  /** `canonicalId`s of the requests that it still has to answer. */
  readonly open: Set<string>;
  /** One request alone may be answered by JSON. */
  readonly isSingle: boolean;
  response: ServerResponse | null;
  isStarted: boolean;
  isOver: boolean;
  lastEvent: number;
}

export interface Streams {
  /** Of a POST with these requests; `only` as the client wrote the id, where there is one. */
  forRequests(
    response: ServerResponse,
    ids: readonly string[],
    only: string | null,
    streamAfterMs?: number,
  ): Stream;
  /** What belongs to no request: a GET. */
  readonly standalone: Stream;
  /** The newest that still has something to answer; `only` where it must be the only one. */
  openRequest(which: 'only' | 'newest'): Stream | null;
  /** False: some client does not keep up. */
  deliver(stream: Stream, frame: Buffer, isLast: boolean): boolean;
  /** Answers with one JSON body, or as a stream where it became one. */
  answer(stream: Stream, frame: Buffer, status: number): boolean;
  /** Nothing will come on it any more. */
  end(stream: Stream): void;
  attach(stream: Stream, response: ServerResponse): void;
  /** Attaches to the stream that the event stood on, and repeats what came after. Null: nothing is known of it. */
  resume(eventId: string, response: ServerResponse): Stream | null;
  isConnected(): boolean;
  close(): void;
}

export interface StreamsOptions {
  /** Tells the events of this run from those of earlier ones. */
  readonly run: string;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  /** Whether the client knows an event without data for what it is. */
  readonly canPrime: () => boolean;
  readonly onDrain: () => void;
}

/** A request that is not answered after so long gets a stream, so that the client sees that it is under way. */
const streamAfterMs = 1_000;
const keepAliveMs = 15_000;
/** What is kept for clients that come back. */
const eventsMost = 512;
const eventBytesMost = 2 << 20;
/** What a client has not read yet: beyond it the server is not read from. */
const unreadBytesMost = 1 << 20;
/** An id of a client longer than this is not repeated in ids of events. */
const idLengthMost = 128;

interface Kept {
  readonly stream: Stream;
  readonly number: number;
  readonly bytes: Buffer;
}

export function createStreams(options: StreamsOptions): Streams {
  const { run } = options;
  const streams = new Map<string, Stream>();
  const waiting = new Map<Stream, NodeJS.Timeout>();
  let kept: Kept[] = [];
  let keptBytes = 0;
  let lastStream = 0;
  /** Events of the standalone stream up to here were written to somebody. */
  let standaloneSent = 0;

  const standalone = newStream(`${run}.0`, [], false);
  standalone.isStarted = true;
  const beating = setInterval(() => {
    for (const { response, isStarted } of streams.values()) {
      if (isStarted) response?.write(keepAliveComment);
    }
  }, keepAliveMs);
  beating.unref();

  function newStream(key: string, ids: readonly string[], isSingle: boolean): Stream {
    const stream: Stream = {
      key,
      open: new Set(ids),
      isSingle,
      response: null,
      isStarted: false,
      isOver: false,
      lastEvent: 0,
    };
    streams.set(key, stream);
    return stream;
  }

  function take(stream: Stream, response: ServerResponse): void {
    stream.response?.end();
    stream.response = response;
    response.on('drain', options.onDrain);
    response.on('close', () => {
      // The client has left, which is no cancellation: it may come back for the rest.
      if (stream.response === response) stream.response = null;
      options.onDrain();
      if (stream.isOver && !hasKept(stream)) streams.delete(stream.key);
    });
  }

  function hasKept(stream: Stream): boolean {
    return kept.some((one) => one.stream === stream);
  }

  function begin(stream: Stream): void {
    clearTimeout(waiting.get(stream));
    waiting.delete(stream);
    if (stream.isStarted) return;
    stream.isStarted = true;
    if (stream.response === null) return;
    stream.response.writeHead(200, { ...eventStreamHeaders, ...options.headers });
    stream.response.flushHeaders();
    prime(stream);
  }

  function prime(stream: Stream): void {
    if (options.canPrime()) stream.response?.write(primingEvent(eventId(stream)));
  }

  function keep(stream: Stream, bytes: Buffer): void {
    // What was received lies in a chunk of its own size: kept is only this event.
    kept.push({ stream, number: stream.lastEvent, bytes });
    keptBytes += bytes.length;
    let dropped = 0;
    while (kept.length - dropped > eventsMost || keptBytes > eventBytesMost) {
      const oldest = kept[dropped];
      if (oldest === undefined) break;
      keptBytes -= oldest.bytes.length;
      dropped += 1;
    }
    if (dropped === 0) return;
    const gone = kept.slice(0, dropped);
    kept = kept.slice(dropped);
    for (const one of gone) {
      if (one.stream.isOver && one.stream.response === null && !hasKept(one.stream)) {
        streams.delete(one.stream.key);
      }
    }
  }

  function write(stream: Stream, bytes: Buffer): boolean {
    const { response } = stream;
    if (response === null) return true;
    if (stream === standalone) standaloneSent = stream.lastEvent;
    response.write(bytes);
    return response.writableLength < unreadBytesMost;
  }

  function finish(stream: Stream): void {
    clearTimeout(waiting.get(stream));
    waiting.delete(stream);
    stream.isOver = true;
    stream.open.clear();
  }

  function deliver(stream: Stream, frame: Buffer, isLast: boolean): boolean {
    begin(stream);
    stream.lastEvent += 1;
    const bytes = eventOf(frame, eventId(stream));
    keep(stream, bytes);
    const isRead = write(stream, bytes);
    if (isLast) {
      finish(stream);
      stream.response?.end();
    }
    return isRead;
  }

  return {
    standalone,
    deliver,
    forRequests(response, ids, only, afterMs = streamAfterMs) {
      lastStream += 1;
      const name =
        only === null || only.length > idLengthMost
          ? ''
          : `.${Buffer.from(only).toString('base64url')}`;
      const stream = newStream(`${run}.${lastStream}${name}`, ids, ids.length === 1);
      take(stream, response);
      waiting.set(stream, setTimeout(() => begin(stream), afterMs).unref());
      return stream;
    },
    openRequest(which) {
      const open = [...streams.values()].filter((stream) => stream.open.size > 0);
      const requests = open.reduce((sum, stream) => sum + stream.open.size, 0);
      return which === 'only' && requests !== 1 ? null : (open.at(-1) ?? null);
    },
    answer(stream, frame, status) {
      const { response } = stream;
      if (stream.isStarted || response === null || !stream.isSingle) {
        return deliver(stream, frame, stream.open.size === 0);
      }
      finish(stream);
      const body = frame.subarray(0, -1);
      response.writeHead(status, {
        'content-type': 'application/json',
        'content-length': body.length,
        ...options.headers,
      });
      response.end(body);
      streams.delete(stream.key);
      return response.writableLength < unreadBytesMost;
    },
    end(stream) {
      begin(stream);
      finish(stream);
      stream.response?.end();
    },
    attach(stream, response) {
      response.writeHead(200, { ...eventStreamHeaders, ...options.headers });
      response.flushHeaders();
      take(stream, response);
      prime(stream);
      if (stream !== standalone) return;
      for (const one of kept.filter((event) => event.stream === stream)) {
        if (one.number > standaloneSent) response.write(one.bytes);
      }
      standaloneSent = stream.lastEvent;
    },
    resume(id, response) {
      const dot = id.lastIndexOf('.');
      const stream = streams.get(id.slice(0, dot));
      const after = Number(id.slice(dot + 1));
      if (stream === undefined || !Number.isInteger(after)) return null;
      response.writeHead(200, { ...eventStreamHeaders, ...options.headers });
      response.flushHeaders();
      clearTimeout(waiting.get(stream));
      stream.isStarted = true;
      take(stream, response);
      for (const one of kept) {
        if (one.stream === stream && one.number > after) response.write(one.bytes);
      }
      if (stream === standalone) standaloneSent = stream.lastEvent;
      if (stream.isOver) response.end();
      return stream;
    },
    isConnected: () =>
      [...streams.values()].some(({ response, open }) => response !== null || open.size > 0),
    close() {
      clearInterval(beating);
      for (const stream of streams.values()) {
        finish(stream);
        if (stream.response?.headersSent === true) stream.response.end();
      }
    },
  };
}

function eventId({ key, lastEvent }: Stream): string {
  return `${key}.${lastEvent}`;
}

/** As its client wrote it, the id of the request whose stream an event stood on; null where the event does not tell. */
export function requestOf(eventId: string): string | null {
  const [, number, name] = eventId.split('.');
  if (number === '0' || name === undefined || eventId.split('.').length !== 4) return null;
  const text = Buffer.from(name, 'base64url').toString();
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' || typeof value === 'number' ? text : null;
  } catch {
    return null;
  }
}
