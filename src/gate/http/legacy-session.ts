/** One client of an earlier revision over HTTP: its own process of the server, its streams, and how it goes on after a restart. */
import type { ServerResponse } from 'node:http';
import {
  cancelledId,
  errorFrame,
  gateErrors,
  type Message,
  paramOf,
  readMessage,
  stringParam,
} from '../message.ts';
import { canonicalId, type Range, splice, stringAt, valueAt } from '../scan.ts';
import type { Session } from '../session/session.ts';
import { RotatedError } from '../../errors.ts';
import { answerError, rpcErrors } from './answers.ts';
import type { SavedSession } from './saved-sessions.ts';
import { logLines, type ServerParts, startSession } from './server.ts';
import { createGather } from './gather.ts';
import { eachFrame, statusOf } from './frames-of-http.ts';
import { createStreams, type Stream } from './streams.ts';

export interface LegacySession {
  /** Messages of one POST, from its client; answered on `response`. */
  post(messages: readonly Message[], response: ServerResponse): Promise<void>;
  /** A GET; `lastEventId` where the client comes back. False: that event's stream is not known. */
  listen(response: ServerResponse, lastEventId: string | null): boolean;
  /** A request has come for it; call what is returned when it was handed over. */
  enter(): () => void;
  /** Nobody is connected, and nothing is asked. */
  isQuiet(): boolean;
  readonly usedAtMs: () => number;
  /** Settles when the client may speak: at once, or when what it said before a restart was said again. */
  readonly ready: Promise<void>;
  /** soon: what is still asked needs no answer. */
  stop(how?: 'soon'): Promise<void>;
}

export interface LegacyOptions {
  readonly parts: ServerParts;
  readonly id: string;
  /** Null: it begins with an `initialize`. */
  readonly saved: SavedSession | null;
  /** What to keep for a restart, each time that it changes. */
  save(session: SavedSession): void;
  /** The process is gone and will not come back by itself. */
  onEnded(session: LegacySession): void;
}

/** Since this revision a client knows what an event without data means. */
const primingSince = '2025-11-25';

/** A server that refuses to begin says so by a status, if it takes no longer. */
const beginsWithinMs = 15_000;

