/** Which frame goes where: the owner of each call, and what a process may say to the client in each stage of its life. */
import { createBatch } from '../frames.ts';
import {
  cancelledId,
  errorFrame,
  frameOf,
  gateErrors,
  idAtEnds,
  type Message,
  paramOf,
  readMessage,
  splitBatch,
  stringParam,
} from '../message.ts';
import { canonicalId, splice } from '../scan.ts';
import type { Affinity } from './affinity.ts';
import { subscriptionOf, type Learning } from './carried.ts';
import { type Agent, type Call, idText, type Stage } from './path.ts';
import { forget, type Running } from './running.ts';
import type { ClientPort, GateLog } from './session.ts';

/** The processes of a session, by what they are for. */
export interface Processes {
  /** Takes new calls. */
  serving: Running | null;
  /** Still answers what it was asked. In the order in which they were replaced. */
  readonly old: Set<Running>;
}

export interface RoutingOptions {
  readonly processes: Processes;
  readonly carried: Learning;
  readonly affinity: Affinity;
  readonly stages: readonly Stage[];
  readonly client: ClientPort;
  readonly log: GateLog;
  readonly agent: Agent | null;
  /** Tools whose calls may be sent again. */
  retryable(): readonly string[];
  nextId(): number;
  /** A frame that nobody can take now; `serving` is null. */
  onNobody(frame: Buffer): void;
  onInitialized(): void;
  /** The client has set something up with a process that no longer serves. */
  onSetUpElsewhere(): void;
  /** Something was answered: an old process may be done. */
  onAnswered(running: Running): void;
}

export interface Routing {
  fromClient(frame: Buffer): void;
  fromServer(running: Running, frames: readonly Buffer[]): void;
  tooLong(running: Running, head: Buffer, tail: Buffer): void;
  /** Each call it owes an answer gets one error; those that may be sent again are returned, and so are open listens. */
  answerAll(running: Running, code: number, message: string): readonly Call[];
  /** A call on its way once more. */
  send(running: Running, call: Call): void;
  /** Requests that it made before it took over. */
  releaseEarly(running: Running): void;
  tell(frame: Buffer): void;
  /** False: the server that serves does not keep up. */
  flush(): boolean;
  /** Monotonic order of the last call, for who wants to know whether any came since. */
  readonly calls: () => number;
}

/** A process that asks so much before it is ready has its reasons, which are not the client's. */
const earlyMost = 100;
const none: readonly Stage[] = [];
const listChanged = /^notifications\/(?:tools|prompts|resources)\/list_changed$/;
/** Junk is logged when its count reaches a power of ten, so that it cannot fill a log. */
const logAt = /^10*$/;

