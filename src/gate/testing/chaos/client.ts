/** A simulated MCP client of either era: asks everything there is to ask, in any order, and remembers what it was told. */
import { frameOf, gateErrors } from '../../message.ts';
import type { ClientPort, Session } from '../../session/session.ts';
import {
  type CallKind,
  keyOf,
  linesOf,
  type Params,
  subscriptionKey,
  versionKey,
  type Wire,
  type World,
} from './world.ts';

interface Sent {
  readonly method: string;
  readonly params: Params;
  /** How many messages the client had been told before. */
  readonly at: number;
  readonly answers: Wire[];
  readonly progress: number[];
  isCancelled: boolean;
}

export interface Listen {
  readonly uris: readonly string[];
  acknowledged: number;
}

const meta = {
  [versionKey]: '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'fake', version: '1' },
};

export class FakeClient {
  readonly port: ClientPort;
  readonly sent = new Map<string, Sent>();
  readonly listens = new Map<string, Listen>();
  /** By what is set up: the request that said so last. */
  readonly setUps = new Map<string, string>();
  isHeld = false;
  isFull = false;
  hasBegun = false;
  hasLeft = false;
  variant: string | null = null;
  /** The lists have changed, as far as it was told, since it looked. */
  isStale = false;
  session: Session | null = null;
  readonly #world: World;
  readonly #ended = new Set<string>();
  readonly #questions: Wire[] = [];
  readonly #rounds: string[] = [];
  readonly #tasks: string[] = [];
  readonly #pages: string[] = [];
  #lastId = 0;
  #told = 0;
  #changedAt = 0;
  #isInitialized = false;

  constructor(world: World) {
    this.#world = world;
    this.port = {
      send: (frames) => {
        for (const message of linesOf(frames)) this.#take(message);
        this.isFull ||= world.mix.pressure === true && world.chance(0.1);
        return !this.isFull;
      },
      hold: (isHeld) => {
        this.isHeld = isHeld;
      },
      log: () => undefined,
    };
  }

  /** The first thing that a client says. */
  begin(): void {
    const clientInfo = { name: 'fake', version: '1' };
    const legacy = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo };
    if (this.#world.era === 'legacy') this.#request('initialize', legacy as Params);
    else this.#request('server/discover', {});
  }

  /** One thing of all that it could say now. */
  act(): void {
    const world = this.#world;
    if (this.isHeld || this.hasLeft || this.session === null) return;
    if (!this.hasBegun) {
      if (![...this.sent.values()].some((one) => one.answers[0]?.result !== undefined)) return;
      this.hasBegun = true;
      if (world.mix.half !== true || world.chance(0.7)) this.initialized();
      return;
    }
    if (!this.#isInitialized) {
      if (world.chance(0.1)) this.initialized();
      return;
    }
    const choices = [
      () => this.call(world.pick<CallKind>(['plain', 'again', 'ask', 'progress', 'round', 'task'])),
      () => this.call('plain'),
      () => this.#setUp(),
      () => this.goOn(),
      () => this.#cancel(),
      () => this.answer(),
    ];
    world.pick(choices)();
  }

