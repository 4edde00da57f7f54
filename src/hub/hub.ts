/** Who is connected to the feed: the instances of each server, which generation each holds, and which are proven gone. */
import type { Duplex } from 'node:stream';
import type { Clock } from '../clock.ts';
import type { InstanceReport } from '../consumer/consumer.ts';
import type { GateFeed } from '../consumer/gate.ts';
import type { ProcessTable } from '../consumer/processes.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import { birthNumber, parseInstance } from '../gate/feed/identity.ts';
import { type Asker, feedVersion, type Hello, type ShimMessage } from '../gate/feed/protocol.ts';
import type { ServerSettings } from '../gate/settings.ts';
import type { Generations, InstanceStatus } from '../gate/source.ts';
import type { Secret } from '../secret/secret.ts';
import { aliveEveryMs, type Connection, openConnection, silenceMostMs } from './connection.ts';

export interface HubLog {
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
}

export interface Answer {
  /** In the order of the asker's references. */
  readonly values: readonly Secret[];
  readonly generations: Generations;
}

/** What a hub needs from whoever composes it. */
export interface HubPorts {
  readonly version: string;
  readonly clock: Clock;
  readonly log: HubLog;
  readonly processes: ProcessTable;
  /** Removes values from what shims say of problems. */
  redact(text: string): string;
  settings(server: string): ServerSettings;
  /** Checks the grants first: throws `not-granted`. */
  resolve(asker: Asker, signal: AbortSignal): Promise<Answer>;
  /** The secrets that these references stand for. */
  secretsOf(references: readonly string[]): readonly string[];
  /** Durable when it resolves: before a value leaves, so that a later daemon knows who holds it. */
  remember(server: string, instance: string, generations: Generations): Promise<void>;
  forget(server: string, instance: string, secrets: readonly string[]): Promise<void>;
}

export interface Hub extends GateFeed {
  /** One shim's line, whatever carries it: a socket, or the other end of a pair inside this process. */
  accept(stream: Duplex): void;
  /** Instances that only the journal knows: expected to come back, or to be proven gone. */
  expect(instances: readonly (Absent & { readonly instance: string })[]): void;
  /** The policies changed: each server hears of its settings. */
  refresh(): void;
  /** What was refused may be granted now. */
  granted(server: string): void;
  /** As they stand, for people. */
  view(): readonly InstanceNow[];
  /** Every line is closed; reloads fail from now on. */
  close(): Promise<void>;
}

export interface InstanceNow {
  readonly server: string;
  readonly instance: string;
  readonly secrets: readonly string[];
  readonly report: (secret: string) => InstanceReport;
  readonly problem: InstanceStatus['problem'];
}

/** An instance without a line, and the secrets whose values it was given. */
export interface Absent {
  readonly server: string;
  readonly secrets: readonly string[];
}

interface Lost extends Absent {
  /** It was told of an emergency while nobody heard. */
  missedUrgent: boolean;
}

interface Instance {
  readonly hello: Hello;
  readonly connection: Connection;
  status: InstanceStatus | null;
  /** Of what it was answered last. */
  held: Generations | null;
  /** It asked and was answered since its last status: it may be starting with that. */
  askedSince: boolean;
  /** Answers on their way. */
  resolving: number;
  readonly ended: AbortController;
}

/** Each instance asks when told, once more at a start: more at a time is a fault. */
const resolvingMost = 16;
/** Shorter than a shim waits: it hears why. */
const answerWithinMs = 10_000;
/** How often it is looked whether instances whose line was lost have ended. */
const lookEveryMs = 2_000;
/** Ends remembered, so that a rotation which knew them hears of it. */
const byesMost = 10_000;

