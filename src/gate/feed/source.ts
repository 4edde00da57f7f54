/** The shim's end of the feed: keeps the line to whoever holds the secrets, and what was resolved last while it is down. */
import type { Duplex } from 'node:stream';
import type { Clock, Random } from '../../clock.ts';
import { lineSplitter } from '../../control/lines.ts';
import { asRotatedError, errorFromJson, isRotatedError, RotatedError } from '../../errors.ts';
import { Secret } from '../../secret/secret.ts';
import type { GateLog } from '../session/session.ts';
import { defaultSettings, type ServerSettings } from '../settings.ts';
import type { InstanceStatus, Notice, Resolved, ValueSource } from '../source.ts';
import { newInstance } from './identity.ts';
import {
  type Asker,
  type DaemonMessage,
  daemonLineMax,
  feedVersion,
  lineOf,
  type ShimMessage,
} from './protocol.ts';

/**
 * Opens the line: to the daemon's socket (`connectDaemon`), or inside the daemon to its hub. Called again after each loss.
 * `needed`: a value is waited for and none is at hand, so whatever it takes should be done.
 */
export type Connect = (need: {
  readonly needed: boolean;
  readonly signal: AbortSignal;
}) => Promise<Duplex>;

export interface FeedSourceOptions {
  readonly connect: Connect;
  readonly asker: Asker;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: GateLog;
  readonly timing?: Partial<FeedTiming>;
}

export interface FeedTiming {
  /** The first pause before the line is sought again; doubles up to `retryMostMs`, half of each random. */
  readonly retryFirstMs: number;
  readonly retryMostMs: number;
  /** From the open line to the daemon's welcome. */
  readonly welcomeWithinMs: number;
  /** So long without a word of the daemon, and it is taken for hung: another may have taken its place. */
  readonly silenceMostMs: number;
  /** So long an answer may take. */
  readonly answerWithinMs: number;
  /** With a value at hand: so long the line is waited for before that one is used. */
  readonly lineWithinMs: number;
  /** How long an orderly end may take. */
  readonly byeWithinMs: number;
}

const defaultTiming: FeedTiming = {
  retryFirstMs: 100,
  retryMostMs: 5_000,
  welcomeWithinMs: 5_000,
  silenceMostMs: 10_000,
  answerWithinMs: 15_000,
  lineWithinMs: 1_000,
  byeWithinMs: 500,
};

/** Report after each `resolve`: until then the daemon has to take this instance for one that serves what it was answered. */
export interface FeedSource extends ValueSource {
  /** What the daemon knows this instance by. */
  readonly instance: string;
}

