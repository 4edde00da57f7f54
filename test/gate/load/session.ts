/** One client ↔ one server: sends calls of every kind, answers what the server asks, and holds each answer against its call. */
import type { Call, Kind, Ledger, Verdict } from './ledger.ts';
import { fine } from './ledger.ts';
import { callKey, type Era, type Message, type RpcId } from './message.ts';
import type { Transport } from './transport.ts';

/** What one kind of call is made of. */
export interface Plan {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** `again`: the server asked back within the result; the call goes on with these parameters. */
  judge(
    result: Readonly<Record<string, unknown>>,
  ): Verdict | { readonly again: Readonly<Record<string, unknown>> };
  /** So many progress notifications must come, in order, before the answer. */
  readonly steps?: number;
  readonly cancelAfterMs?: number;
}

export interface Dialect {
  readonly era: Era;
  /** Stands in `_meta` of every request. */
  readonly meta: Readonly<Record<string, unknown>>;
  open(session: Session): Promise<void>;
  plan(kind: Kind, call: Call, session: Session): Plan;
  /** A server's request; `undefined`: this client does not know it. */
  answer(message: Message): Readonly<Record<string, unknown>> | undefined;
  /** How long a person takes for an answer. */
  thinkMs(): number;
  /** What should have come by the end of the run and did not. */
  leftovers?(): readonly string[];
}

export interface Notification {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

export interface Session {
  readonly era: Era;
  /** How many notifications of each method came. */
  readonly counts: ReadonlyMap<string, number>;
  /** Why no more answers will come; null as long as they may. */
  dead(): string | null;
  open(): Promise<void>;
  /** Resolves when the call is over, however it ended. */
  call(kind: Kind, dueAtMs?: number): Promise<Call>;
  /** A request outside the ledger: handshakes, probes. Rejects on an error answer. */
  ask(
    method: string,
    params?: Readonly<Record<string, unknown>>,
  ): Promise<Readonly<Record<string, unknown>>>;
  notify(method: string, params?: Readonly<Record<string, unknown>>): void;
  listen(listener: (notification: Notification) => void): () => void;
  leftovers(): readonly string[];
  close(): Promise<void>;
}

export class RpcError extends Error {
  readonly code: number;
  readonly data: unknown;

