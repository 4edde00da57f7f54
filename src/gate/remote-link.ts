/** A server that is reached by Streamable HTTP, as a link: each frame a POST, its answers and streams frames again. */
import type { IncomingMessage } from 'node:http';
import { type Clock, systemClock } from '../clock.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import { type Launch, renderLaunch } from './entry.ts';
import { readBody } from './http/answers.ts';
import { type Conversation, headersOf } from './http/remote-headers.ts';
import { createHttpClient, type HttpClient } from './http/client.ts';
import { createEventSplitter } from './http/events.ts';
import { headerOf, isEventStream } from './http/headers.ts';
import { collectTools, listTools, type ParamHeader } from './http/param-headers.ts';
import { eachFrame, errorCodeOf, frameOfBody } from './http/frames-of-http.ts';
import { modernVersionOf } from './http/versions.ts';
import type { Link, LinkEnd, LinkEvents, StartLink } from './link.ts';
import {
  cancelledId,
  errorFrame,
  frameOf,
  gateErrors,
  type Message,
  parseRange,
  paramOf,
  readMessage,
  splitBatch,
} from './message.ts';
import { stringAt, valueAt } from './scan.ts';

type Remote = Extract<Launch, { kind: 'remote' }>;

export interface RemoteTimes {
  /** After the last word of its session, calls under way may take so long. */
  readonly settleMs: number;
  /** So long the end of the session may take. */
  readonly deleteMs: number;
  /** A stream that broke is taken up again after so long, where the server names nothing else; twice as long each time. */
  readonly resumeMs: number;
}

const defaultTimes: RemoteTimes = { settleMs: 2_000, deleteMs: 2_000, resumeMs: 500 };
/** So often in a row the stream of a call may break without anything on it. */
const resumesMost = 5;
const resumeMostMs = 30_000;
/** Frames that wait for the head of their answer; beyond it the client has to wait. */
const backlogBytesMost = 4 << 20;

/** Each start renders the launch with the values it is given, and has connections of its own. */
export function remoteLink(
  launch: Remote,
  { times = defaultTimes, clock = systemClock() }: RemoteOptions = {},
): StartLink {
  return ({ values }, events) => {
    try {
      const filled = renderLaunch(launch, values) as Remote;
      return open(filled, events, times, clock);
    } catch (error) {
      const { message } = asRotatedError(error, 'none');
      const end: LinkEnd = { why: 'failed', exitCode: null, signal: null, message };
      return {
        send: () => true,
        pause: () => undefined,
        resume: () => undefined,
        endInput: () => undefined,
        stop: async () => end,
        ended: Promise.resolve(end),
      };
    }
  };
}

interface RemoteOptions {
  readonly times?: RemoteTimes;
  readonly clock?: Clock;
}

/** A request that is not answered yet. */
interface Call {
  readonly id: string;
  /** As it stood in the frame. */
  readonly text: string;
  readonly isModern: boolean;
  readonly ending: AbortController;
  isAnswered: boolean;
}

/** What came on a stream of events before it ended. */
interface Streamed {
  readonly lastId: string | null;
  readonly retryMs: number | null;
  readonly hadEvents: boolean;
}