/** Seeks the line from the start and for as long as it is not closed. */
export function createFeedSource(options: FeedSourceOptions): FeedSource {
  const { asker, clock, random, log } = options;
  const timing = { ...defaultTiming, ...options.timing };
  const instance = newInstance(asker.server, random);
  const closing = new AbortController();
  let settings = defaultSettings;
  let cached: Resolved | null = null;
  let status: InstanceStatus | null = null;
  /** Answered since the last report: what is served may differ from it by now. */
  let answeredSince = false;
  let listener: (notice: Notice) => void = () => {};
  let line: Line | null = null;
  /** Who waits for a value with none at hand. */
  let inNeed = 0;
  let welcomes = 0;
  let attempt = nextAttempt();
  let hurry = Promise.withResolvers<void>();

  const events: LineEvents = {
    onNotice: (notice) => listener(notice),
    onSettings: (given) => {
      settings = given;
    },
  };

  async function seek(): Promise<void> {
    for (let failures = 0; !closing.signal.aborted; ) {
      const current = attempt;
      current.begun = true;
      try {
        line = await open(current.needed);
        // Closed in the very turn in which the welcome came: nobody else says bye.
        if (closing.signal.aborted) return await line.bye(timing.byeWithinMs);
        failures = 0;
        current.outcome.resolve(null);
        welcomes += 1;
        if (welcomes > 1) {
          log.info({ server: asker.server }, 'the daemon answers again');
          // Whatever changed meanwhile was told to nobody.
          listener({ urgent: false });
        }
        attempt = nextAttempt();
        await line.lost;
        line = null;
        if (closing.signal.aborted) return;
        log.warn({ server: asker.server }, 'the line to the daemon was lost');
      } catch (thrown) {
        failures += 1;
        const error = asRotatedError(thrown, 'none');
        if (failures === 1 && !closing.signal.aborted) {
          log.warn({ server: asker.server, code: error.code }, 'the daemon cannot be reached');
        }
        attempt = nextAttempt();
        current.outcome.resolve(error);
      }
      await pause(failures);
    }
  }

  async function pause(failures: number): Promise<void> {
    if (attempt.needed || closing.signal.aborted) return;
    const full = Math.min(timing.retryMostMs, timing.retryFirstMs * 2 ** Math.min(16, failures));
    const waking = new AbortController();
    const woken = () => waking.abort();
    closing.signal.addEventListener('abort', woken, { once: true });
    void hurry.promise.then(woken);
    await clock.sleep(full / 2 + (full / 2) * random.fraction(), waking.signal).catch(() => {});
    closing.signal.removeEventListener('abort', woken);
  }

  async function open(needed: boolean): Promise<Line> {
    const stream = await options.connect({ needed, signal: closing.signal });
    const opened = openLine(stream, timing, events);
    opened.send({
      type: 'hello',
      feed: feedVersion,
      instance,
      ...asker,
      held: cached?.generations ?? null,
      status: answeredSince ? null : status,
    });
    const leave = () => void opened.bye(timing.byeWithinMs);
    closing.signal.addEventListener('abort', leave, { once: true });
    if (closing.signal.aborted) leave();
    try {
      settings = await opened.welcome;
      return opened;
    } finally {
      closing.signal.removeEventListener('abort', leave);
    }
  }

  /** The open line; null where there is none and what is at hand has to do. Throws why there is none. */
  async function lineNow(signal: AbortSignal): Promise<Line | null> {
    if (line !== null) return line;
    if (closing.signal.aborted) throw closed();
    if (cached !== null) {
      wake();
      const late = clock.sleep(timing.lineWithinMs, signal).catch(() => {});
      await Promise.race([attempt.outcome.promise, late]);
      return line;
    }
    inNeed += 1;
    try {
      // An attempt that began before anybody was in need may have done less than it takes: two are enough.
      for (let tries = 0; tries < 2; tries += 1) {
        const current = attempt;
        wake();
        const failure = await aborting(current.outcome.promise, signal);
        if (line !== null) return line;
        if (failure !== null && current.needed) throw failure;
      }
    } finally {
      inNeed -= 1;
    }
    throw unreachable();
  }

  /** The next attempt begins now, if none is under way. */
  function wake(): void {
    if (inNeed > 0 && !attempt.begun) attempt.needed = true;
    hurry.resolve();
    hurry = Promise.withResolvers();
  }

  const seeking = seek();

  return {
    instance,
    settings: () => settings,
    listen: (given) => {
      listener = given;
    },
    async resolve(signal) {
      const current = await lineNow(signal);
      try {
        if (current === null) throw unreachable();
        const deadline = AbortSignal.any([signal, AbortSignal.timeout(timing.answerWithinMs)]);
        const answer = await current.resolve(deadline);
        if (answer.values.length !== asker.references.length) throw misread();
        cached = {
          values: new Map(
            asker.references.map((reference, at) => [
              reference,
              new Secret(answer.values[at] as string),
            ]),
          ),
          generations: answer.generations,
        };
        answeredSince = true;
        return cached;
      } catch (error) {
        signal.throwIfAborted();
        // The line went down: what was resolved last stays usable. What the daemon answered is an answer.
        if (cached !== null && isRotatedError(error, 'daemon-silent')) return cached;
        throw error;
      }
    },
    report(given) {
      if (!answeredSince && JSON.stringify(given) === JSON.stringify(status)) return;
      status = given;
      answeredSince = false;
      line?.send({ type: 'status', status: given });
    },
    async close() {
      if (closing.signal.aborted) return;
      closing.abort();
      attempt.outcome.resolve(closed());
      await line?.bye(timing.byeWithinMs);
      await seeking;
    },
  };
}

/** One search for the line, or the next one. */
interface Attempt {
  begun: boolean;
  needed: boolean;
  readonly outcome: PromiseWithResolvers<RotatedError | null>;
}

function nextAttempt(): Attempt {
  return { begun: false, needed: false, outcome: Promise.withResolvers() };
}

interface LineEvents {
  onNotice(notice: Notice): void;
  onSettings(settings: ServerSettings): void;
}

type Values = Extract<DaemonMessage, { type: 'values' }>;

/** One open stream, until it is lost. */
interface Line {
  /** Rejects where the daemon refuses, or says nothing in time. */
  readonly welcome: Promise<ServerSettings>;
  /** Resolves, never rejects. */
  readonly lost: Promise<void>;
  send(message: ShimMessage): void;
  resolve(signal: AbortSignal): Promise<Values>;
  bye(withinMs: number): Promise<void>;
}

