/** The sessions of a server of an earlier revision behind the gate: each client has a process of its own. */
import type { ServerResponse } from 'node:http';
import { asRotatedError, isRotatedError } from '../../errors.ts';
import { errorFrame, gateErrors, type Message } from '../message.ts';
import { answerError, answerFailure, rpcErrors } from './answers.ts';
import type { Incoming } from './backend.ts';
import { eventOf, eventStreamHeaders } from './events.ts';
import { headerOf } from './headers.ts';
import { createLegacySession, type LegacySession } from './legacy-session.ts';
import type { SavedSessions } from './saved-sessions.ts';
import type { ServerParts } from './server.ts';
import { requestOf } from './streams.ts';
import { isLegacyVersion } from './versions.ts';

export interface Legacy {
  post(incoming: Incoming, messages: readonly Message[]): Promise<void>;
  /** GET and DELETE of a session. */
  other(incoming: Incoming): Promise<void>;
  close(): Promise<void>;
}

interface Found {
  readonly id: string;
  readonly session: LegacySession;
  readonly leave: () => void;
}

export interface LegacyTimes {
  /** Without a word of its client for so long, a session's process ends; its next word starts another one. */
  readonly parkMs: number;
  /** After so long it is forgotten. */
  readonly forgetMs: number;
  /** How often that is looked at. */
  readonly lookMs: number;
}

const defaultTimes: LegacyTimes = {
  parkMs: 30 * 60_000,
  forgetMs: 7 * 24 * 3_600_000,
  lookMs: 60_000,
};
/** Each is a process. */
const sessionsMost = 256;

