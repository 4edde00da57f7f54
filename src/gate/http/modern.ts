/** A server of revision 2026-07-28 behind the gate: single requests of many clients, on one process of it. */
import type { ServerResponse } from 'node:http';
import { errorFrame, frameOf, gateErrors, type Message, paramOf, readMessage } from '../message.ts';
import { canonicalId, type Range, splice, valueAt } from '../scan.ts';
import type { Session } from '../session/session.ts';
import { answerError } from './answers.ts';
import type { Incoming } from './backend.ts';
import { eventOf, eventStreamHeaders, keepAliveComment } from './events.ts';
import { createParamHeaders } from './param-headers.ts';
import { logLines, type ServerParts, startSession } from './server.ts';
import { createGather } from './gather.ts';
import { eachFrame, statusOf } from './frames-of-http.ts';
import { refusalOf } from './versions.ts';

export interface Modern {
  /** Answers one request. `supported`: the revisions of the server. */
  post(incoming: Incoming, message: Message, supported: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** A quiet stream says so often that it lives; an answer that takes as long becomes a stream. */
const keepAliveMs = 15_000;
export interface ModernLimits {
  /** What clients have not read yet: beyond it the server is not read from any more. */
  readonly backlogBytesMost: number;
  /** While the server waits for them, so long may clients read nothing. */
  readonly stalledMs: number;
}

const defaultLimits: ModernLimits = { backlogBytesMost: 32 << 20, stalledMs: 30_000 };
/** Less than this is not worth watching. */
const slowBytes = 64 << 10;

const subscriptionKey = 'io.modelcontextprotocol/subscriptionId';
const logLevelKey = 'io.modelcontextprotocol/logLevel';

/** One request on its way. */
interface Exchange {
  /** As the client wrote them. */
  readonly id: string;
  readonly token: string | null;
  readonly isListen: boolean;
  readonly wantsLogs: boolean;
  readonly response: ServerResponse;
}

export function createModern(
  parts: ServerParts,
  { backlogBytesMost, stalledMs }: ModernLimits = defaultLimits,
): Modern {
  const { entry, log } = parts;
  /** By `canonicalId` of the id that the server knows. */
  const exchanges = new Map<string, Exchange>();
  const asked = new Map<string, (answer: Message) => void>();
  const slow = new Set<Exchange>();
  let session: Session | null = null;
  let isHeld: PromiseWithResolvers<void> | null = null;
  let lastId = 0;
  let isPaused = false;
  let stalled: NodeJS.Timeout | null = null;
  let isClosing = false;

  const headers = createParamHeaders((method, params) => ask(method, params), parts.clock);

  const beating = setInterval(() => {
    for (const exchange of exchanges.values()) {
      if (exchange.response.headersSent) write(exchange, keepAliveComment);
      else begin(exchange);
    }
  }, keepAliveMs);
  beating.unref();

  function current(): Session {
    if (session !== null) return session;
    const started = startSession(parts, {
      send(frames) {
        eachFrame(frames, fromServer);
        return !isPaused;
      },
      hold(held) {
        if (held) isHeld ??= Promise.withResolvers();
        else {
          isHeld?.resolve();
          isHeld = null;
        }
      },
      log: logLines(parts),
    });
    session = started;
    void started.ended.then((end) => {
      if (session === started) session = null;
      isHeld?.resolve();
      isHeld = null;
      const message = end.message ?? 'The server has ended.';
      for (const [id, exchange] of exchanges) {
        exchanges.delete(id);
        settle(exchange, errorFrame(exchange.id, gateErrors.serverEnded, message), 502);
      }
      for (const [id, resolve] of asked) {
        asked.delete(id);
        const failed = readMessage(errorFrame('null', gateErrors.serverEnded, message));
        if (failed !== null) resolve(failed);
      }
      if (!isClosing) log.warn({ server: entry.name, why: end.why }, 'the server has ended');
    });
    return started;
  }

  const gather = createGather((frames) => current().fromClient(frames));

  function nextId(): string {
    lastId += 1;
    return `gate:${lastId}`;
  }

  /** A request of the gate's own. */
  function ask(method: string, params: object): Promise<Message> {
    const id = nextId();
    const answer = new Promise<Message>((resolve) => asked.set(`"${id}`, resolve));
    gather.add([frameOf({ id, method, params })]);
    return answer;
  }

  async function post(
    { request, response }: Incoming,
    message: Message,
    supported: readonly string[],
  ): Promise<void> {
    const id = textAt(message, message.idRange) ?? 'null';
    const refusal = refusalOf(request.headers, message, supported);
    if (refusal !== null) {
      answerError(response, 400, refusal, { id });
      return;
    }
    if (message.method === 'tools/call') {
      const wrong = await headers.mismatch(request.headers, message);
      if (wrong !== null) {
        answerError(response, 400, wrong, { id });
        return;
      }
    }
    if (isHeld !== null) await isHeld.promise;
    if (response.destroyed) return;
    const given = nextId();
    const token = paramOf(message, '_meta', 'progressToken');
    const exchange: Exchange = {
      id,
      token: textAt(message, token),
      isListen: message.method === 'subscriptions/listen',
      wantsLogs: paramOf(message, '_meta', logLevelKey) !== null,
      response,
    };
    const key = `"${given}`;
    exchanges.set(key, exchange);
    response.on('close', () => {
      leaveSlow(exchange);
      if (!exchanges.delete(key)) return;
      // In this revision a client cancels by closing the stream.
      const params = { requestId: given, reason: 'The client closed its stream.' };
      if (session !== null) {
        gather.add([frameOf({ method: 'notifications/cancelled', params })]);
      }
    });
    const quoted = JSON.stringify(given);
    const changes = [message.idRange, token].filter((range) => range !== null);
    changes.sort((a, b) => a.start - b.start);
    const frame = splice(
      message.bytes,
      changes.map((range) => ({ range, by: quoted })),
    );
    gather.add([frame]);
  }

  function fromServer(frame: Buffer): void {
    const message = readMessage(frame);
    if (message === null) return;
    if (message.kind === 'response') answered(message);
    else if (message.kind === 'notification') told(message);
    // Servers of this revision ask nothing of clients by themselves.
    else
      log.warn(
        { server: entry.name, method: message.method },
        'a request of the server is dropped',
      );
  }

  function answered(message: Message): void {
    const key = message.id ?? '';
    const own = asked.get(key);
    if (own !== undefined) {
      asked.delete(key);
      own(message);
      return;
    }
    const exchange = exchanges.get(key);
    // Late: the client has left.
    if (exchange === undefined || message.idRange === null) return;
    exchanges.delete(key);
    const changes = [{ range: message.idRange, by: exchange.id }];
    const subscription = exchange.isListen
      ? valueAt(message.bytes, message.result, '_meta', subscriptionKey)
      : null;
    if (subscription !== null) changes.push({ range: subscription, by: exchange.id });
    changes.sort((a, b) => a.range.start - b.range.start);
    settle(exchange, splice(message.bytes, changes), statusOf(message));
  }

  function told(message: Message): void {
    if (message.method === 'notifications/tools/list_changed') headers.forget();
    switch (message.method) {
      case 'notifications/progress': {
        const range = paramOf(message, 'progressToken');
        const exchange = exchangeAt(message, range);
        if (exchange !== null && exchange.token !== null)
          pass(exchange, message, range, exchange.token);
        return;
      }
      case 'notifications/cancelled': {
        // The server ends a subscription.
        const range = paramOf(message, 'requestId');
        const exchange = exchangeAt(message, range);
        if (exchange === null) return;
        exchanges.delete(canonicalAt(message, range));
        begin(exchange);
        exchange.response.end();
        return;
      }
      case 'notifications/message': {
        // By stdio nothing says which request it is about: where several could be meant, none gets it.
        const wanting = [...exchanges.values()].filter(({ wantsLogs }) => wantsLogs);
        const [only] = wanting;
        if (only !== undefined && wanting.length === 1) pass(only, message, null, '');
        return;
      }
      default: {
        const range = paramOf(message, '_meta', subscriptionKey);
        const exchange = exchangeAt(message, range);
        if (exchange !== null) pass(exchange, message, range, exchange.id);
      }
    }
  }

  function exchangeAt(message: Message, range: Range | null): Exchange | null {
    return exchanges.get(canonicalAt(message, range)) ?? null;
  }

  function pass(exchange: Exchange, message: Message, range: Range | null, by: string): void {
    const frame = range === null ? message.bytes : splice(message.bytes, [{ range, by }]);
    begin(exchange);
    write(exchange, eventOf(frame, null));
  }

  /** Turns the answer into a stream. */
  function begin({ response }: Exchange): void {
    if (response.headersSent) return;
    response.writeHead(200, eventStreamHeaders);
    response.flushHeaders();
  }

  function settle(exchange: Exchange, frame: Buffer, status: number): void {
    const { response } = exchange;
    if (response.headersSent) {
      write(exchange, eventOf(frame, null));
      response.end();
      return;
    }
    const body = frame.subarray(0, -1);
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': body.length,
    });
    response.end(body);
    if (response.writableLength > slowBytes) becomeSlow(exchange);
  }

