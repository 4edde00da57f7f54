/** The command's end of the control socket: the same `Service`, asked of whoever owns the state directory. */
import { createConnection, type Socket } from 'node:net';
import { errorFromJson, RotatedError } from '../errors.ts';
import type { WholeService } from '../hub/service.ts';
import type { Ask, Progress } from '../rotation/service.ts';
import { lineSplitter } from './lines.ts';
import {
  type Answer,
  answerBytesMax,
  controlVersion,
  fieldsFromWire,
  fieldsToWire,
  type Hello,
  silenceMaxMs,
  type WireAsk,
  type WireFields,
} from './protocol.ts';

export interface ControlClient {
  readonly service: WholeService;
  readonly hello: Hello;
  close(): void;
}

/** What stood at the other end. `silent`: it accepted, but said nothing: hung or stopped. */
export type Reached =
  | { readonly kind: 'connected'; readonly client: ControlClient }
  | { readonly kind: 'absent' }
  | { readonly kind: 'silent' }
  | { readonly kind: 'denied' }
  | { readonly kind: 'other-version'; readonly hello: Hello };

/** A healthy daemon says hello within milliseconds; one that is busy with 10,000 policies within a second. */
const helloTimeoutMs = 2_000;

export async function reachControl(
  path: string,
  waitMs = helloTimeoutMs,
  quietMs = silenceMaxMs,
): Promise<Reached> {
  const socket = createConnection(path);
  const first = await firstWord(socket, waitMs);
  if (first.kind !== 'hello') {
    socket.destroy();
    return { kind: first.kind };
  }
  if (first.hello.control !== controlVersion) {
    socket.destroy();
    return { kind: 'other-version', hello: first.hello };
  }
  const wire = openWire(socket, first.split, first.rest, quietMs);
  return {
    kind: 'connected',
    client: {
      hello: first.hello,
      service: proxy(wire),
      close: () => socket.destroy(),
    },
  };
}

type FirstWord =
  | { readonly kind: 'absent' | 'silent' | 'denied' }
  | {
      readonly kind: 'hello';
      readonly hello: Hello;
      readonly split: (chunk: Uint8Array) => readonly string[];
      readonly rest: readonly string[];
    };

function firstWord(socket: Socket, waitMs: number): Promise<FirstWord> {
  return new Promise((resolve) => {
    const split = lineSplitter(answerBytesMax);
    const settle = (word: FirstWord) => {
      clearTimeout(timer);
      socket.removeAllListeners();
      // Between two owners of the socket's events, an error would otherwise end the process.
      socket.on('error', () => socket.destroy());
      socket.pause();
      resolve(word);
    };
    const timer = setTimeout(() => settle({ kind: 'silent' }), waitMs);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // EAGAIN: the backlog of a stopped daemon is full.
      if (error.code === 'EACCES' || error.code === 'EPERM') settle({ kind: 'denied' });
      else settle({ kind: error.code === 'EAGAIN' ? 'silent' : 'absent' });
    });
    socket.on('close', () => settle({ kind: 'absent' }));
    socket.on('data', (chunk) => {
      const [line, ...rest] = split(chunk);
      if (line === undefined) return;
      const hello = parseHello(line);
      settle(hello === null ? { kind: 'silent' } : { kind: 'hello', hello, split, rest });
    });
  });
}

function parseHello(line: string): Hello | null {
  try {
    const hello = JSON.parse(line) as Partial<Hello> | null;
    if (typeof hello?.control !== 'number' || typeof hello.pid !== 'number') return null;
    return { rotated: String(hello.rotated), control: hello.control, pid: hello.pid };
  } catch {
    return null;
  }
}

interface Wire {
  call(method: string, params: object): Promise<unknown>;
  stream(method: string, params: object, signal: AbortSignal): AsyncIterable<unknown>;
}

type Listener = (answer: Answer | { readonly lost: RotatedError }) => void;

