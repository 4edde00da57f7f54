/** A client and a source of values for tests: a session over real processes, driven frame by frame. */
import path from 'node:path';
import { systemClock, systemRandom } from '../../clock.ts';
import { Secret } from '../../secret/secret.ts';
import type { Entry, ValueFile } from '../entry.ts';
import { frameOf } from '../message.ts';
import { processLink } from '../process-link.ts';
import { createSession } from '../session/create.ts';
import type { Session } from '../session/session.ts';
import { defaultSettings, type ServerSettings } from '../settings.ts';
import type { InstanceStatus, Notice, Resolved, ValueSource } from '../source.ts';

export interface Said {
  readonly id?: number | string | null;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string };
}

/** Values that a test sets; what the session reports. */
export class TestSource implements ValueSource {
  readonly statuses: InstanceStatus[] = [];
  mode = '';
  current: ServerSettings;
  generation = 1;
  value = 'k1-first-key-value';
  #listener: (notice: Notice) => void = () => {};
  #waiters: (() => void)[] = [];

  constructor(settings: Partial<ServerSettings> = {}) {
    this.current = { ...defaultSettings, warmMs: 0, drainMs: 10_000, startMs: 10_000, ...settings };
  }

  settings(): ServerSettings {
    return this.current;
  }

  async resolve(): Promise<Resolved> {
    return {
      values: new Map([
        ['local://t#key', new Secret(this.value)],
        ['local://t#username', new Secret(this.mode === '' ? 'none' : this.mode)],
      ]),
      generations: { t: this.generation },
    };
  }

  listen(listener: (notice: Notice) => void): void {
    this.#listener = listener;
  }

  report(status: InstanceStatus): void {
    this.statuses.push(status);
    for (const wake of this.#waiters.splice(0)) wake();
  }

  async close(): Promise<void> {}

  /** The next generation, with a key of its own; how the process that gets it misbehaves. */
  rotate(mode = '', urgent = false): number {
    this.generation += 1;
    this.value = `k${this.generation}-another-key-value`;
    this.mode = mode;
    this.#listener({ urgent });
    return this.generation;
  }

  notice(urgent = false): void {
    this.#listener({ urgent });
  }

  async until(isIt: (status: InstanceStatus) => boolean): Promise<InstanceStatus> {
    for (;;) {
      const last = this.statuses.at(-1);
      if (last !== undefined && isIt(last)) return last;
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Until every process serves it. */
  served(generation: number): Promise<InstanceStatus> {
    return this.until((status) => status.generations['t'] === generation);
  }

  failed(): Promise<InstanceStatus> {
    return this.until((status) => status.problem !== null);
  }
}

export class TestClient {
  readonly source: TestSource;
  readonly session: Session;
  readonly said: Said[] = [];
  readonly points: string[] = [];
  stderr = '';
  isHeld = false;
  #id = 0;
  #waiters: (() => void)[] = [];

  constructor(
    source: TestSource,
    env: Record<string, string> = {},
    files: readonly ValueFile[] = [],
  ) {
    this.source = source;
    const server = path.join(import.meta.dirname, 'server.mjs');
    const entry: Entry = {
      name: 'fixture',
      launch: {
        kind: 'process',
        command: process.execPath,
        args: [server],
        cwd: import.meta.dirname,
        env: {
          // A server with a file has its key there alone.
          ...(files.length === 0 ? { KEY: 'local://t#key' } : {}),
          MODE: 'local://t#username',
          ...env,
        },
        files,
      },
    };
    this.session = createSession({
      entry,
      source,
      startLink: processLink(entry.launch as never, { eofMs: 300, termMs: 300 }),
      client: {
        send: (frames) => {
          for (const line of frames.toString('utf8').split('\n')) {
            if (line !== '') this.said.push(JSON.parse(line) as Said);
          }
          this.#wake();
          return true;
        },
        hold: (isHeld) => {
          this.isHeld = isHeld;
        },
        log: (lines) => {
          this.stderr += lines.toString('utf8');
          this.#wake();
        },
      },
      clock: systemClock(),
      random: systemRandom(),
      log: { info: () => {}, warn: () => {} },
      at: (point) => {
        this.points.push(point);
        this.#wake();
      },
    });
  }

  send(message: object): void {
    this.session.fromClient([frameOf(message)]);
  }

  /** The answer to a request with an id of its own. */
  request(method: string, params: object = {}): Promise<Said> {
    this.#id += 1;
    const id = this.#id;
    this.send({ id, method, params });
    return this.answer(id);
  }

  get lastId(): number {
    return this.#id;
  }

  answer(id: number | string): Promise<Said> {
    return this.until((one) => one.id === id && one.method === undefined);
  }

  async tool(name: string, given: object = {}, more: object = {}): Promise<string> {
    const said = await this.request('tools/call', { name, arguments: given, ...more });
    if (said.error !== undefined) return `error ${said.error.code}`;
    const content = said.result?.['content'] as { text: string }[] | undefined;
    return content?.[0]?.text ?? JSON.stringify(said.result);
  }

  async until(isIt: (said: Said) => boolean): Promise<Said> {
    for (;;) {
      const found = this.said.find(isIt);
      if (found !== undefined) return found;
      await this.change();
    }
  }

  async point(name: string, count = 1): Promise<void> {
    while (this.points.filter((one) => one === name).length < count) await this.change();
  }

  change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  async initialize(capabilities: object = { elicitation: {}, roots: {} }): Promise<Said> {
    const said = await this.request('initialize', {
      protocolVersion: '2025-11-25',
      capabilities,
      clientInfo: { name: 'test', version: '1' },
    });
    this.send({ method: 'notifications/initialized' });
    return said;
  }

  async close(): Promise<void> {
    this.session.stop();
    await this.session.ended;
  }

  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}