  initialized(): void {
    if (this.#isInitialized) return;
    this.#isInitialized = true;
    if (this.#world.era === 'legacy') this.#say({ method: 'notifications/initialized' });
  }

  call(kind: CallKind): string {
    const actual = this.#world.era === 'modern' && kind === 'ask' ? 'round' : kind;
    const name = actual === 'again' ? 'again' : 'x';
    const params = { name, arguments: { kind: actual } };
    if (actual !== 'progress') return this.#request('tools/call', params);
    return this.#request('tools/call', params, { progressToken: `p${this.#lastId + 1}` });
  }

  /** A question of the server's. False where there is none. */
  answer(): boolean {
    if (this.#questions.length === 0 || this.isHeld) return false;
    const at = this.#world.below(this.#questions.length);
    const [question] = this.#questions.splice(at, 1);
    if (question?.id === undefined) return false;
    const { tag } = question.params ?? {};
    this.#say({ id: question.id, result: tag === undefined ? { roots: [] } : { tag } });
    return true;
  }

  /** The next round of a call, the next page of a list, a look at a task. False where nothing is open. */
  goOn(): boolean {
    const [round] = this.#rounds.splice(0, 1);
    if (round !== undefined) {
      const params = { name: 'x', arguments: { kind: 'round' as const }, requestState: round };
      this.#request('tools/call', params);
      return true;
    }
    const [page] = this.#pages.splice(0, 1);
    if (page !== undefined) {
      this.#request('tools/list', { cursor: page });
      return true;
    }
    const [taskId] = this.#tasks.splice(0, 1);
    if (taskId !== undefined) this.#request('tasks/get', { taskId });
    return taskId !== undefined;
  }

  drained(): void {
    this.isFull = false;
    this.session?.clientDrained();
  }

  leave(): void {
    this.hasLeft = true;
    this.session?.clientClosed();
  }

  #setUp(): void {
    const world = this.#world;
    const uri = `x://${world.below(3)}`;
    if (world.chance(0.2)) {
      this.#request('tools/list', world.chance(0.5) ? { paged: true } : {});
    } else if (world.era === 'modern') {
      const notifications = { toolsListChanged: true, resourceSubscriptions: [uri] };
      const key = this.#request('subscriptions/listen', { notifications });
      this.listens.set(key, { uris: [uri], acknowledged: 0 });
    } else if (world.chance(0.3)) {
      const level = world.pick(['info', 'error', 'alert']);
      this.setUps.set('level', this.#request('logging/setLevel', { level }));
    } else {
      const way = world.chance(0.6) ? 'subscribe' : 'unsubscribe';
      this.setUps.set(uri, this.#request(`resources/${way}`, { uri }));
    }
  }

  #cancel(): void {
    const listens = [...this.listens.keys()];
    const calls = [...this.sent]
      .filter(([, one]) => one.method === 'tools/call' && one.answers.length === 0)
      .map(([key]) => key);
    const open = [...calls, ...listens].filter((key) => this.sent.get(key)?.isCancelled === false);
    if (open.length === 0) return;
    const key = this.#world.pick(open);
    const sent = this.sent.get(key);
    if (sent !== undefined) sent.isCancelled = true;
    if (this.listens.delete(key)) this.#ended.add(key);
    const requestId = JSON.parse(key) as number | string;
    this.#say({ method: 'notifications/cancelled', params: { requestId } });
  }

  #request(method: string, params: Params, more: Readonly<Record<string, unknown>> = {}): string {
    this.#lastId += 1;
    const id = this.#world.chance(0.5) ? this.#lastId : `${this.#lastId}`;
    const key = keyOf(id);
    const _meta = { ...(this.#world.era === 'modern' ? meta : {}), ...more };
    this.sent.set(key, {
      method,
      params,
      at: this.#told,
      answers: [],
      progress: [],
      isCancelled: false,
    });
    this.#say({
      id,
      method,
      params: Object.keys(_meta).length === 0 ? params : { ...params, _meta },
    });
    return key;
  }

  #say(message: Wire): void {
    this.session?.fromClient([frameOf(message)]);
  }

  #take(message: Wire): void {
    this.#told += 1;
    const { id, method, params } = message;
    if (method === undefined) return this.#answered(message);
    if (id !== undefined) {
      this.#questions.push(message);
      return;
    }
    const world = this.#world;
    switch (method) {
      case 'notifications/tools/list_changed':
        this.isStale = true;
        this.#changedAt = this.#told;
        return;
      case 'notifications/cancelled': {
        const at = this.#questions.findIndex((one) => one.id === params?.requestId);
        if (at !== -1) this.#questions.splice(at, 1);
        return;
      }
      case 'notifications/progress': {
        const number = params?.progressToken?.slice(1) ?? '';
        const sent = this.sent.get(number) ?? this.sent.get(keyOf(number));
        if (sent === undefined) world.wrong(`progress of ${number}, which is no call`);
        else if (sent.answers.length > 0)
          world.wrong(`progress of call ${number} after its answer`);
        else sent.progress.push(params?.progress ?? 0);
        return;
      }
      case 'notifications/subscriptions/acknowledged': {
        const key = keyOf(params?._meta?.[subscriptionKey] as string | number);
        const listen = this.listens.get(key);
        if (listen !== undefined) listen.acknowledged += 1;
        else if (!this.#ended.has(key)) world.wrong(`listen ${key} was never opened`);
        return;
      }
      case 'notifications/resources/updated': {
        if (world.era === 'legacy') return;
        const key = keyOf(params?._meta?.[subscriptionKey] as string | number);
        if (!this.listens.has(key) && !this.#ended.has(key)) {
          world.wrong(`an update for listen ${key}, which was never opened`);
        }
        return;
      }
      default:
    }
  }

  #answered(message: Wire): void {
    const world = this.#world;
    const key = keyOf(message.id);
    const sent = this.sent.get(key);
    if (sent === undefined) return world.wrong(`an answer to ${key}, which was not asked`);
    sent.answers.push(message);
    if (sent.answers.length > 1) world.wrong(`${sent.method} ${key} is answered twice`);
    const about = message.result?.for ?? message.error?.data?.for;
    if (about !== undefined && about !== key) world.wrong(`${key} gets the answer to ${about}`);
    const { result, error } = message;
    if (error !== undefined) return this.#failed(key, sent, error.code);
    const received = world.servers.filter((server) => server.received.has(key));
    const isWhole = sent.progress.every((progress, at) => progress === at + 1);
    if (received.length === 1 && (!isWhole || sent.progress.length !== (result?.steps ?? 0))) {
      world.wrong(`call ${key} has progress ${sent.progress.join(' ')} of ${result?.steps}`);
    }
    if (result?.requestState !== undefined) this.#rounds.push(result.requestState);
    if (result?.task !== undefined) this.#tasks.push(result.task.taskId);
    if (result?.status === 'working') this.#tasks.push(sent.params.taskId ?? '');
    if (result?.nextCursor !== undefined) this.#pages.push(result.nextCursor);
    if (result?.variant === undefined || sent.params.cursor !== undefined) return;
    this.variant = result.variant;
    this.isStale = this.#changedAt > sent.at;
  }

  /** Only what cannot be helped may fail. */
  #failed(key: string, sent: Sent, code: number): void {
    const world = this.#world;
    const received = world.servers.filter((server) => server.received.has(key));
    const mayFail =
      (code === gateErrors.serverEnded &&
        world.crashes > 0 &&
        (received.length === 0 || received.some((server) => server.hasCrashed))) ||
      (code === gateErrors.cut && world.emergencies > 0) ||
      (code === gateErrors.notStarted && world.crashes + world.lapses > 0) ||
      // Its process has ended, and what it knew with it.
      (code === -32_602 && (sent.params.requestState ?? sent.params.taskId ?? null) !== null);
    if (!mayFail && !sent.isCancelled) {
      world.wrong(`${sent.method} ${key} fails with ${code}, which nothing explains`);
    }
  }
}