function openLine(stream: Duplex, timing: FeedTiming, events: LineEvents): Line {
  const waiting = new Map<number, PromiseWithResolvers<Values>>();
  const welcome = Promise.withResolvers<ServerSettings>();
  const lost = Promise.withResolvers<void>();
  const split = lineSplitter(daemonLineMax);
  let lastId = 0;
  // Handled where it is awaited; a line that goes down early must not end the process.
  welcome.promise.catch(() => {});

  const fall = (why: RotatedError) => {
    clearTimeout(silence);
    welcome.reject(why);
    for (const one of waiting.values()) one.reject(why);
    waiting.clear();
    stream.destroy();
    lost.resolve();
  };
  const silence = setTimeout(() => fall(silent('says nothing')), timing.welcomeWithinMs);
  silence.unref();
  let quiet: NodeJS.Timeout | null = null;

  const send = (message: ShimMessage) => {
    if (stream.writable) stream.write(lineOf(message));
  };
  const settle = (id: number, how: (one: PromiseWithResolvers<Values>) => void) => {
    const one = waiting.get(id);
    waiting.delete(id);
    if (one !== undefined) how(one);
  };
  /** The change it tells of, where it does. */
  const receive = (message: DaemonMessage): Notice | null => {
    switch (message.type) {
      case 'welcome':
        if (message.feed !== feedVersion) fall(otherVersion(message.rotated));
        clearTimeout(silence);
        quiet = setTimeout(() => fall(silent('fell silent')), timing.silenceMostMs);
        quiet.unref();
        welcome.resolve(message.settings);
        return null;
      case 'refused':
        fall(errorFromJson(message.error));
        return null;
      case 'values':
        settle(message.id, (one) => one.resolve(message));
        return null;
      case 'error':
        settle(message.id, (one) => one.reject(errorFromJson(message.error)));
        return null;
      case 'changed':
        return { urgent: message.urgent };
      case 'settings':
        events.onSettings(message.settings);
        return null;
      case 'alive':
        send({ type: 'alive' });
        return null;
      default:
        message satisfies never;
        throw misread();
    }
  };
  stream.on('data', (chunk: Buffer) => {
    quiet?.refresh();
    try {
      // Several changes that arrive together are one.
      const notices = split(chunk).flatMap((text) => receive(JSON.parse(text)) ?? []);
      if (notices.length > 0) events.onNotice({ urgent: notices.some(({ urgent }) => urgent) });
    } catch {
      fall(misread());
    }
  });
  stream.on('error', () => fall(silent('cannot be reached')));
  stream.on('close', () => {
    if (quiet !== null) clearTimeout(quiet);
    fall(silent('closed the line'));
  });

  return {
    welcome: welcome.promise,
    lost: lost.promise,
    send,
    async resolve(signal) {
      lastId += 1;
      const id = lastId;
      const answer = Promise.withResolvers<Values>();
      waiting.set(id, answer);
      if (stream.destroyed) answer.reject(silent('closed the line'));
      send({ type: 'resolve', id });
      try {
        return await aborting(answer.promise, signal);
      } finally {
        waiting.delete(id);
      }
    },
    async bye(withinMs) {
      if (stream.writable) stream.end(lineOf({ type: 'bye' }));
      const late = setTimeout(() => fall(closed()), withinMs);
      await lost.promise;
      clearTimeout(late);
    },
  };
}

/** The promise, or a `timeout` as soon as the signal says so. */
async function aborting<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw late();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(late());
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function silent(what: string): RotatedError {
  return new RotatedError('daemon-silent', `The daemon that holds the secrets ${what}.`, {
    next: 'Look whether rotated runs: rotate status.',
  });
}

function unreachable(): RotatedError {
  return silent('cannot be reached');
}

function late(): RotatedError {
  return new RotatedError('timeout', 'The daemon did not answer in time.', {
    next: 'Look whether rotated runs: rotate status.',
  });
}

function closed(): RotatedError {
  return new RotatedError('unavailable', 'The feed of this instance is closed.');
}

function misread(): RotatedError {
  return silent('says what this version does not understand');
}

function otherVersion(version: string): RotatedError {
  return new RotatedError('unsupported', `The daemon is rotated ${version}, another version.`, {
    next: 'Restart the daemon and the client, so that all are of one version.',
  });
}
