/** A simulated MCP server of either era, as a link: answers late and in any order, asks, pages, goes in rounds, crashes. */
import { frameOf } from '../../message.ts';
import type { Link, LinkEnd, LinkEvents } from '../../link.ts';
import {
  keyOf,
  linesOf,
  type Params,
  subscriptionKey,
  versionKey,
  type Wire,
  type World,
} from './world.ts';

interface Pending {
  readonly message: Wire;
  /** Progress still to be said. */
  left: number;
  said: number;
  isAsking: boolean;
}

const steps = 3;

export class FakeServer {
  readonly link: Link;
  readonly number: number;
  readonly generation: number;
  isAlive = true;
  hasCrashed = false;
  isStopping = false;
  isInitialized = false;
  /** A call that any process could have taken has come. */
  tookCalls = false;
  /** Every request of the client that reached it. */
  readonly received = new Set<string>();
  readonly pending = new Map<string, Pending>();
  /** Its own questions, each with the call that it is about; null for the roots. */
  readonly asked = new Map<string, string | null>();
  readonly subscriptions = new Set<string>();
  readonly listens = new Map<string, readonly string[]>();
  readonly handedOut = new Set<string>();
  level: string | null = null;
  readonly #world: World;
  readonly #events: LinkEvents;
  readonly #ended = Promise.withResolvers<LinkEnd>();
  readonly #outbox: (() => void)[] = [];
  readonly #tasks = new Map<string, 'working' | 'completed'>();
  #isPaused = false;
  #inputEnded = false;
  #lastAsked = 0;
  #lastHanded = 0;

  constructor(world: World, generation: number, events: LinkEvents) {
    this.#world = world;
    this.#events = events;
    this.generation = generation;
    this.number = world.servers.length;
    this.link = {
      send: (frames) => this.#take(frames),
      pause: () => {
        this.#isPaused = true;
      },
      resume: () => {
        this.#isPaused = false;
      },
      endInput: () => {
        this.#inputEnded = true;
      },
      stop: (how) => {
        this.#inputEnded = true;
        this.isStopping = true;
        if (how === 'now') this.end({ why: 'closed', signal: 'SIGKILL' });
        return this.#ended.promise;
      },
      ended: this.#ended.promise,
    };
  }

