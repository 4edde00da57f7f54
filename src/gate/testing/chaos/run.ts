/** One simulated session: a seeded storm of everything that may happen, then calm, then what must hold for any of them. */
import { setImmediate as turn } from 'node:timers/promises';
import { seededRandom } from '../../../../test/support/world/random.ts';
import { Secret } from '../../../secret/secret.ts';
import type { StartLink } from '../../link.ts';
import { createSession } from '../../session/create.ts';
import type { Session } from '../../session/session.ts';
import { defaultSettings, type ServerSettings } from '../../settings.ts';
import type { InstanceStatus, Notice, ValueSource } from '../../source.ts';
import { FakeClient } from './client.ts';
import { StillClock } from './clock.ts';
import { FakeServer } from './server.ts';
import { type Mix, World } from './world.ts';

export interface Outcome {
  /** What must not be; empty where all is well. */
  readonly wrongs: readonly string[];
  readonly trace: readonly string[];
  /** Where the session has been, and how often. */
  readonly points: Readonly<Record<string, number>>;
  readonly answered: number;
}

/** Deliveries until calm; a session that never gets there is one of the wrongs. */
const calmStepsMost = 6_000;
/** The daemon repeats itself until the instance has adopted. */
const repeatsMost = 10;
const repeatMs = 10_000;

export async function run(seed: number, mix: Mix): Promise<Outcome> {
  const storm = new Storm(seed, mix);
  const rejected = (error: unknown) => {
    storm.world.wrong(
      `an unhandled rejection: ${error instanceof Error ? error.stack : 'unknown'}`,
    );
  };
  process.on('unhandledRejection', rejected);
  try {
    await storm.rage();
    await storm.end();
    return storm.outcome();
  } finally {
    process.off('unhandledRejection', rejected);
  }
}

class Storm {
  readonly world: World;
  readonly #clock = new StillClock();
  readonly #client: FakeClient;
  readonly #session: Session;
  readonly #settings: ServerSettings;
  readonly #points: Record<string, number> = {};
  #status: InstanceStatus | null = null;
  #listener: (notice: Notice) => void = () => undefined;
  /** The newest generation that a process has served. */
  #served = 0;
  #hasEnded = false;