function openWire(
  socket: Socket,
  split: (chunk: Uint8Array) => readonly string[],
  rest: readonly string[],
  quietMs: number,
): Wire {
  const listeners = new Map<number, Listener>();
  let lastId = 0;
  let lost: RotatedError | null = null;

  const receive = (line: string) => {
    const answer = JSON.parse(line) as Answer;
    listeners.get(answer.id)?.(answer);
  };
  const lose = (message: string) => {
    lost ??= new RotatedError('daemon-silent', message, {
      effect: 'unknown',
      next: 'Run: rotate status. What was asked may have been done.',
    });
    for (const listener of listeners.values()) listener({ lost });
    socket.destroy();
  };
  const fallSilent = () => lose('The daemon fell silent: it is hung or stopped.');
  socket.on('data', (chunk) => {
    try {
      for (const line of split(chunk)) receive(line);
    } catch {
      lose('The daemon answered with something that cannot be understood.');
    }
  });
  socket.on('close', () => lose('The daemon closed the connection.'));
  for (const line of rest) receive(line);
  socket.resume();

  const send = (message: object) => {
    if (lost === null) socket.write(`${JSON.stringify(message)}\n`);
  };

  return {
    call: (method, params) =>
      new Promise((resolve, reject) => {
        if (lost !== null) {
          reject(lost);
          return;
        }
        lastId += 1;
        const id = lastId;
        const silence = setTimeout(fallSilent, quietMs);
        listeners.set(id, (answer) => {
          silence.refresh();
          if ('alive' in answer) return;
          clearTimeout(silence);
          listeners.delete(id);
          if ('lost' in answer) reject(answer.lost);
          else if ('error' in answer) reject(errorFromJson(answer.error));
          else resolve('result' in answer ? answer.result : null);
        });
        send({ id, method, params });
      }),
    stream: async function* (method, params, signal) {
      if (lost !== null) throw lost;
      lastId += 1;
      const id = lastId;
      const arrived: (Answer | { readonly lost: RotatedError })[] = [];
      let wake: () => void = () => {};
      const silence = setTimeout(fallSilent, quietMs);
      listeners.set(id, (answer) => {
        silence.refresh();
        if (!('alive' in answer)) arrived.push(answer);
        wake();
      });
      const stop = () => wake();
      signal.addEventListener('abort', stop);
      send({ id, method, params });
      try {
        while (!signal.aborted) {
          const answer = arrived.shift();
          if (answer === undefined) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
            continue;
          }
          if ('lost' in answer) throw answer.lost;
          if ('error' in answer) throw errorFromJson(answer.error);
          if (!('event' in answer)) return;
          yield answer.event;
        }
      } finally {
        clearTimeout(silence);
        listeners.delete(id);
        signal.removeEventListener('abort', stop);
        send({ id, cancel: true });
      }
    },
  };
}

/** The answers are trusted: the socket's folder belongs to the same account, and the hello said the same version. */
function proxy(wire: Wire): WholeService {
  const askedFor = (ask: Ask): WireAsk => ({
    reason: ask.reason,
    as: ask.actor.proven ? null : ask.actor.id,
  });
  const call = async <T>(method: string, params: object) => (await wire.call(method, params)) as T;
  return {
    status: (selector) => call('status', { selector }),
    plan: (selector, mode) => call('plan', { selector, mode }),
    run: (selector, ask) => call('run', { selector, ask: askedFor(ask) }),
    now: (selector, mode, ask) => call('now', { selector, mode, ask: askedFor(ask) }),
    rollback: (secret, ask) => call('rollback', { secret, ask: askedFor(ask) }),
    abandon: (secret, ask) => call('abandon', { secret, ask: askedFor(ask) }),
    pause: (secret, ask) => call('pause', { secret, ask: askedFor(ask) }),
    resume: (secret, ask) => call('resume', { secret, ask: askedFor(ask) }),
    restore: (secret, ask) => call('restore', { secret, ask: askedFor(ask) }),
    supply: (secret, fields, ask) =>
      call('supply', { secret, fields: fieldsToWire(fields), ask: askedFor(ask) }),
    keep: (item, fields, look, ask) =>
      call('keep', { item, fields: fieldsToWire(fields), look, ask: askedFor(ask) }),
    confirm: (secret, debt, ask) => call('confirm', { secret, debt, ask: askedFor(ask) }),
    read: async (secret, stage, ask) => {
      const answer = await call<{ generation: number | null; fields: WireFields }>('read', {
        secret,
        stage,
        ask: askedFor(ask),
      });
      return { generation: answer.generation, fields: fieldsFromWire(answer.fields) };
    },
    history: (secret, most) => call('history', { secret, most }),
    rotation: (id) => call('rotation', { id }),
    audit: (secret, from, most) => call('audit', { secret, from, most }),
    auditVerify: () => call('auditVerify', {}),
    grants: () => call('grants', {}),
    allow: (asked, ask) => call('allow', { asked, ask: askedFor(ask) }),
    disallow: (server, hash, ask) => call('disallow', { server, hash, ask: askedFor(ask) }),
    watch: (rotations, patienceMs, signal) =>
      wire.stream('watch', { rotations, patienceMs }, signal) as AsyncIterable<Progress>,
  };
}