  end(how: Partial<LinkEnd>): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    this.#world.note(`server ${this.number} ends: ${how.signal ?? how.why}`);
    this.#ended.resolve({ why: 'closed', exitCode: null, signal: null, message: null, ...how });
  }

  crash(): void {
    this.hasCrashed = true;
    this.#world.crashes += 1;
    this.end({ why: 'exited', exitCode: 1 });
  }

  /** Which tools it has: not the same in each generation. */
  get variant(): string {
    return this.generation % 3 === 0 ? 'other' : 'usual';
  }

  /** False where it has nothing to do. */
  step(): boolean {
    if (!this.isAlive || this.#isPaused) return false;
    const world = this.#world;
    if (this.#outbox.length > 0 && world.chance(0.7)) {
      this.#outbox.shift()?.();
      return true;
    }
    const ready = [...this.pending].filter(([, call]) => !call.isAsking);
    if (ready.length > 0) {
      this.#goOn(...world.pick(ready));
      return true;
    }
    if (this.#outbox.length > 0) {
      this.#outbox.shift()?.();
      return true;
    }
    // Its end: by itself when all is answered, by a signal where it was told to stop.
    const isDone = this.pending.size === 0;
    if (this.#inputEnded && (isDone || (this.isStopping && world.chance(0.3)))) {
      this.end({ why: 'closed', ...(isDone ? { exitCode: 0 } : { signal: 'SIGTERM' }) });
      return true;
    }
    return this.#inputEnded && this.isStopping;
  }

  /** Nobody else has to say anything before it can. */
  mayAnswer(key: string): boolean {
    const { isAsking, message } = this.pending.get(key) ?? {};
    return isAsking === false && message?.params?.arguments?.kind !== 'ask';
  }

  get hasTasks(): boolean {
    return [...this.#tasks.values()].includes('working');
  }

  /** Of its own accord: an update for whoever listens, a task that is done. */
  mutter(): void {
    for (const [id, uris] of this.listens) {
      for (const uri of uris) {
        const _meta = { [subscriptionKey]: JSON.parse(id) as unknown };
        this.#later({ method: 'notifications/resources/updated', params: { uri, _meta } });
      }
    }
    for (const [taskId, status] of this.#tasks) {
      if (status === 'completed' || !this.#world.chance(0.5)) continue;
      this.#tasks.set(taskId, 'completed');
      this.#later({
        method: 'notifications/tasks/status',
        params: { taskId, status: 'completed' },
      });
    }
  }

  #take(frames: Buffer): boolean {
    if (this.#inputEnded || !this.isAlive) return false;
    for (const message of linesOf(frames)) this.#handle(message);
    if (this.#world.mix.pressure !== true || !this.#world.chance(0.2)) return true;
    this.#outbox.push(() => this.#events.onDrain());
    return false;
  }

  #say(message: Wire): void {
    if (this.isAlive) this.#events.onFrames([frameOf(message)]);
  }

  #later(message: Wire): void {
    this.#outbox.push(() => this.#say(message));
  }

  #goOn(key: string, call: Pending): void {
    const { message } = call;
    const { kind } = message.params?.arguments ?? {};
    if (call.left > 0) {
      call.left -= 1;
      call.said += 1;
      const progressToken = message.params?._meta?.['progressToken'] as string;
      this.#say({
        method: 'notifications/progress',
        params: { progressToken, progress: call.said },
      });
      return;
    }
    if (kind === 'ask' && !this.#inputEnded && call.said === 0) {
      call.isAsking = true;
      // Two servers of one session use the same ids.
      const id = this.#lastAsked++;
      this.asked.set(keyOf(id), key);
      this.#say({ id, method: 'elicitation/create', params: { tag: `${this.number} ${key}` } });
      return;
    }
    this.pending.delete(key);
    this.#say({ ...idOf(message), result: this.#resultOf(message, call) });
  }

  #resultOf({ id, params }: Wire, call: Pending): NonNullable<Wire['result']> {
    const result = { for: keyOf(id), by: this.number };
    switch (params?.arguments?.kind) {
      case 'progress':
        return { ...result, steps: call.said };
      case 'round': {
        if (params.requestState !== undefined) return result;
        return { ...result, requestState: this.#handOut('round') };
      }
      case 'task': {
        const taskId = this.#handOut('task');
        this.#tasks.set(taskId, 'working');
        return { ...result, task: { taskId, status: 'working' } };
      }
      default:
        return result;
    }
  }

  #handOut(what: string): string {
    const handle = `${what} ${this.#lastHanded++} of ${this.number}`;
    this.handedOut.add(handle);
    return handle;
  }

  #handle(message: Wire): void {
    const { id, method, params } = message;
    if (method === undefined) return this.#answered(message);
    if (id === undefined) return this.#notified(method, params);
    this.received.add(keyOf(id));
    this.#check(keyOf(id), method, params);
    const result = { for: keyOf(id), by: this.number };
    switch (method) {
      case 'tools/call':
        return this.#call(message);
      case 'subscriptions/listen': {
        const { notifications } = params ?? {};
        this.listens.set(keyOf(id), notifications?.resourceSubscriptions ?? []);
        const _meta = { [subscriptionKey]: id };
        return this.#later({
          method: 'notifications/subscriptions/acknowledged',
          params: { _meta, ...(notifications === undefined ? {} : { notifications }) },
        });
      }
      case 'initialize':
      case 'server/discover':
        return this.#later({ id, result: { ...result, ...this.#self() } });
      case 'tools/list': {
        const { variant } = this;
        const more = params?.paged === true ? { nextCursor: this.#handOut('page') } : {};
        const tools = [{ name: 'x', description: variant }];
        return this.#later({ id, result: { ...result, ...more, variant, tools } });
      }
      case 'tasks/get': {
        const status = this.#tasks.get(params?.taskId ?? '');
        if (status === undefined) return this.#refuse(id, 'no such task');
        if (this.#world.chance(0.5)) this.#tasks.set(params?.taskId ?? '', 'completed');
        return this.#later({ id, result: { ...result, taskId: params?.taskId ?? '', status } });
      }
      case 'resources/subscribe':
        this.subscriptions.add(params?.uri ?? '');
        return this.#later({ id, result });
      case 'resources/unsubscribe':
        this.subscriptions.delete(params?.uri ?? '');
        return this.#later({ id, result });
      case 'logging/setLevel':
        this.level = params?.level ?? null;
        return this.#later({ id, result });
      default:
        return this.#refuse(id, 'no such method');
    }
  }

  #self(): object {
    const capabilities = {
      tools: { listChanged: true },
      logging: {},
      resources: { subscribe: true },
    };
    const serverInfo = { name: 'fake', version: '1' };
    return this.#world.era === 'legacy'
      ? { protocolVersion: '2025-11-25', capabilities, serverInfo }
      : { supportedVersions: ['2026-07-28'], capabilities, serverInfo };
  }

  #refuse(id: number | string, message: string): void {
    this.#later({ id, error: { code: -32_602, message, data: { for: keyOf(id) } } });
  }

  #call(message: Wire): void {
    const { id, params } = message;
    if (params?.name === 'canary') {
      const isError = this.#world.badGenerations.has(this.generation);
      this.#later({ ...idOf(message), result: { for: keyOf(id), isError } });
      return;
    }
    if (params?.requestState === undefined) this.#mustServe();
    if (params?.requestState !== undefined && !this.handedOut.has(params.requestState)) {
      return this.#refuse(id as string, 'a state of another process');
    }
    const left = params?.arguments?.kind === 'progress' ? steps : 0;
    this.pending.set(keyOf(id), { message, left, said: 0, isAsking: false });
  }

  /** New calls go to one process alone. */
  #mustServe(): void {
    this.tookCalls = true;
    const later = this.#world.alive.find(
      (one) => one.number > this.number && one.tookCalls && !one.isStopping,
    );
    if (later === undefined) return;
    this.#world.wrong(`server ${this.number} gets a new call after server ${later.number} served`);
  }

  /** What a server may expect of any client. */
  #check(key: string, method: string, params: Params | undefined): void {
    const world = this.#world;
    if (world.era === 'modern' && params?._meta?.[versionKey] === undefined) {
      world.wrong(`server ${this.number} gets ${method} without the version`);
    }
    const isEarly = world.era === 'legacy' && method !== 'initialize' && !this.isInitialized;
    // The gate asks what a server offers as soon as that one has answered the handshake, as it may.
    if (isEarly && !key.startsWith('"rotated:') && world.mix.half !== true) {
      world.wrong(`server ${this.number} gets ${method} before initialized`);
    }
    const handle = params?.requestState ?? params?.taskId ?? params?.cursor;
    if (handle === undefined || this.handedOut.has(handle)) return;
    const owner = world.alive.find((one) => one.handedOut.has(handle));
    if (owner === undefined || owner.isStopping || owner.#inputEnded) return;
    world.wrong(`server ${this.number} gets ${handle}, whose owner still runs`);
  }

  #notified(method: string, params: Params | undefined): void {
    if (method === 'notifications/initialized') {
      if (this.isInitialized) this.#world.wrong(`server ${this.number} is initialized twice`);
      this.isInitialized = true;
      if (!this.#world.chance(0.3)) return;
      const id = this.#lastAsked++;
      this.asked.set(keyOf(id), null);
      this.#later({ id, method: 'roots/list' });
    }
    if (method !== 'notifications/cancelled') return;
    const key = keyOf(params?.requestId);
    this.listens.delete(key);
    this.pending.delete(key);
  }

  #answered({ id, result }: Wire): void {
    const key = keyOf(id);
    const about = this.asked.get(key);
    if (about === undefined) {
      this.#world.wrong(`server ${this.number} gets an answer to ${key}, which it did not ask`);
      return;
    }
    this.asked.delete(key);
    if (about === null) return;
    if (result?.tag !== `${this.number} ${about}`) {
      this.#world.wrong(`server ${this.number} gets the answer to the question of ${result?.tag}`);
    }
    const call = this.pending.get(about);
    if (call === undefined) return;
    call.isAsking = false;
    call.said += 1;
  }
}

function idOf({ id }: Wire): Pick<Wire, 'id'> {
  return id === undefined ? {} : { id };
}