  constructor(code: number, message: string, data: unknown) {
    super(message);
    this.name = 'RpcError';
    this.code = code;
    this.data = data;
  }
}

interface Pending {
  readonly call: Call | null;
  readonly onMessage: (message: Message) => void;
  readonly onGone: (reason: string) => void;
}

export function createSession(dialect: Dialect, transport: Transport, ledger: Ledger): Session {
  /** Kept for the whole run, so that a second answer is known as one. */
  const pending = new Map<RpcId, Pending>();
  const progress = new Map<string, { last: number; broken: string | null }>();
  const counts = new Map<string, number>();
  const listeners = new Set<(notification: Notification) => void>();
  let gone: string | null = null;
  let lastId = 0;

  // Numbers and strings both: an id must come back as what it was.
  const newId = (): RpcId => {
    lastId += 1;
    return lastId % 2 === 0 ? lastId : `r${lastId}`;
  };

  const onNotification = (method: string, params: Readonly<Record<string, unknown>>) => {
    counts.set(method, (counts.get(method) ?? 0) + 1);
    if (method === 'notifications/progress') noteProgress(progress, params, ledger);
    for (const listener of listeners) listener({ method, params });
  };

  const onRequest = (id: RpcId, message: Message) => {
    const answer = dialect.answer(message);
    if (answer === undefined) {
      ledger.stray(`a request ${message.method} that nobody expected`);
      return;
    }
    const thinkMs = dialect.thinkMs();
    if (thinkMs === 0) transport.answer(id, answer);
    else setTimeout(() => transport.answer(id, answer), thinkMs);
  };

  transport.receive({
    message: (message) => {
      if (message.method !== undefined) {
        const { id } = message;
        if (id === undefined || id === null) {
          onNotification(message.method, message.params ?? {});
        } else onRequest(id, message);
        return;
      }
      const entry =
        message.id === undefined || message.id === null ? undefined : pending.get(message.id);
      if (entry === undefined) {
        ledger.stray(`an answer to ${JSON.stringify(message.id)}, which nobody asked`);
      } else entry.onMessage(message);
    },
    broken: (id, reason) => pending.get(id)?.onGone(reason),
    closed: (reason) => {
      gone ??= reason;
      for (const { onGone } of pending.values()) onGone(reason);
    },
  });

  const send = (call: Call | null, plan: Omit<Plan, 'judge'>, entry: Pending): RpcId => {
    const id = newId();
    pending.set(id, entry);
    const meta = {
      ...dialect.meta,
      ...(call === null ? {} : { [callKey]: call.id }),
      ...(plan.steps === undefined || call === null ? {} : { progressToken: call.id }),
    };
    transport.request({ id, method: plan.method, params: { ...plan.params, _meta: meta } });
    return id;
  };

  const session: Session = {
    era: dialect.era,
    counts,
    dead: () => gone,
    open: () => dialect.open(session),
    notify: (method, params = {}) => transport.notify(method, params),
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    leftovers: () => dialect.leftovers?.() ?? [],
    close: () => transport.close(),
    ask: (method, params = {}) =>
      new Promise((resolve, reject) => {
        send(
          null,
          { method, params },
          {
            call: null,
            onGone: (reason) => reject(new Error(`No answer to ${method}: ${reason}`)),
            onMessage: ({ error, result }) => {
              if (error === undefined) resolve(result ?? {});
              else reject(new RpcError(error.code, error.message, error.data));
            },
          },
        );
      }),
    call: (kind, dueAtMs) => {
      const call = ledger.begin(kind, dueAtMs);
      if (gone !== null) return Promise.resolve(call);
      const plan = dialect.plan(kind, call, session);
      if (plan.steps !== undefined) progress.set(call.id, { last: 0, broken: null });
      return new Promise((resolve) => {
        const finish = (verdict: Verdict) => {
          ledger.answered(call, verdict);
          resolve(call);
        };
        const round = (params: Readonly<Record<string, unknown>>) => {
          let over = false;
          const id = send(
            call,
            { ...plan, params },
            {
              call,
              onGone: (reason) => {
                // A stream that broke is an answer of a kind; a dead connection is none: the call is lost.
                if (!over && gone === null && call.cancelledAtMs === null) {
                  finish({ is: 'refused', why: reason });
                } else resolve(call);
              },
              onMessage: (message) => {
                const verdict = verdictOf(message, plan, call, progress);
                const isFirst = !over;
                over = true;
                if (!('again' in verdict)) finish(verdict);
                else if (isFirst) {
                  call.rounds += 1;
                  setTimeout(() => round(verdict.again), dialect.thinkMs());
                } else finish({ is: 'wrong', why: 'asked back twice for one request' });
              },
            },
          );
          if (plan.cancelAfterMs !== undefined) {
            setTimeout(() => {
              if (over) return;
              ledger.cancelled(call);
              transport.cancel(id);
              resolve(call);
            }, plan.cancelAfterMs);
          }
        };
        round(plan.params);
      });
    },
  };
  return session;
}

function verdictOf(
  message: Message,
  plan: Plan,
  call: Call,
  progress: ReadonlyMap<string, { last: number; broken: string | null }>,
): ReturnType<Plan['judge']> {
  const { error, result } = message;
  if (error !== undefined) return { is: 'refused', why: `${error.code} ${error.message}` };
  if (result === undefined) return { is: 'wrong', why: 'neither result nor error' };
  if (result['isError'] === true) {
    return { is: 'refused', why: `isError: ${JSON.stringify(result['content']).slice(0, 200)}` };
  }
  const verdict = plan.judge(result);
  if ('again' in verdict || verdict.is !== 'ok' || plan.steps === undefined) return verdict;
  const seen = progress.get(call.id);
  if (seen?.broken !== null) return { is: 'wrong', why: seen?.broken ?? 'no progress' };
  if (seen.last === plan.steps) return fine;
  return { is: 'wrong', why: `progress ${seen.last} of ${plan.steps}` };
}

function noteProgress(
  progress: ReadonlyMap<string, { last: number; broken: string | null }>,
  params: Readonly<Record<string, unknown>>,
  ledger: Ledger,
): void {
  const token = String(params['progressToken']);
  const seen = progress.get(token);
  if (seen === undefined) ledger.stray(`progress for ${token}, which nobody asked`);
  else if (params['progress'] === seen.last + 1) seen.last += 1;
  else seen.broken ??= `progress ${String(params['progress'])} after ${seen.last}`;
}