  constructor(seed: number, mix: Mix) {
    const random = seededRandom(seed);
    this.world = new World(mix, random);
    this.#client = new FakeClient(this.world);
    this.#settings = {
      ...defaultSettings,
      swap: mix.swap ?? 'swap',
      drainMs: this.world.pick([30, 5_000]),
      warmMs: this.world.pick([0, 50]),
      idleMs: mix.idleMs ?? 60_000,
      startMs: 8_000,
      retry: mix.retry === true ? ['again'] : [],
      canary: mix.bad === undefined ? null : { tool: 'canary', arguments: {} },
      redact: false,
    };
    this.#session = createSession({
      entry: {
        name: 'fake',
        launch: {
          kind: 'process',
          command: 'fake',
          args: [],
          cwd: '/',
          env: { KEY: 'local://t#key' },
          files: [],
        },
      },
      source: this.#source(),
      startLink: this.#startLink,
      client: this.#client.port,
      clock: this.#clock,
      random,
      log: {
        info: () => undefined,
        warn: (fields, message) => this.world.note(`log: ${message} ${JSON.stringify(fields)}`),
      },
      at: (point) => this.#at(point),
    });
    this.#client.session = this.#session;
    void this.#session.ended.then(() => {
      this.#hasEnded = true;
      this.world.note('ended');
      const { alive } = this.world;
      if (alive.length > 0) this.world.wrong(`${alive.length} servers run after the end`);
    });
    this.#client.begin();
  }

  async rage(): Promise<void> {
    const { world } = this;
    for (let step = 0; step < (world.mix.steps ?? 150) && !this.#hasEnded; step++) {
      this.#clock.pass(1);
      const throwOf = world.below(100);
      if (throwOf < 38) this.#client.act();
      else if (throwOf < 42) this.#rotate();
      else if (throwOf < 46) world.alive.forEach((server) => server.mutter());
      else if (throwOf < 50) this.#crash();
      else if (throwOf < 53 || (world.mix.half === true && world.chance(0.1))) this.#lapse();
      else if (throwOf < 56 && this.#client.isFull) this.#client.drained();
      else this.#deliver();
      await turn();
    }
  }

  /** One of the ways in which a session ends, with what must hold before it and after. */
  async end(): Promise<void> {
    const { world } = this;
    if (!this.#hasEnded && world.chance(0.25)) await this.#leave();
    else if (!this.#hasEnded) await this.#calm();
    this.#session.stop();
    for (let step = 0; step < 200 && !this.#hasEnded; step++) {
      if (!this.#deliver()) this.#clock.wakeNext();
      await turn();
    }
    const told = this.#client.sent.size;
    const started = world.servers.length;
    await turn();
    if (!this.#hasEnded) world.wrong('the session does not end');
    if (this.#clock.sleepers > 0) world.wrong(`${this.#clock.sleepers} timers run after the end`);
    if (started !== world.servers.length || told !== this.#client.sent.size) {
      world.wrong('something happens after the end');
    }
  }

  outcome(): Outcome {
    const answered = [...this.#client.sent.values()].filter((one) => one.answers.length > 0);
    const { wrongs, trace } = this.world;
    return { wrongs, trace, points: this.#points, answered: answered.length };
  }

  /** Nothing new happens: what is under way comes to its end, and the newest generation is adopted. */
  async #calm(): Promise<void> {
    const { world } = this;
    if (!(await this.#begun())) return;
    if (world.badGenerations.has(world.generation) && world.chance(0.7)) this.#rotate('good');
    await this.#settle();
    if (this.#hasEnded) return this.#mayHaveEnded();
    const last = this.#client.call('plain');
    await this.#settle();
    if (this.#hasEnded) return this.#mayHaveEnded();
    const answer = this.#client.sent.get(last)?.answers[0];
    if (answer?.result === undefined) world.wrong(`the last call fails: ${answer?.error?.message}`);
    this.#lookAtAnswers();
    this.#lookAtState();
  }

  async #begun(): Promise<boolean> {
    for (let step = 0; step < 400 && !this.#hasEnded; step++) {
      if (this.#client.hasBegun) break;
      this.#client.drained();
      this.#client.act();
      if (!this.#deliver() && step % 10 === 9) this.#clock.wakeNext();
      await turn();
    }
    if (!this.#client.hasBegun && !this.#hasEnded && this.world.crashes === 0) {
      this.world.wrong('the handshake is never answered');
    }
    if (this.#client.hasBegun) this.#client.initialized();
    return this.#client.hasBegun && !this.#hasEnded;
  }

  async #settle(): Promise<void> {
    const client = this.#client;
    let repeats = 0;
    for (let step = 0; step < calmStepsMost && !this.#hasEnded; step++) {
      if (client.isFull) client.drained();
      const did = this.#deliver() || client.answer() || (!client.isHeld && client.goOn());
      await turn();
      if (did || this.#clock.wakeNext()) continue;
      await turn();
      if (this.#clock.sleepers > 0) continue;
      if (this.#status?.generations['t'] === this.world.generation || repeats === repeatsMost)
        return;
      repeats += 1;
      this.#clock.pass(repeatMs);
      this.#listener({ urgent: false });
      await turn();
    }
    if (!this.#hasEnded) this.world.wrong('it never comes to rest');
  }

  /** What was asked before the client left is answered, by whoever has it. */
  async #leave(): Promise<void> {
    const { world } = this;
    if (this.#client.isFull) this.#client.drained();
    const owed = world.alive
      .filter((server) => !server.isStopping)
      .flatMap((server) => [...server.pending.keys()].filter((key) => server.mayAnswer(key)));
    this.#client.leave();
    for (let step = 0; step < 500 && this.#deliver(); step++) {
      if (this.#client.isFull) this.#client.drained();
      await turn();
    }
    for (const key of owed) {
      const sent = this.#client.sent.get(key);
      if (sent === undefined || sent.isCancelled || sent.answers.length === 1) continue;
      world.wrong(`call ${key} is not answered after the client left`);
    }
  }

  #mayHaveEnded(): void {
    // A server that crashes again and again is given up.
    if (this.world.crashes === 0) this.world.wrong('the session ends by itself');
  }

  #lookAtAnswers(): void {
    const { world } = this;
    for (const [key, { method, answers, isCancelled }] of this.#client.sent) {
      if (isCancelled || answers.length === 1 || method === 'subscriptions/listen') continue;
      const by = world.servers.filter((server) => server.received.has(key));
      world.wrong(
        `${method} ${key} has ${answers.length} answers, at servers ${by.map((one) => one.number).join()}`,
      );
    }
    for (const [key, { acknowledged }] of this.#client.listens) {
      if (acknowledged !== 1) world.wrong(`listen ${key} is acknowledged ${acknowledged} times`);
    }
    if (this.#client.isHeld) world.wrong('the client is left on hold');
  }

  #lookAtState(): void {
    const { world } = this;
    const { alive } = world;
    const [serving] = alive;
    const status = this.#status;
    if (alive.length > 1) world.wrong(`${alive.length} servers run at rest`);
    const newest = status?.generations['t'] === world.generation;
    const isBad = world.badGenerations.has(world.generation);
    const isTried = world.servers.some((server) => server.generation === world.generation);
    if (isBad && isTried && status?.problem === null) world.wrong('a refused key is adopted');
    if (isBad && newest && alive.length > 0) world.wrong('a refused key is reported');
    if (!isBad && !newest)
      world.wrong(`generation ${status?.generations['t']} of ${world.generation}`);
    if (serving === undefined) {
      if (status?.state !== 'idle') world.wrong('no server runs, and none is to be woken');
      return;
    }
    if (!isBad && status?.problem !== null) {
      world.wrong(`a problem is left: ${status?.problem.message}`);
    }
    if (serving.isStopping) world.wrong('the server that is left is being stopped');
    if (serving.asked.size > 0) world.wrong('a question of the server is never answered');
    this.#lookAtSetUp(serving);
  }

  #lookAtSetUp(serving: FakeServer): void {
    const { world } = this;
    const client = this.#client;
    if (world.era === 'modern') {
      const open = [...client.listens.keys()].sort().join();
      const heard = [...serving.listens.keys()].sort().join();
      if (open !== heard) world.wrong(`the client listens by ${open}, the server knows ${heard}`);
      return;
    }
    if (!serving.isInitialized) world.wrong('the server that serves is not initialized');
    if (client.variant !== null && client.variant !== serving.variant && !client.isStale) {
      world.wrong('the lists have changed, and the client was not told');
    }
    for (const [what, key] of client.setUps) {
      const { answers, params, method } = client.sent.get(key) ?? {};
      if (answers?.[0]?.result === undefined) continue;
      const isRight =
        what === 'level'
          ? serving.level === params?.level
          : serving.subscriptions.has(what) === (method === 'resources/subscribe');
      if (!isRight) world.wrong(`${method} of ${what} is lost`);
    }
  }

  #deliver(): boolean {
    const ready = [...this.world.alive];
    while (ready.length > 0) {
      const [server] = ready.splice(this.world.below(ready.length), 1);
      if (server?.step() === true) return true;
    }
    return false;
  }

  #rotate(kind: 'any' | 'good' = 'any'): void {
    const { world } = this;
    const { bad = 0, urgent = 0 } = world.mix;
    world.generation += 1;
    if (kind === 'any' && world.chance(bad)) world.badGenerations.add(world.generation);
    const isUrgent = world.chance(urgent);
    if (isUrgent) world.emergencies += 1;
    world.note(`generation ${world.generation}${isUrgent ? ', urgent' : ''}`);
    this.#listener({ urgent: isUrgent });
  }

  /** Time runs out for whatever waits for something. */
  #lapse(): void {
    if (this.#clock.wakeNext()) this.world.lapses += 1;
  }

  #crash(): void {
    const { world } = this;
    if (world.alive.length > 0 && world.chance(world.mix.crash ?? 0))
      world.pick(world.alive).crash();
  }

  readonly #startLink: StartLink = (resolved, events) => {
    const { world } = this;
    if (this.#hasEnded) world.wrong('a server is started after the end');
    if (world.mix.swap === 'drain-window' && world.alive.length > 0) {
      world.wrong('two servers run at once');
    }
    const server = new FakeServer(world, resolved.generations['t'] ?? 0, events);
    world.servers.push(server);
    world.note(`server ${server.number} starts with generation ${server.generation}`);
    return server.link;
  };

  #source(): ValueSource {
    const { world } = this;
    return {
      settings: () => this.#settings,
      resolve: async () => ({
        values: new Map([['local://t#key', new Secret(`value-${world.generation}`)]]),
        generations: { t: world.generation },
      }),
      listen: (listener) => {
        this.#listener = listener;
      },
      report: (status) => this.#reported(status),
      close: async () => undefined,
    };
  }

  /** What is said of a generation may be what the daemon revokes the older ones by. */
  #reported(status: InstanceStatus): void {
    const { world } = this;
    this.#status = status;
    const said = status.generations['t'] ?? 0;
    const oldest = Math.min(...world.alive.map((server) => server.generation));
    const isTrue =
      world.alive.length > 0 ? said <= oldest : status.state === 'idle' || said <= this.#served;
    world.note(`reports ${status.state} ${said} ${status.problem?.message ?? ''}`);
    if (!isTrue) world.wrong(`reports generation ${said}, where ${oldest} runs`);
  }

  #at(point: string): void {
    const { world } = this;
    world.note(`at ${point}`);
    this.#points[point] = (this.#points[point] ?? 0) + 1;
    if (point !== 'flipped') return;
    const { generation, number } = world.servers.at(-1) ?? { generation: 0, number: 0 };
    this.#served = Math.max(this.#served, generation);
    if (number > 0 && world.badGenerations.has(generation)) world.wrong('a refused key serves');
  }
}