export function createHub(ports: HubPorts): Hub {
  const { clock, log, processes } = ports;
  const live = new Map<string, Instance>();
  /** Lines lost without a word, by instance. */
  const lost = new Map<string, Lost>();
  const byes = new Set<string>();
  const pending = new Set<Promise<void>>();
  let closed = false;

  const asking = setInterval(() => {
    for (const { connection } of live.values()) connection.send({ type: 'alive' });
  }, aliveEveryMs);
  const looking = setInterval(() => {
    for (const [instance, absent] of lost) background(settle(absent, instance));
  }, lookEveryMs);
  asking.unref();
  looking.unref();

  /** Failures are those of the journal: the next look tries again. */
  function background(work: Promise<unknown>): void {
    const done = work.then(
      () => {},
      (error: unknown) => {
        log.warn({ code: asRotatedError(error, 'none').code }, 'the feed could not note a change');
      },
    );
    pending.add(done);
    void done.finally(() => pending.delete(done));
  }

  /** True once it is proven that it has ended. */
  async function settle(absent: Absent, instance: string, signal = stop.signal): Promise<boolean> {
    if (byes.has(instance)) return true;
    if (live.has(instance) || !(await isGone(instance, processes, signal))) return false;
    await end(absent, instance);
    return true;
  }

  async function end({ server, secrets }: Absent, instance: string): Promise<void> {
    lost.delete(instance);
    for (const oldest of byes) {
      if (byes.size < byesMost) break;
      byes.delete(oldest);
    }
    byes.add(instance);
    if (secrets.length > 0) await ports.forget(server, instance, secrets);
  }
  const stop = new AbortController();

  async function greet(hello: Hello, connection: Connection, join: (one: Instance) => void) {
    const { server, instance } = hello;
    // Else its end could never be proven: the process ids of a container are not those of this machine.
    if (await isGone(instance, processes, stop.signal)) {
      log.warn({ server, instance }, 'refused: no such process on this machine');
      connection.refuse(elsewhere(server));
      return;
    }
    if (closed) return connection.destroy();
    live.get(instance)?.connection.destroy();
    const urgent = lost.get(instance)?.missedUrgent === true;
    lost.delete(instance);
    const one: Instance = {
      hello,
      connection,
      status: hello.status === null ? null : redacted(hello.status),
      held: hello.held,
      askedSince: false,
      resolving: 0,
      ended: new AbortController(),
    };
    live.set(instance, one);
    join(one);
    connection.send({
      type: 'welcome',
      feed: feedVersion,
      rotated: ports.version,
      settings: ports.settings(server),
    });
    if (urgent) connection.send({ type: 'changed', urgent });
    log.info({ server, instance }, 'a server is connected');
    if (one.held !== null) await ports.remember(server, instance, one.held);
  }

  async function answer(one: Instance, id: number): Promise<void> {
    const { server, instance } = one.hello;
    one.resolving += 1;
    try {
      if (one.resolving > resolvingMost) throw tooMany(server);
      const deadline = AbortSignal.any([one.ended.signal, AbortSignal.timeout(answerWithinMs)]);
      const { values, generations } = await ports.resolve(one.hello, deadline);
      await ports.remember(server, instance, generations);
      one.held = generations;
      one.askedSince = true;
      one.connection.send({
        type: 'values',
        id,
        values: values.map((value) => value.reveal()),
        generations,
      });
    } catch (thrown) {
      const error = asRotatedError(thrown, 'none');
      if (error.code === 'unexpected') log.warn({ server, instance }, 'resolving failed');
      one.connection.send({
        type: 'error',
        id,
        error: error.toJSON() as { code: string; message: string },
      });
    } finally {
      one.resolving -= 1;
    }
  }

  function redacted(status: InstanceStatus): InstanceStatus {
    const { problem } = status;
    return problem === null
      ? status
      : { ...status, problem: { ...problem, message: ports.redact(problem.message) } };
  }

  function note(one: Instance, status: InstanceStatus): void {
    const before = one.status?.problem ?? null;
    one.status = redacted(status);
    one.askedSince = false;
    const { problem } = one.status;
    const { server, instance } = one.hello;
    if (problem !== null && JSON.stringify(problem) !== JSON.stringify(before)) {
      const { code, message } = problem;
      log.warn({ server, instance, code, problem: message }, 'a server keeps its old credential');
    }
  }

  function reportOf(one: Instance, secret: string): InstanceReport {
    const { status, held } = one;
    const { instance } = one.hello;
    const silent = clock.monotonicMs() - one.connection.heardAtMs > silenceMostMs;
    const holds = held?.[secret] ?? null;
    if (silent) return { instance, generation: holds, state: 'unreachable' };
    // Which generation the answer under way will hold is not known yet.
    if (one.resolving > 0) return { instance, generation: null, state: 'serving' };
    // Whoever never asked reads what is current when it does.
    if (held === null) return { instance, generation: null, state: 'idle' };
    if (status === null || (one.askedSince && status.state === 'idle')) {
      return { instance, generation: holds, state: 'serving' };
    }
    const generation = status.generations[secret] ?? holds;
    const problem = status.problem === null ? {} : { problem: status.problem.message };
    return { instance, generation, state: status.state, ...problem };
  }

  function concerns(one: Instance, secret: string): boolean {
    const held = one.held !== null && Object.hasOwn(one.held, secret);
    return held || ports.secretsOf(one.hello.references).includes(secret);
  }

  function instancesOf(server: string): Instance[] {
    return [...live.values()].filter(({ hello }) => hello.server === server);
  }

  function refuseIfClosed(server: string): void {
    if (!closed) return;
    throw new RotatedError(
      'consumer-failed',
      `gate:${server} cannot be told: the feed is closed.`,
      {
        next: 'Start rotated, or run the command again: rotate status.',
      },
    );
  }

  return {
    accept(stream) {
      let one: Instance | null = null;
      let isGone = false;
      const connection = openConnection(stream, {
        monotonicMs: () => clock.monotonicMs(),
        onHello: (hello) =>
          background(
            greet(hello, connection, (joined) => {
              one = joined;
              if (isGone) leave(joined);
              for (const message of early.splice(0)) receive(joined, message);
            }),
          ),
        onMessage: (message) => {
          if (one === null) early.push(message);
          else receive(one, message);
        },
        onClose: () => {
          isGone = true;
          if (one !== null) leave(one);
        },
        onBroken: () => log.warn({}, 'a line of the feed was closed: it is not of this protocol'),
      });
      /** What came while its process was looked up. */
      const early: Exclude<ShimMessage, Hello>[] = [];
      const receive = (joined: Instance, message: Exclude<ShimMessage, Hello>) => {
        const { server, instance } = joined.hello;
        switch (message.type) {
          case 'resolve':
            background(answer(joined, message.id));
            return;
          case 'status':
            note(joined, message.status);
            return;
          case 'alive':
            return;
          case 'bye':
            log.info({ server, instance }, 'a server has ended');
            live.delete(instance);
            background(end({ server, secrets: secretsHeld(joined) }, instance));
            connection.destroy();
            return;
          default:
            message satisfies never;
        }
      };
      const leave = (left: Instance) => {
        const { server, instance } = left.hello;
        left.ended.abort();
        if (live.get(instance) !== left) return;
        live.delete(instance);
        if (left.held === null) return;
        const absent = { server, secrets: secretsHeld(left), missedUrgent: false };
        lost.set(instance, absent);
        if (closed) return;
        log.warn({ server, instance }, 'the line to a server was lost');
        background(settle(absent, instance));
      };
      if (closed) connection.destroy();
    },
    expect(instances) {
      for (const { server, secrets, instance } of instances) {
        if (live.has(instance) || byes.has(instance)) continue;
        const before = lost.get(instance);
        const absent = {
          server,
          secrets: [...new Set([...(before?.secrets ?? []), ...secrets])],
          missedUrgent: before?.missedUrgent ?? false,
        };
        lost.set(instance, absent);
        background(settle(absent, instance));
      }
    },
    refresh() {
      for (const { hello, connection } of live.values()) {
        connection.send({ type: 'settings', settings: ports.settings(hello.server) });
      }
    },
    granted(server) {
      for (const { connection } of instancesOf(server)) {
        connection.send({ type: 'changed', urgent: false });
      }
    },
    async probe(server) {
      refuseIfClosed(server);
    },
    async tell(server, urgent) {
      refuseIfClosed(server);
      for (const { connection } of instancesOf(server)) {
        connection.send({ type: 'changed', urgent });
      }
      for (const one of lost.values()) {
        if (one.server === server) one.missedUrgent ||= urgent;
      }
    },
    async report(server, secret, known, signal) {
      refuseIfClosed(server);
      const reports = instancesOf(server)
        .filter((one) => concerns(one, secret))
        .map((one) => reportOf(one, secret));
      const present = new Set(reports.map(({ instance }) => instance));
      const absent = [...lost]
        .filter(([, one]) => one.server === server && one.secrets.includes(secret))
        .map(([instance]) => instance);
      for (const instance of new Set([...known, ...absent])) {
        if (present.has(instance)) continue;
        const secrets = [...new Set([secret, ...(lost.get(instance)?.secrets ?? [])])];
        const gone = await settle({ server, secrets }, instance, signal);
        reports.push({ instance, generation: null, state: gone ? 'gone' : 'unreachable' });
      }
      return reports;
    },
    view: () =>
      [...live.values()].map((one) => ({
        server: one.hello.server,
        instance: one.hello.instance,
        secrets: secretsHeld(one),
        report: (secret) => reportOf(one, secret),
        problem: one.status?.problem ?? null,
      })),
    async close() {
      closed = true;
      clearInterval(asking);
      clearInterval(looking);
      stop.abort();
      for (const { connection } of live.values()) connection.destroy();
      await Promise.all(pending);
    },
  };
}

function secretsHeld({ held }: Instance): string[] {
  return Object.keys(held ?? {});
}

/** Proven: no process of that id began when it did. False where it cannot be told. */
async function isGone(
  instance: string,
  processes: ProcessTable,
  signal: AbortSignal,
): Promise<boolean> {
  const name = parseInstance(instance);
  if (name === null) return false;
  try {
    const found = await processes.find(name.pid, signal);
    return found === null || birthNumber(found.birth) !== name.birth;
  } catch (error) {
    if (isRotatedError(error)) return false;
    throw error;
  }
}

function elsewhere(server: string): RotatedError {
  return new RotatedError(
    'unsupported',
    `The server ${server} runs where the daemon cannot see its process, as in a container.`,
    { next: 'Run rotate wrap on the machine of the daemon, outside of any container.' },
  );
}

function tooMany(server: string): RotatedError {
  return new RotatedError('throttled', `The server ${server} asks too often.`);
}