export function createLegacySession(options: LegacyOptions): LegacySession {
  const { parts, id } = options;
  const byId = new Map<string, Stream>();
  const byToken = new Map<string, Stream>();
  const tokenOf = new Map<string, string>();
  const replaying = new Map<string, (answer: Message) => void>();
  let state: SavedSession | null = options.saved;
  let initializeId: string | null = null;
  let isHeld: PromiseWithResolvers<void> | null = null;
  let isPaused = false;
  let usedAtMs = parts.clock.monotonicMs();
  let isStopping = false;
  let visitors = 0;

  const streams = createStreams({
    run: parts.random.bytes(6).toString('base64url').replaceAll('.', ''),
    headers: { 'mcp-session-id': id },
    canPrime: () => (state?.protocolVersion ?? '') >= primingSince,
    onDrain() {
      if (!isPaused) return;
      isPaused = false;
      session.clientDrained();
    },
  });

  const session: Session = startSession(parts, {
    send(frames) {
      eachFrame(frames, fromServer);
      return !isPaused;
    },
    hold(held) {
      if (held) isHeld ??= Promise.withResolvers();
      else release();
    },
    log: logLines(parts),
  });

  const gather = createGather((frames) => session.fromClient(frames));

  function release(): void {
    isHeld?.resolve();
    isHeld = null;
  }

  function fromServer(frame: Buffer): void {
    const message = readMessage(frame);
    if (message === null) return;
    if (message.kind === 'response') answered(message);
    else note(streams.deliver(streamFor(message), frame, false));
  }

  function note(isRead: boolean): void {
    if (!isRead) isPaused = true;
  }

  function answered(message: Message): void {
    const key = message.id ?? '';
    const replayed = replaying.get(key);
    if (replayed !== undefined) {
      replaying.delete(key);
      replayed(message);
      return;
    }
    const stream = byId.get(key);
    // Late: it was cancelled.
    if (stream === undefined) return;
    if (key === initializeId) began(message);
    forget(key);
    note(streams.answer(stream, message.bytes, statusOf(message)));
  }

  /** Progress goes with its request; anything else with the only request there is, else to the GET, else with the newest. */
  function streamFor(message: Message): Stream {
    if (message.method === 'notifications/progress') {
      const token = canonicalAt(message, paramOf(message, 'progressToken'));
      const stream = byToken.get(token);
      if (stream !== undefined) return stream;
    }
    const only = streams.openRequest('only');
    if (only !== null) return only;
    if (streams.standalone.response !== null) return streams.standalone;
    return streams.openRequest('newest') ?? streams.standalone;
  }

  function forget(key: string): void {
    byId.get(key)?.open.delete(key);
    byId.delete(key);
    const token = tokenOf.get(key);
    if (token === undefined) return;
    tokenOf.delete(key);
    byToken.delete(token);
  }

  function began(answer: Message): void {
    initializeId = null;
    const version = stringAt(answer.bytes, valueAt(answer.bytes, answer.result, 'protocolVersion'));
    if (version === null || opening === null) return;
    change({
      initialize: opening,
      protocolVersion: version,
      initialized: null,
      level: null,
      subscriptions: {},
    });
  }

  let opening: string | null = null;

  function change(next: SavedSession): void {
    state = next;
    options.save(next);
  }

  /** What a process that takes over from nothing would have to hear again. */
  function learn(message: Message): void {
    const text = message.bytes.toString('utf8').trimEnd();
    if (message.method === 'initialize') {
      opening = text;
      initializeId = message.id;
      return;
    }
    if (state === null) return;
    switch (message.method) {
      case 'notifications/initialized':
        change({ ...state, initialized: text });
        return;
      case 'logging/setLevel':
        change({ ...state, level: text });
        return;
      case 'resources/subscribe':
      case 'resources/unsubscribe': {
        const uri = stringParam(message, 'uri');
        if (uri === null) return;
        const others = Object.entries(state.subscriptions).filter(([one]) => one !== uri);
        const own = message.method === 'resources/subscribe' ? [[uri, text] as const] : [];
        change({ ...state, subscriptions: Object.fromEntries([...others, ...own]) });
        return;
      }
      default:
    }
  }

  async function replay(saved: SavedSession): Promise<void> {
    const answer = await again(saved.initialize);
    const version = stringAt(answer.bytes, valueAt(answer.bytes, answer.result, 'protocolVersion'));
    if (version !== saved.protocolVersion) {
      throw new RotatedError(
        'not-found',
        'The server no longer speaks the revision of this session.',
      );
    }
    if (saved.initialized !== null) session.fromClient([Buffer.from(`${saved.initialized}\n`)]);
    const others = [
      ...(saved.level === null ? [] : [saved.level]),
      ...Object.values(saved.subscriptions),
    ];
    await Promise.all(others.map(again));
  }

  /** Asks what the client asked once, under an id of the gate's. */
  function again(text: string): Promise<Message> {
    const message = readMessage(Buffer.from(`${text}\n`));
    if (message?.idRange == null)
      throw new RotatedError('not-found', 'A saved session is damaged.');
    const own = `gate:${replaying.size}:${parts.random.bytes(6).toString('hex')}`;
    const frame = splice(message.bytes, [{ range: message.idRange, by: JSON.stringify(own) }]);
    return new Promise((resolve, reject) => {
      replaying.set(`"${own}`, resolve);
      void session.ended.then(({ message: why }) =>
        reject(new RotatedError('unavailable', why ?? 'The server has ended.')),
      );
      session.fromClient([frame]);
    });
  }

  const ready = options.saved === null ? Promise.resolve() : replay(options.saved);
  ready.catch(() => undefined);

  const self: LegacySession = {
    ready,
    async post(messages, response) {
      await ready;
      if (isHeld !== null) await isHeld.promise;
      for (const message of messages) learn(message);
      const requests = messages.filter(({ kind }) => kind === 'request');
      const frames = messages.map(({ bytes }) => bytes);
      if (requests.length === 0) {
        for (const message of messages) cancel(message);
        gather.add(frames);
        response.writeHead(202).end();
        return;
      }
      const twice = requests.find((request) => byId.has(request.id ?? ''));
      if (twice !== undefined) {
        const message = 'Invalid Request: a request with this id is under way';
        const error = { code: rpcErrors.invalidRequest, message };
        answerError(response, 400, error, { id: textAt(twice) });
        return;
      }
      const [first] = requests;
      const only = requests.length === 1 && first !== undefined ? textAt(first) : null;
      const ids = requests.map((request) => request.id ?? '');
      const afterMs = initializeId === null ? undefined : beginsWithinMs;
      const stream = streams.forRequests(response, ids, only, afterMs);
      for (const request of requests) {
        const key = request.id ?? '';
        byId.set(key, stream);
        const token = paramOf(request, '_meta', 'progressToken');
        if (token === null) continue;
        byToken.set(canonicalAt(request, token), stream);
        tokenOf.set(key, canonicalAt(request, token));
      }
      gather.add(frames);
    },
    listen(response, lastEventId) {
      if (lastEventId === null) {
        streams.attach(streams.standalone, response);
        return true;
      }
      return streams.resume(lastEventId, response) !== null;
    },
    enter() {
      visitors += 1;
      usedAtMs = parts.clock.monotonicMs();
      return () => {
        visitors -= 1;
      };
    },
    isQuiet: () => visitors === 0 && byId.size === 0 && !streams.isConnected(),
    usedAtMs: () => usedAtMs,
    async stop(how) {
      isStopping = true;
      session.clientClosed();
      // Said again, it hurries.
      if (how === 'soon') session.clientClosed();
      await session.ended;
    },
  };

  /** The server may never answer what was cancelled: its stream ends with it. */
  function cancel(message: Message): void {
    if (message.method !== 'notifications/cancelled') return;
    const key = cancelledId(message) ?? '';
    const stream = byId.get(key);
    if (stream === undefined) return;
    forget(key);
    if (stream.open.size === 0) streams.end(stream);
  }

  void session.ended.then((end) => {
    for (const [key, stream] of byId) {
      const text = key.startsWith('"') ? JSON.stringify(key.slice(1)) : key;
      const why = isStopping
        ? 'The gate has ended; whether the call was carried out is not known.'
        : (end.message ?? 'The server has ended; whether the call was carried out is not known.');
      const code = end.why === 'failed' ? gateErrors.notStarted : gateErrors.serverEnded;
      forget(key);
      streams.answer(stream, errorFrame(text, code, why), 200);
    }
    streams.close();
    release();
    options.onEnded(self);
  });
  return self;
}

function canonicalAt(message: Message, range: Range | null): string {
  return range === null ? '' : (canonicalId(message.bytes, range) ?? '');
}

/** The id as the client wrote it. */
function textAt({ bytes, idRange }: Message): string | null {
  return idRange === null ? null : bytes.toString('utf8', idRange.start, idRange.end);
}