  function write(exchange: Exchange, bytes: Buffer): void {
    if (!exchange.response.write(bytes)) becomeSlow(exchange);
  }

  function becomeSlow(exchange: Exchange): void {
    if (!slow.has(exchange)) {
      slow.add(exchange);
      exchange.response.once('drain', () => leaveSlow(exchange));
      exchange.response.once('finish', () => leaveSlow(exchange));
    }
    let backlog = 0;
    for (const { response } of slow) backlog += response.writableLength;
    if (backlog <= backlogBytesMost || isPaused) return;
    isPaused = true;
    stalled = setTimeout(cutStalled, stalledMs);
  }

  function leaveSlow(exchange: Exchange): void {
    slow.delete(exchange);
    if (!isPaused) return;
    let backlog = 0;
    for (const { response } of slow) backlog += response.writableLength;
    if (backlog > backlogBytesMost) return;
    if (stalled !== null) clearTimeout(stalled);
    isPaused = false;
    session?.clientDrained();
  }

  /** Others must not wait for a client that reads nothing. */
  function cutStalled(): void {
    log.warn({ server: entry.name, clients: slow.size }, 'clients that read nothing are cut off');
    for (const { response } of slow) response.destroy();
  }

  return {
    post,
    async close() {
      isClosing = true;
      clearInterval(beating);
      if (stalled !== null) clearTimeout(stalled);
      const open = session;
      open?.clientClosed();
      await open?.ended;
    },
  };
}

function canonicalAt(message: Message, range: Range | null): string {
  return range === null ? '' : (canonicalId(message.bytes, range) ?? '');
}

function textAt(message: Message, range: Range | null): string | null {
  return range === null ? null : message.bytes.toString('utf8', range.start, range.end);
}