export function createRouting(options: RoutingOptions): Routing {
  const { processes, carried, affinity, stages, client, log } = options;
  const toClient = createBatch((bytes) => {
    if (client.send(bytes)) return;
    for (const running of all()) running.link.pause();
  });
  const counts = { junk: 0, stray: 0, calls: 0 };

  function* all(): Iterable<Running> {
    if (processes.serving !== null) yield processes.serving;
    yield* processes.old;
  }

  function count(what: 'junk' | 'stray', message: string): void {
    counts[what] += 1;
    if (logAt.test(`${counts[what]}`)) log.warn({ count: counts[what] }, message);
  }

  function emit(frame: Buffer): void {
    toClient.add(frame);
  }

  function request(message: Message, frame: Buffer): void {
    const { serving } = processes;
    const id = message.id as string;
    const owner = affinity.ownerOf(message) ?? serving;
    const target = owner === null || owner.isStopping || owner.hasEnded() ? serving : owner;
    if (target === null) return options.onNobody(frame);
    affinity.used(message);
    counts.calls += 1;
    const isListen = message.method === 'subscriptions/listen';
    const call: Call = {
      id,
      method: message.method as string,
      agent: options.agent,
      learn: carried.learner(message),
      frame: isListen || mayRepeat(message) ? Buffer.from(frame) : null,
      isListen,
      isAcknowledged: false,
      isRetry: false,
    };
    for (const stage of stages) {
      const refusal = stage.request?.(call, frame) ?? null;
      if (refusal !== null) return emit(errorFrame(idText(id), refusal.code, refusal.message));
    }
    target.calls.set(id, call);
    target.send(frame);
  }

  function mayRepeat(message: Message): boolean {
    const tools = options.retryable();
    if (tools.length === 0 || message.method !== 'tools/call') return false;
    return tools.includes(stringParam(message, 'name') ?? '');
  }

  function notification(message: Message, frame: Buffer): void {
    carried.notified(message);
    switch (message.method) {
      case 'notifications/cancelled': {
        const id = cancelledId(message);
        for (const running of all()) {
          if (id === null || !running.calls.has(id)) continue;
          running.send(frame);
          forget(running, id);
          options.onAnswered(running);
          return;
        }
        return;
      }
      case 'notifications/progress': {
        const token = paramOf(message, 'progressToken');
        const text = token === null ? null : canonicalId(message.bytes, token);
        for (const running of all()) {
          for (const asked of running.asked.values()) {
            if (token === null || asked.token === null || asked.token.ours !== text) continue;
            running.send(
              asked.token.own === null
                ? frame
                : splice(frame, [{ range: token, by: asked.token.own }]),
            );
            return;
          }
        }
        processes.serving?.send(frame);
        return;
      }
      case 'notifications/roots/list_changed':
        for (const running of all()) running.send(frame);
        return;
      default:
        if (processes.serving === null) return options.onNobody(frame);
        processes.serving.send(frame);
        if (message.method !== 'notifications/initialized') return;
        processes.serving.isInitialized = true;
        options.onInitialized();
    }
  }

  function response(message: Message, frame: Buffer): void {
    const { id, idRange } = message;
    for (const running of all()) {
      const asked = id === null ? undefined : running.asked.get(id);
      if (id === null || asked === undefined || idRange === null) continue;
      running.asked.delete(id);
      carried.answered(asked.method, message);
      running.send(asked.id === null ? frame : splice(frame, [{ range: idRange, by: asked.id }]));
      options.onAnswered(running);
      return;
    }
    count('stray', 'the client answered what nobody asked');
  }

  function fromClient(frame: Buffer, isPart = false): void {
    const message = readMessage(frame);
    if (message === null) {
      const parts = isPart ? null : splitBatch(frame);
      if (parts !== null) {
        for (const part of parts) fromClient(part, true);
        return;
      }
      // The server itself says what is wrong with it.
      if (processes.serving === null) options.onNobody(frame);
      else processes.serving.send(frame);
      return;
    }
    switch (message.kind) {
      case 'request':
        return request(message, frame);
      case 'notification':
        return notification(message, frame);
      case 'response':
        return response(message, frame);
      default:
        return message.kind satisfies never;
    }
  }

  function answered(running: Running, message: Message, frame: Buffer, handsOut: boolean): void {
    if (running.settle(message)) return;
    const { id } = message;
    const call = id === null ? undefined : running.calls.get(id);
    if (id === null) {
      // An error about something that it could not even read.
      if (!running.isPreparing) emit(frame);
      return;
    }
    if (call === undefined) {
      if (!running.late.delete(id)) count('stray', 'the server answered what nobody asked');
      return;
    }
    running.calls.delete(id);
    if (running.isPreparing) {
      running.acknowledgements.get(id)?.(null);
      running.acknowledgements.delete(id);
      return;
    }
    if (call.learn !== null) {
      call.learn(message, running.setup);
      if (running !== processes.serving) options.onSetUpElsewhere();
    }
    if (handsOut) {
      affinity.learn(running, message);
      options.onAnswered(running);
    }
    emit(frame);
    options.onAnswered(running);
  }

  /** The client's view of a request that the server makes: under its own id, unless another process uses that one. */
  function ask(running: Running, message: Message): void {
    const id = message.id as string;
    const token = paramOf(message, '_meta', 'progressToken');
    const isTaken = [...all()].some((other) => other.asked.has(id));
    const text = (range: { start: number; end: number }) =>
      message.bytes.toString('utf8', range.start, range.end);
    if (!isTaken || message.idRange === null) {
      const ours = token === null ? null : canonicalId(message.bytes, token);
      running.asked.set(id, {
        id: null,
        method: message.method as string,
        token: ours === null ? null : { ours, own: null },
      });
      emit(message.bytes);
      return;
    }
    const fresh = `rotated:s${options.nextId()}`;
    const by = JSON.stringify(fresh);
    const changes = [
      { range: message.idRange, by },
      ...(token === null ? [] : [{ range: token, by }]),
    ];
    running.asked.set(`"${fresh}`, {
      id: text(message.idRange),
      method: message.method as string,
      token: token === null ? null : { ours: `"${fresh}`, own: text(token) },
    });
    emit(
      splice(
        message.bytes,
        changes.sort((a, b) => a.range.start - b.range.start),
      ),
    );
  }

  function asks(running: Running, message: Message): void {
    if (!running.isPreparing) return ask(running, message);
    const id = idText(message.id as string);
    const known = message.method === 'ping' ? '{}' : carried.roots;
    if (message.method === 'ping' || (message.method === 'roots/list' && known !== null)) {
      running.send(Buffer.from(`{"jsonrpc":"2.0","id":${id},"result":${known}}\n`));
      running.flush();
      return;
    }
    if (running.early.length < earlyMost) {
      running.early.push({ ...message, bytes: Buffer.from(message.bytes) });
      return;
    }
    running.send(errorFrame(id, gateErrors.notStarted, 'The client is not there yet.'));
    running.flush();
  }

  function says(running: Running, message: Message, frame: Buffer, handsOut: boolean): void {
    if (message.method === 'notifications/subscriptions/acknowledged') {
      const id = subscriptionOf(message) ?? '';
      const call = running.calls.get(id);
      running.acknowledgements.get(id)?.(Buffer.from(frame));
      running.acknowledgements.delete(id);
      // The client may have had its own, of another process, or of this one before it was asked again.
      if (running.isPreparing || call?.isAcknowledged === true) return;
      if (call !== undefined) call.isAcknowledged = true;
    }
    if (running.isPreparing) return early(running, message);
    if (handsOut) {
      affinity.learn(running, message);
      // A task may be over.
      options.onAnswered(running);
    }
    if (running !== processes.serving) {
      // The new process speaks for the server: of its lists, and to whoever listens.
      if (listChanged.test(message.method as string) || subscriptionOf(message) !== null) return;
    }
    if (message.method === 'notifications/cancelled') return withdraw(running, message, frame);
    emit(frame);
  }

  /** What a process says before it takes over concerns the client only in so far as it is still true then. */
  function early(running: Running, message: Message): void {
    if (listChanged.test(message.method as string)) {
      running.changed.add(message.method as string);
      running.onChanged();
    }
    if (message.method !== 'notifications/cancelled') return;
    const withdrawn = cancelledId(message);
    const at = running.early.findIndex((asked) => asked.id === withdrawn);
    if (at !== -1) running.early.splice(at, 1);
  }

  /** A request of the server that it does not want answered any more. */
  function withdraw(running: Running, message: Message, frame: Buffer): void {
    const own = cancelledId(message);
    const range = paramOf(message, 'requestId');
    for (const [given, asked] of running.asked) {
      const isIt = asked.id === null ? given === own : canonicalOf(asked.id) === own;
      if (!isIt || range === null) continue;
      running.asked.delete(given);
      emit(asked.id === null ? frame : splice(frame, [{ range, by: idText(given) }]));
      return;
    }
    emit(frame);
  }

  function fromServer(running: Running, frames: readonly Buffer[]): void {
    const span = spanOf(frames);
    let active = none;
    for (const stage of stages) {
      if (stage.toClient === undefined || stage.concerns?.(span) === false) continue;
      active = [...active, stage];
    }
    const handsOut = affinity.concerns(span);
    for (const raw of frames) handle(running, raw, active, handsOut);
  }

  function handle(
    running: Running,
    raw: Buffer,
    active: readonly Stage[],
    handsOut: boolean,
    isPart = false,
  ): void {
    let frame = raw;
    for (const stage of active) frame = stage.toClient?.(frame) ?? frame;
    const message = readMessage(frame);
    if (message === null) {
      const parts = isPart ? null : splitBatch(frame);
      if (parts === null) return count('junk', 'the server printed what is no message: dropped');
      for (const part of parts) handle(running, part, [], handsOut, true);
      return;
    }
    switch (message.kind) {
      case 'response':
        return answered(running, message, frame, handsOut);
      case 'request':
        return asks(running, message);
      case 'notification':
        return says(running, message, frame, handsOut);
      default:
        return message.kind satisfies never;
    }
  }

  return {
    fromClient,
    fromServer,
    tooLong(running, head, tail) {
      log.warn({}, 'the server sent a frame that is too large: dropped');
      const id = idAtEnds('response', head, tail);
      if (id === null || !running.calls.delete(id)) return;
      emit(
        errorFrame(
          idText(id),
          gateErrors.tooLarge,
          'The answer of the server is larger than the gate lets pass.',
        ),
      );
      options.onAnswered(running);
    },
    answerAll(running, code, message) {
      const again: Call[] = [];
      for (const call of running.calls.values()) {
        if (call.isListen || (call.frame !== null && !call.isRetry)) again.push(call);
        else emit(errorFrame(idText(call.id), code, message));
      }
      for (const id of running.asked.keys()) {
        const params = { requestId: JSON.parse(idText(id)) as unknown, reason: 'server ended' };
        emit(frameOf({ method: 'notifications/cancelled', params }));
      }
      running.calls.clear();
      running.asked.clear();
      return again;
    },
    send(running, call) {
      if (call.frame === null) return;
      if (running.calls.has(call.id)) return;
      if (!call.isListen) call.isRetry = true;
      else running.acknowledgements.set(call.id, () => undefined);
      running.calls.set(call.id, call);
      running.send(call.frame);
    },
    releaseEarly(running) {
      for (const message of running.early.splice(0)) ask(running, message);
    },
    tell: emit,
    flush() {
      const keepsUp = processes.serving?.flush() ?? true;
      for (const running of processes.old) running.flush();
      toClient.flush();
      return keepsUp;
    },
    calls: () => counts.calls,
  };
}

/** The bytes of frames that came together, without copying where they lie side by side. */
function spanOf(frames: readonly Buffer[]): Buffer {
  const [first] = frames;
  const last = frames.at(-1);
  if (first === undefined || last === undefined) return Buffer.alloc(0);
  if (frames.length === 1) return first;
  const length = frames.reduce((sum, frame) => sum + frame.length, 0);
  const end = last.byteOffset + last.length;
  const isOne = first.buffer === last.buffer && end - first.byteOffset === length;
  return isOne
    ? Buffer.from(first.buffer as ArrayBuffer, first.byteOffset, length)
    : Buffer.concat(frames);
}

function canonicalOf(text: string): string | null {
  const bytes = Buffer.from(text);
  return canonicalId(bytes, { start: 0, end: bytes.length });
}
