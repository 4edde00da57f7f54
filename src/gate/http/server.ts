/** One server behind the gate that is a child process: what its sessions share, and what era it is of. */
import type { Entry } from '../entry.ts';
import type { Link, StartLink } from '../link.ts';
import { frameOf, type Message, parseRange, readMessage } from '../message.ts';
import { createSession } from '../session/create.ts';
import type { ClientPort, Session } from '../session/session.ts';
import { RotatedError } from '../../errors.ts';
import { rpcErrors } from './answers.ts';
import type { Around } from './backend.ts';
import { errorCodeOf } from './frames-of-http.ts';
import { modernVersion, versionKey, capabilitiesKey } from './versions.ts';
import type { SharedSource } from './shared-source.ts';

export interface ServerParts extends Around {
  readonly entry: Entry;
  readonly shared: SharedSource;
  readonly startLink: StartLink;
}

/** `modern`: the revisions it names, null where it speaks none. It may speak earlier ones as well. */
export interface Era {
  readonly modern: readonly string[] | null;
}

export function startSession(parts: ServerParts, client: ClientPort): Session {
  const { entry, shared, startLink, clock, random, log } = parts;
  return createSession({
    entry,
    source: shared.share(),
    startLink,
    client,
    clock,
    random,
    log,
  });
}

/** What a server writes for people goes into the gate's log. */
export function logLines({ entry, log }: ServerParts): (lines: Buffer) => void {
  return (lines) => {
    for (const text of lines.toString('utf8').split('\n')) {
      if (text !== '') log.info({ server: entry.name, text }, 'the server says');
    }
  };
}

/**
 * Asks the server once, on a process of its own that is ended afterwards: some servers exit on a request before
 * `initialize`. What it answered holds for as long as the gate runs.
 */
export function createEraProbe(parts: ServerParts): () => Promise<Era> {
  let era: Promise<Era> | null = null;
  return () => {
    era ??= probe(parts).catch((error: unknown) => {
      era = null;
      throw error;
    });
    return era;
  };
}

const probeId = 'rotated:era';

async function probe(parts: ServerParts): Promise<Era> {
  const { shared, startLink, entry } = parts;
  const source = shared.share();
  const answered = Promise.withResolvers<Message | null>();
  let link: Link | null = null;
  const late = setTimeout(() => answered.resolve(null), source.settings().startMs);
  try {
    const resolved = await source.resolve(AbortSignal.timeout(source.settings().startMs));
    link = startLink(resolved, {
      onFrames(frames) {
        for (const frame of frames) {
          const message = readMessage(frame);
          if (message?.kind === 'response' && message.id === `"${probeId}`)
            answered.resolve(message);
        }
      },
      onDrain: () => undefined,
      onLog: () => undefined,
      onTooLong: () => undefined,
    });
    void link.ended.then(({ why, message }) => {
      if (why !== 'failed') answered.resolve(null);
      else answered.reject(notStarted(entry, message));
    });
    link.send(
      frameOf({
        id: probeId,
        method: 'server/discover',
        params: { _meta: { [versionKey]: modernVersion, [capabilitiesKey]: {} } },
      }),
    );
    const answer = await answered.promise;
    return { modern: answer === null ? null : modernOf(answer) };
  } finally {
    clearTimeout(late);
    answered.promise.catch(() => undefined);
    await link?.stop('gentle');
    await source.close();
  }
}

function notStarted({ name }: Entry, message: string | null): RotatedError {
  return new RotatedError('unavailable', message ?? `${name} could not be started.`);
}

/** The revisions that an answer to `server/discover` names; null where it is no answer of a modern server. */
function modernOf(answer: Message): readonly string[] | null {
  try {
    if (answer.result !== null) {
      const { supportedVersions } = parseRange(answer.bytes, answer.result) as Record<
        string,
        unknown
      >;
      return versionsIn(supportedVersions);
    }
    if (errorCodeOf(answer) !== rpcErrors.versionUnsupported || answer.error === null) return null;
    const { data } = parseRange(answer.bytes, answer.error) as { data?: Record<string, unknown> };
    return versionsIn(data?.['supported']);
  } catch {
    return null;
  }
}

function versionsIn(value: unknown): readonly string[] | null {
  return Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : null;
}