export function createLegacy(
  parts: ServerParts,
  saved: SavedSessions,
  times: LegacyTimes = defaultTimes,
): Legacy {
  const { entry, clock, random, log } = parts;
  const live = new Map<string, LegacySession>();
  let isClosing = false;

  const expire = () => saved.expire(new Date(clock.now() - times.forgetMs));
  expire();
  const looking = setInterval(look, times.lookMs);
  looking.unref();

  let touchedAtMs = clock.monotonicMs();

  /** What lives is not forgotten, also if the gate is killed. */
  function touchLiving(): void {
    if (clock.monotonicMs() - touchedAtMs < times.forgetMs / 10) return;
    touchedAtMs = clock.monotonicMs();
    for (const id of live.keys()) saved.touch(id);
  }

  function look(): void {
    touchLiving();
    expire();
    // A session that is pinned to its process would lose what the process knows.
    if (parts.shared.settings().swap === 'pin-sessions') return;
    const since = clock.monotonicMs() - times.parkMs;
    for (const [id, session] of live) {
      if (session.isQuiet() && session.usedAtMs() < since) park(id, session);
    }
  }

  function park(id: string, session: LegacySession): void {
    live.delete(id);
    saved.touch(id);
    void session.stop();
  }

  function create(id: string, before: ReturnType<SavedSessions['get']>): LegacySession | null {
    if (live.size >= sessionsMost) {
      const quiet = [...live].filter(([, one]) => one.isQuiet());
      const [oldest] = quiet.toSorted(([, a], [, b]) => a.usedAtMs() - b.usedAtMs());
      if (oldest === undefined) return null;
      park(...oldest);
    }
    const session = createLegacySession({
      parts,
      id,
      saved: before,
      save: (state) => {
        if (live.get(id) === session) saved.put(id, state);
      },
      onEnded(ended) {
        if (live.get(id) === ended) live.delete(id);
      },
    });
    live.set(id, session);
    return session;
  }

  /** The session of a request, also one from before a restart; where there is none, that is answered. */
  async function sessionOf({ request, response }: Incoming): Promise<Found | null> {
    const id = headerOf(request.headers, 'mcp-session-id');
    if (id === null) {
      const message = 'Bad Request: Mcp-Session-Id header is required';
      answerError(response, 400, { code: rpcErrors.transport, message });
      return null;
    }
    const before = live.has(id) ? null : saved.get(id);
    const session = live.get(id) ?? (before === null ? null : create(id, before));
    if (session === null) {
      if (before !== null) refuseMore(response);
      else unknown(response);
      return null;
    }
    const version = headerOf(request.headers, 'mcp-protocol-version');
    if (version !== null && !isLegacyVersion(version)) {
      const message = `Bad Request: Unsupported protocol version: ${version}`;
      answerError(response, 400, { code: rpcErrors.transport, message });
      return null;
    }
    const leave = session.enter();
    try {
      await session.ready;
      return { id, session, leave };
    } catch (error) {
      leave();
      live.delete(id);
      void session.stop();
      const { code } = asRotatedError(error, 'none');
      log.warn({ server: entry.name, code }, 'a session cannot be taken up again');
      if (!isRotatedError(error, 'not-found')) {
        answerFailure(response, error);
        return null;
      }
      saved.remove(id);
      unknown(response);
      return null;
    }
  }

  function unknown(response: ServerResponse): void {
    answerError(response, 404, { code: rpcErrors.sessionUnknown, message: 'Session not found' });
  }

  function refuseMore(response: ServerResponse): void {
    const message = `The gate runs ${sessionsMost} sessions of ${entry.name} already.`;
    answerError(response, 503, { code: gateErrors.notStarted, message });
  }

  async function initialize(incoming: Incoming, messages: readonly Message[]): Promise<void> {
    const { request, response } = incoming;
    if (request.headers['mcp-session-id'] !== undefined || messages.length > 1) {
      const message =
        messages.length > 1
          ? 'Invalid Request: Only one initialization request is allowed'
          : 'Invalid Request: Server already initialized';
      answerError(response, 400, { code: rpcErrors.invalidRequest, message });
      return;
    }
    const id = random.bytes(24).toString('base64url');
    const session = create(id, null);
    if (session === null) {
      refuseMore(response);
      return;
    }
    response.on('close', () => {
      // The server refused, or the client left before it learned its id.
      if (live.get(id) !== session || saved.get(id) !== null) return;
      live.delete(id);
      void session.stop();
    });
    await session.post(messages, response).finally(session.enter());
  }

  return {
    async post(incoming, messages) {
      if (messages.some(({ method }) => method === 'initialize')) {
        await initialize(incoming, messages);
        return;
      }
      const found = await sessionOf(incoming);
      if (found === null) return;
      await found.session.post(messages, incoming.response).finally(found.leave);
    },
    async other(incoming) {
      const { request, response } = incoming;
      const found = await sessionOf(incoming);
      if (found === null) return;
      const { id, session, leave } = found;
      leave();
      if (request.method === 'DELETE') {
        live.delete(id);
        saved.remove(id);
        await session.stop('soon');
        response.writeHead(200).end();
        return;
      }
      if (!(headerOf(request.headers, 'accept') ?? '*/*').includes('text/event-stream')) {
        const message = 'Not Acceptable: Client must accept text/event-stream';
        answerError(response, 406, { code: rpcErrors.transport, message });
        return;
      }
      const last = headerOf(request.headers, 'last-event-id');
      if (session.listen(response, last)) return;
      const lost = requestOf(last ?? '');
      if (lost === null) {
        session.listen(response, null);
        return;
      }
      // Its stream was one of an earlier run of the gate, and so was its process.
      const why = 'The gate was restarted; whether the call was carried out is not known.';
      response.writeHead(200, { ...eventStreamHeaders, 'mcp-session-id': id });
      response.end(eventOf(errorFrame(lost, gateErrors.serverEnded, why), null));
    },
    async close() {
      if (isClosing) return;
      isClosing = true;
      clearInterval(looking);
      for (const id of live.keys()) saved.touch(id);
      const all = [...live.values()];
      live.clear();
      await Promise.all(all.map((session) => session.stop()));
    },
  };
}