function open(launch: Remote, events: LinkEvents, times: RemoteTimes, clock: Clock): Link {
  const url = new URL(launch.url);
  const client: HttpClient = createHttpClient();
  const ended = Promise.withResolvers<LinkEnd>();
  const closing = new AbortController();
  const listening = new AbortController();
  const calls = new Map<string, Call>();
  const reading = new Set<IncomingMessage>();
  const tools: Map<string, readonly ParamHeader[]> = new Map();
  const said: Conversation = { sessionId: null, version: null, tools };
  const headersFor = (message: Message | null, length: number | null) =>
    headersOf(launch, url, said, message, length);
  const listings = new Set<string>();
  /** Frames that must not overtake the handshake. */
  let waiting: Buffer[] | null = null;
  let backlogBytes = 0;
  let isFull = false;
  let isPaused = false;
  let isStopping = false;
  let settled: PromiseWithResolvers<void> | null = null;
  let lastOwnId = 0;
  const own = new Map<string, (answer: Message) => void>();

  function accept(frame: Buffer): void {
    if (waiting !== null) {
      waiting.push(frame);
      return;
    }
    const message = readMessage(frame);
    if (message === null || !isHandshake(message)) {
      void pass(frame, message);
      return;
    }
    waiting = [];
    void pass(frame, message).finally(() => {
      const held = waiting ?? [];
      waiting = null;
      for (const one of held) accept(one);
    });
  }

  /** Resolves when the server has taken the frame; for a handshake, when it has answered. */
  async function pass(frame: Buffer, message: Message | null): Promise<void> {
    const isModern = message !== null && modernVersionOf(message) !== null;
    if (message?.method === 'notifications/cancelled') {
      const call = calls.get(cancelledId(message) ?? '');
      if (call?.isModern === true) {
        // In this revision the end of its stream is what tells the server.
        finish(call);
        call.ending.abort();
        return;
      }
    }
    const call = message?.kind === 'request' ? begin(message, isModern) : null;
    if (message?.method === 'tools/list' && call !== null) listings.add(call.id);
    backlogBytes += frame.length;
    try {
      await exchange(frame, message, call, false);
      if (message?.method === 'notifications/initialized') void listen();
    } catch (error) {
      fail(call, error);
    }
  }

  function begin(message: Message, isModern: boolean): Call {
    const { idRange } = message;
    const call: Call = {
      id: message.id ?? '',
      text: idRange === null ? 'null' : message.bytes.toString('utf8', idRange.start, idRange.end),
      isModern,
      ending: new AbortController(),
      isAnswered: false,
    };
    calls.set(call.id, call);
    return call;
  }

  function finish(call: Call): void {
    call.isAnswered = true;
    if (calls.get(call.id) === call) calls.delete(call.id);
    if (calls.size === 0) settled?.resolve();
  }

  /** One error for a call that gets no answer any more. */
  function fail(call: Call | null, thrown: unknown): void {
    if (call === null || call.isAnswered || closing.signal.aborted) return;
    const error = asRotatedError(thrown, 'unknown');
    const code = error.effect === 'none' ? gateErrors.notStarted : gateErrors.serverEnded;
    deliver(errorFrame(call.text, code, error.message), call);
  }

  function deliver(frame: Buffer, call: Call | null): void {
    if (call !== null) finish(call);
    events.onFrames([frame]);
  }

  async function request(
    method: string,
    headers: readonly string[],
    body: Buffer | null,
    ending: AbortSignal,
  ): Promise<IncomingMessage> {
    const signal = AbortSignal.any([closing.signal, ending]);
    const answer = await client.send({ url, method, headers, body, signal });
    answer.on('error', () => undefined);
    reading.add(answer);
    answer.on('close', () => reading.delete(answer));
    const status = answer.statusCode ?? 0;
    if (status >= 300 && status <= 399) {
      answer.resume();
      throw new RotatedError('unavailable', `${url.host} redirects elsewhere.`, {
        next: 'Write the address it redirects to into the entry, if you trust it.',
      });
    }
    return answer;
  }

  async function exchange(
    frame: Buffer,
    message: Message | null,
    call: Call | null,
    isAgain: boolean,
  ): Promise<void> {
    const body = frame.subarray(0, -1);
    let answer: IncomingMessage;
    try {
      const ending = call?.ending.signal ?? closing.signal;
      answer = await request('POST', headersFor(message, body.length), body, ending);
    } finally {
      if (!isAgain) relieve(frame.length);
    }
    const status = answer.statusCode ?? 0;
    if (message?.method === 'initialize' && status === 200) {
      said.sessionId = headerOf(answer.headers, 'mcp-session-id');
    }
    if (status === 200 && isEventStream(answer.headers)) {
      const streamed = await readEvents(answer, call);
      if (call !== null) await goOn(call, streamed);
      return;
    }
    const bytes = await readBody(answer);
    if (bytes === null)
      throw new RotatedError('too-large', 'The answer of the server is too long.');
    if (status === 404 && said.sessionId !== null && message?.method !== 'initialize') {
      end('exited', 'The server has ended the session.');
      return;
    }
    if (status >= 200 && status <= 299) {
      if (bytes.length > 0) received(frameOfBody(bytes), call);
      else if (call !== null)
        throw new RotatedError('invalid-answer', 'The server did not answer.');
      return;
    }
    if (call === null) return;
    const refused = readMessage(frameOfBody(bytes));
    const isMismatch = refused !== null && errorCodeOf(refused) === headerMismatchCode;
    if (isMismatch && !isAgain && message?.method === 'tools/call' && call.isModern) {
      // The tool repeats arguments in headers, and its schema has not been seen yet, or has changed.
      const found = await listTools(ask, metaOf(message));
      for (const [name, declared] of found ?? []) tools.set(name, declared);
      await exchange(frame, message, call, true);
      return;
    }
    refuse(call, status, refused);
  }

  function relieve(bytes: number): void {
    backlogBytes -= bytes;
    if (!isFull || backlogBytes > backlogBytesMost / 2) return;
    isFull = false;
    events.onDrain();
  }

  function refuse(call: Call, status: number, refused: Message | null): void {
    if (refused?.error == null) {
      const message = `The server answered with status ${status}.`;
      deliver(errorFrame(call.text, gateErrors.notStarted, message), call);
      return;
    }
    const error = refused.bytes.toString('utf8', refused.error.start, refused.error.end);
    deliver(Buffer.from(`{"jsonrpc":"2.0","id":${call.text},"error":${error}}\n`), call);
  }

  /** A body or the data of an event: a message, or a batch of some. */
  function received(frame: Buffer, call: Call | null): void {
    for (const one of splitBatch(frame) ?? [frame]) {
      const message = readMessage(one);
      if (message === null) continue;
      if (message.kind === 'response') answered(message, call);
      else events.onFrames([one]);
    }
  }

  function answered(message: Message, call: Call | null): void {
    const key = message.id ?? '';
    const waiter = own.get(key);
    if (waiter !== undefined) {
      own.delete(key);
      waiter(message);
      if (call !== null) finish(call);
      return;
    }
    if (listings.delete(key) && message.result !== null) collectTools(message, tools);
    if (said.version === null) {
      said.version = stringAt(
        message.bytes,
        valueAt(message.bytes, message.result, 'protocolVersion'),
      );
    }
    const answeredCall = calls.get(key);
    // Nobody waits for it any more.
    if (answeredCall === undefined) return;
    deliver(message.bytes, answeredCall);
  }

  /** Until the stream ends, for whatever reason. */
  function readEvents(answer: IncomingMessage, call: Call | null): Promise<Streamed> {
    const split = createEventSplitter();
    let lastId: string | null = null;
    let retryMs: number | null = null;
    let hadEvents = false;
    return new Promise((resolve) => {
      answer.on('data', (chunk: Buffer) => {
        try {
          for (const event of split(chunk)) {
            lastId = event.id ?? lastId;
            retryMs = event.retryMs ?? retryMs;
            hadEvents = true;
            if (event.frame !== null) received(event.frame, call);
          }
        } catch {
          answer.destroy();
        }
        if (isPaused) answer.pause();
      });
      answer.on('close', () => resolve({ lastId, retryMs, hadEvents }));
    });
  }

  /** The stream of a call has ended before its answer: taken up again where the server can. */
  async function goOn(call: Call, first: Streamed): Promise<void> {
    let { lastId, retryMs } = first;
    for (let broken = 0; !call.isAnswered && !closing.signal.aborted; ) {
      if (call.isModern || lastId === null || broken >= resumesMost) {
        throw new RotatedError('unavailable', 'The server broke off its answer.', {
          effect: 'unknown',
        });
      }
      await pause(retryMs, broken);
      const streamed = await resume(lastId, call);
      broken = streamed?.hadEvents === true ? 0 : broken + 1;
      lastId = streamed?.lastId ?? lastId;
      retryMs = streamed?.retryMs ?? retryMs;
    }
  }

  /** null where the server does not take it up. */
  async function resume(lastId: string, call: Call): Promise<Streamed | null> {
    try {
      const headers = [...headersFor(null, null), 'Last-Event-ID', lastId];
      const answer = await request('GET', headers, null, call.ending.signal);
      if (answer.statusCode === 200 && isEventStream(answer.headers)) {
        return await readEvents(answer, call);
      }
      answer.resume();
      return null;
    } catch {
      return null;
    }
  }

  /** The stream of what belongs to no request, for as long as the link lives; a server may offer none. */
  async function listen(): Promise<void> {
    let lastId: string | null = null;
    let retryMs: number | null = null;
    for (let broken = 0; !listening.signal.aborted && !closing.signal.aborted; broken++) {
      try {
        const resumed: string[] = lastId === null ? [] : ['Last-Event-ID', lastId];
        const headers = [...headersFor(null, null), ...resumed];
        const answer = await request('GET', headers, null, listening.signal);
        if (answer.statusCode === 200 && isEventStream(answer.headers)) {
          const streamed = await readEvents(answer, null);
          if (streamed.hadEvents) broken = 0;
          lastId = streamed.lastId ?? lastId;
          retryMs = streamed.retryMs ?? retryMs;
        } else {
          answer.resume();
          if (answer.statusCode === 404) end('exited', 'The server has ended the session.');
          if ((answer.statusCode ?? 0) < 500) return;
        }
      } catch (error) {
        if (!isRotatedError(error, 'unavailable')) return;
      }
      await pause(retryMs, broken);
    }
  }

  async function pause(retryMs: number | null, broken: number): Promise<void> {
    const ms = Math.min((retryMs ?? times.resumeMs) * 2 ** Math.min(broken, 10), resumeMostMs);
    await clock.sleep(ms, closing.signal).catch(() => undefined);
  }

  /** A request of the link's own. */
  function ask(method: string, params: object): Promise<Message> {
    lastOwnId += 1;
    const id = `rotated:link:${lastOwnId}`;
    const frame = frameOf({ id, method, params });
    const message = readMessage(frame);
    const answer = new Promise<Message>((resolve) => own.set(`"${id}`, resolve));
    const call = message === null ? null : begin(message, true);
    void exchange(frame, message, call, true).catch(() => {
      const failed = readMessage(errorFrame(JSON.stringify(id), gateErrors.serverEnded, 'failed'));
      if (failed !== null) answered(failed, call);
    });
    return answer;
  }

  function end(why: LinkEnd['why'], message: string | null): void {
    closing.abort();
    client.close();
    ended.resolve({ why, exitCode: why === 'failed' ? null : 0, signal: null, message });
  }

  /** Resolves when no call is open, or `until` says that it has taken long enough. */
  async function settle(until: Promise<unknown> | null): Promise<void> {
    if (calls.size === 0) return;
    settled ??= Promise.withResolvers();
    await Promise.race([settled.promise, ended.promise, ...(until === null ? [] : [until])]);
  }

  async function leave(why: LinkEnd['why'], until: Promise<unknown> | null): Promise<void> {
    listening.abort();
    await settle(until);
    if (said.sessionId !== null && !closing.signal.aborted) {
      const late = AbortSignal.timeout(times.deleteMs);
      const headers = headersFor(null, null);
      said.sessionId = null;
      await request('DELETE', headers, null, late).then(
        (answer) => answer.resume(),
        () => undefined,
      );
    }
    end(why, null);
  }

  return {
    send(frames) {
      eachFrame(frames, accept);
      isFull = backlogBytes > backlogBytesMost;
      return !isFull;
    },
    pause() {
      isPaused = true;
      for (const answer of reading) answer.pause();
    },
    resume() {
      isPaused = false;
      for (const answer of reading) answer.resume();
    },
    endInput: () => void leave('exited', null),
    async stop(how) {
      if (how === 'now') end('closed', null);
      else if (!isStopping) {
        isStopping = true;
        // Whoever paused reading will not resume it.
        isPaused = false;
        for (const answer of reading) answer.resume();
        const late = clock.sleep(times.settleMs, closing.signal).catch(() => undefined);
        void leave('closed', late);
      }
      return ended.promise;
    },
    ended: ended.promise,
  };
}

const headerMismatchCode = -32_020;

function isHandshake({ method }: Message): boolean {
  return method === 'initialize' || method === 'notifications/initialized';
}

function metaOf(message: Message): unknown {
  const range = paramOf(message, '_meta');
  return range === null ? undefined : parseRange(message.bytes, range);
}
