/** One running server of a session: its link, the calls it owes an answer, and what the gate itself asked of it. */
import { RotatedError } from '../../errors.ts';
import { createBatch } from '../frames.ts';
import type { Link, LinkEnd, LinkEvents, StartLink } from '../link.ts';
import { frameOf, type Message, parseRange } from '../message.ts';
import type { Resolved } from '../source.ts';
import { type Call, idText, type Setup } from './path.ts';
import type { Known } from './prepare.ts';

export type Answer =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: number; readonly message: string };

/** A request of the server's own that the client has not answered. */
export interface Asked {
  /** The server's own id as JSON text, where the client was given another one; null where it was given this. */
  readonly id: string | null;
  readonly method: string;
  /** Its progress token: as the client knows it (canonical), and the server's own as JSON text where that differs. */
  readonly token: { readonly ours: string; readonly own: string | null } | null;
}

export interface Running {
  readonly link: Link;
  resolved: Resolved;
  /** By id. */
  readonly calls: Map<string, Call>;
  /** Cancelled or carried over: an answer that still comes goes nowhere. */
  readonly late: Set<string>;
  /** By the id that the client was given. */
  readonly asked: Map<string, Asked>;
  /** What it offers, as last seen. */
  known: Known | null;
  /** It has been told that the client is initialized. */
  isInitialized: boolean;
  /** Takes no calls yet: only what the gate itself asks is heard. */
  isPreparing: boolean;
  /** Its input has ended, or soon will: it gets nothing more. */
  isStopping: boolean;
  readonly setup: Setup;
  /** Lists that it said have changed while it was made ready. */
  readonly changed: Set<string>;
  /** Called at each such change. */
  onChanged: () => void;
  /** Requests it made of the client before it took over. */
  readonly early: Message[];
  /** By id of a listen that the gate opened: called with the acknowledgement, or with null when it is refused. */
  readonly acknowledgements: Map<string, (frame: Buffer | null) => void>;
  /** Written with the next `flush`. */
  send(frame: Buffer): void;
  /** False: it does not keep up. */
  flush(): boolean;
  /** Throws `unavailable` where it ends first, and the signal's reason. `params` is JSON text. */
  ask(method: string, params: string | null, signal: AbortSignal): Promise<Answer>;
  /** True where the message answers something that the gate asked. */
  settle(message: Message): boolean;
  /** Acknowledgements of listens that the gate opened, should the client not have had one. */
  readonly heard: Map<string, Buffer | null>;
  readonly hasEnded: () => boolean;
}

/** Ids of the gate's own requests: no client's, since the server of one session sees both. */
export const ownIdPrefix = 'rotated:';
/** What a cancelled call may still be answered with is remembered for so many. */
const lateMost = 10_000;

export function startRunning(
  startLink: StartLink,
  resolved: Resolved,
  nextId: () => number,
  eventsOf: (running: () => Running) => LinkEvents,
): Running {
  const own = new Map<string, (answer: Answer | null) => void>();
  let ended = false;
  let keepsUp = true;
  const events = eventsOf(() => running);
  const running: Running = {
    link: startLink(resolved, {
      ...events,
      onDrain() {
        keepsUp = true;
        events.onDrain();
      },
    }),
    resolved,
    calls: new Map(),
    late: new Set(),
    asked: new Map(),
    known: null,
    isInitialized: false,
    isPreparing: true,
    isStopping: false,
    setup: { level: null, subscriptions: new Map() },
    changed: new Set(),
    onChanged: () => undefined,
    early: [],
    acknowledgements: new Map(),
    heard: new Map(),
    send: (frame) => batch.add(frame),
    flush() {
      batch.flush();
      return keepsUp;
    },
    async ask(method, params, signal) {
      signal.throwIfAborted();
      const id = `${ownIdPrefix}${nextId()}`;
      const gone = () => new RotatedError('unavailable', `The server ended before ${method}.`);
      if (ended) throw gone();
      const answer = Promise.withResolvers<Answer | null>();
      own.set(`"${id}`, answer.resolve);
      const stop = () => answer.reject(signal.reason);
      signal.addEventListener('abort', stop, { once: true });
      try {
        const body = params === null ? '' : `,"params":${params}`;
        running.send(
          Buffer.from(
            `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"method":${JSON.stringify(method)}${body}}\n`,
          ),
        );
        running.flush();
        const given = await answer.promise;
        if (given === null) throw gone();
        return given;
      } finally {
        own.delete(`"${id}`);
        signal.removeEventListener('abort', stop);
      }
    },
    settle(message) {
      const { id } = message;
      if (id === null || !id.startsWith(`"${ownIdPrefix}`)) return false;
      own.get(id)?.(answerOf(message));
      return true;
    },
    hasEnded: () => ended,
  };
  const batch = createBatch((bytes) => {
    keepsUp = running.link.send(bytes);
  });
  void running.link.ended.then(() => {
    ended = true;
    for (const settle of own.values()) settle(null);
  });
  return running;
}

/** From here on it gets nothing more. Resolves when nothing of it runs. */
export async function stopRunning(running: Running, how: 'gentle' | 'now'): Promise<LinkEnd> {
  running.isStopping = true;
  return running.link.stop(how);
}

/** Its answer will not be heard any more. */
export function forget(running: Running, id: string): void {
  if (!running.calls.delete(id)) return;
  running.late.add(id);
  for (const oldest of running.late) {
    if (running.late.size <= lateMost) break;
    running.late.delete(oldest);
  }
}

/** Tells the server that nobody waits for the call any more. */
export function cancel(running: Running, id: string, reason: string): void {
  const params = { requestId: JSON.parse(idText(id)) as unknown, reason };
  running.send(frameOf({ method: 'notifications/cancelled', params }));
}

function answerOf({ bytes, result, error }: Message): Answer {
  try {
    if (result !== null) return { ok: true, result: parseRange(bytes, result) };
    const given = (error === null ? {} : parseRange(bytes, error)) as {
      code?: unknown;
      message?: unknown;
    } | null;
    return {
      ok: false,
      code: typeof given?.code === 'number' ? given.code : 0,
      message: typeof given?.message === 'string' ? given.message : '',
    };
  } catch {
    return { ok: false, code: 0, message: 'not JSON' };
  }
}
