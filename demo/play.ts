/** The demo itself: puts issuer, server, daemon and agents on the stage, follows every rotation, and ends them all in order. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { RotationView } from '../src/rotation/service.ts';
import { type Actor, start } from './cast.ts';
import { activeRotation, type Daemon, setUp, startDaemon } from './daemon.ts';
import { readLogin } from './login-file.ts';
import type { Login } from './login-pool.ts';
import type { AgentsMessage, IssuerReady, ServerMessage } from './messages.ts';
import { type Attempt, tryLogin } from './old-login.ts';
import { everySeconds, secret, setStage, type Stage } from './stage.ts';

/** What happens, as it happens. */
export type Scene =
  | { readonly kind: 'stage'; readonly folder: string }
  | { readonly kind: 'issuer'; readonly port: number }
  | { readonly kind: 'server'; readonly url: string }
  | { readonly kind: 'daemon'; readonly policy: string; readonly state: string }
  | { readonly kind: 'first-login'; readonly user: string }
  | { readonly kind: 'agents'; readonly url: string }
  | {
      readonly kind: 'begins';
      readonly rotation: number;
      readonly old: Login;
      readonly counts: Counts;
    }
  | { readonly kind: 'phase'; readonly phase: string; readonly at: number; readonly old: Login }
  | {
      readonly kind: 'switched';
      readonly at: number;
      readonly login: Login;
      readonly inFlight: number;
    }
  | { readonly kind: 'drained'; readonly at: number; readonly generation: number }
  | { readonly kind: 'tried-old'; readonly old: Login; readonly attempt: Attempt }
  | { readonly kind: 'ended'; readonly turn: Turn; readonly counts: Counts }
  | { readonly kind: 'trouble'; readonly message: string }
  | { readonly kind: 'counts'; readonly counts: Counts }
  | { readonly kind: 'stopping' }
  | { readonly kind: 'stopped' };

export interface Counts {
  readonly calls: number;
  readonly failed: number;
  readonly inFlight: number;
  readonly firstFailure: string | null;
}

/** One rotation, as it was seen from outside the daemon. */
export interface Turn {
  readonly rotation: number;
  readonly generation: number;
  readonly inFlightAtReload: number;
  /** The old login had worked before, and was refused after. */
  readonly oldRefused: boolean;
  readonly overlapMs: number | null;
  readonly adopted: boolean;
}

export interface Played {
  readonly turns: readonly Turn[];
  readonly counts: Counts;
  readonly auditIntact: boolean;
  readonly auditLines: number;
}

export interface PlayOptions {
  /** Infinity: until the signal. */
  readonly rotations: number;
  readonly signal: AbortSignal;
  onScene(scene: Scene): void;
}

const pollMs = 100;
/** Two schedules missed and then some: something hangs. */
const rotationWithinMs = (2 * everySeconds + 30) * 1_000;
const tellCountsEveryMs = 5_000;

export async function play(options: PlayOptions): Promise<Played> {
  const { signal, onScene } = options;
  await using scene = new AsyncDisposableStack();
  // Ends from the last to the first: agents, daemon, server, issuer, folder.
  scene.defer(() => onScene({ kind: 'stopped' }));
  const stage = await setStage();
  scene.defer(() => stage.remove());
  onScene({ kind: 'stage', folder: stage.folder });

  const issuer = start<IssuerReady>({
    name: 'the issuer',
    file: 'issuer.ts',
    args: [stage.database],
  });
  scene.defer(() => issuer.stop());
  const postgres = await ready(issuer.first('ready'), signal);
  onScene({ kind: 'issuer', port: postgres.port });

  const reportKey = randomBytes(32).toString('base64url');
  const server = start<ServerMessage>({
    name: 'the MCP server',
    file: 'report-server.ts',
    args: [String(postgres.port), stage.loginFile, stage.pidFile],
    environment: { REPORT_KEY: reportKey },
  });
  scene.defer(() => server.stop());
  const { port } = await ready(server.first('ready'), signal);
  const url = `http://127.0.0.1:${port}/mcp`;
  onScene({ kind: 'server', url });

  const policy = await stage.writePolicy(postgres.port, `http://127.0.0.1:${port}/generation`);
  const daemon = await startDaemon(stage, signal);
  scene.defer(() => daemon.stop());
  onScene({ kind: 'daemon', policy, state: stage.state });

  const watch = new Watch(stage, postgres.port, server, onScene);
  await setUp(daemon.service, postgres, reportKey, signal);
  onScene({ kind: 'first-login', user: (await watch.login()).user });

  const agents = start<AgentsMessage>({ name: 'the agents', file: 'agents.ts', args: [url] });
  scene.defer(() => agents.stop());
  agents.on((message) => {
    watch.counts = message;
  });
  await ready(agents.first('calls'), signal);
  onScene({ kind: 'agents', url });

  const unexpected = Promise.race(
    [issuer, server, daemon.actor, agents].map(async (actor) => {
      throw new Error(await actor.ended);
    }),
  );
  unexpected.catch(() => undefined);
  try {
    await Promise.race([watch.rotations(daemon, options), unexpected]);
  } catch (error) {
    if (!signal.aborted) {
      onScene({ kind: 'trouble', message: `The daemon's last log lines:\n${daemon.log()}` });
      throw error;
    }
  }
  watch.over = true;
  onScene({ kind: 'stopping' });
  // First the agents, so that every call still gets its answer and is counted.
  await agents.stop();
  const audit = await daemon.service.auditVerify();
  return {
    turns: watch.turns,
    counts: watch.counts,
    auditIntact: audit.ok,
    auditLines: audit.lines,
  };
}

/** Follows the rotations from outside: what the daemon says, what the server did, what the issuer answers. */
class Watch {
  readonly turns: Turn[] = [];
  /** From here on what the server does is part of its end. */
  over = false;
  counts: Counts = { calls: 0, failed: 0, inFlight: 0, firstFailure: null };
  readonly #stage: Stage;
  readonly #databasePort: number;
  readonly #onScene: (scene: Scene) => void;
  readonly #switches = new Map<number, number>();

  constructor(
    stage: Stage,
    databasePort: number,
    server: Actor<ServerMessage>,
    onScene: (scene: Scene) => void,
  ) {
    this.#stage = stage;
    this.#databasePort = databasePort;
    this.#onScene = onScene;
    server.on((message) => void this.#heard(message));
  }

  /** The login as the server finds it. */
  async login(): Promise<Login> {
    return readLogin(await readFile(this.#stage.loginFile, 'utf8'));
  }

  async rotations(daemon: Daemon, { rotations, signal }: PlayOptions): Promise<void> {
    let old = await this.login();
    for (let turn = 1; turn <= rotations; turn += 1) {
      // Without this, a refusal afterwards would prove nothing.
      const workedBefore = (await tryLogin(this.#databasePort, old)).accepted;
      const id = await this.#begin(daemon, signal);
      this.#onScene({ kind: 'begins', rotation: turn, old, counts: this.counts });
      const view = await this.#follow(daemon, id, old, signal);
      if (view.phase !== 'retired') throw new Error(`A rotation ended as ${view.phase}.`);
      const attempt = await tryLogin(this.#databasePort, old);
      this.#onScene({ kind: 'tried-old', old, attempt });
      const login = await this.login();
      const ended: Turn = {
        rotation: turn,
        generation: login.generation,
        inFlightAtReload: this.#switches.get(login.generation) ?? 0,
        oldRefused: workedBefore && !attempt.accepted,
        overlapMs: view.overlapMs,
        adopted: view.unconfirmedConsumers.length === 0 && this.#switches.has(login.generation),
      };
      this.turns.push(ended);
      this.#onScene({ kind: 'ended', turn: ended, counts: this.counts });
      old = login;
    }
  }

  /** Waits for the schedule to fire. */
  async #begin(daemon: Daemon, signal: AbortSignal): Promise<string> {
    const began = performance.now();
    let told = began;
    for (;;) {
      const active = await activeRotation(daemon.service);
      if (active !== null) return active.id;
      const now = performance.now();
      if (now - began > rotationWithinMs) throw new Error('The schedule did not fire.');
      if (now - told > tellCountsEveryMs) {
        told = now;
        this.#onScene({ kind: 'counts', counts: this.counts });
      }
      await delay(pollMs, undefined, { signal });
    }
  }

  /** Tells each phase once, in order, until the old login has been proven dead or the rotation has ended otherwise. */
  async #follow(
    daemon: Daemon,
    id: string,
    old: Login,
    signal: AbortSignal,
  ): Promise<RotationView> {
    const began = performance.now();
    let told = 0;
    for (;;) {
      const view = await daemon.service.rotation(id);
      if (view === null) throw new Error(`The daemon no longer knows rotation ${id}.`);
      for (const { phase, at } of view.phases.slice(told)) {
        this.#onScene({ kind: 'phase', phase, at, old });
      }
      told = view.phases.length;
      if (view.parked !== null) throw new Error(`${view.parked.message} ${view.parked.next}`);
      const over = view.endedAt !== null;
      if (over && (view.phase !== 'retired' || view.deadAt[secret] !== undefined)) return view;
      if (performance.now() - began > rotationWithinMs) {
        throw new Error(
          `A rotation hangs at ${view.phase}: ${view.waitsFor ?? 'nobody says why'}.`,
        );
      }
      await delay(pollMs, undefined, { signal });
    }
  }

  async #heard(message: ServerMessage): Promise<void> {
    switch (message.kind) {
      case 'switched': {
        const { generation, inFlight, at } = message;
        this.#switches.set(generation, inFlight);
        this.#onScene({ kind: 'switched', at, inFlight, login: await this.login() });
        return;
      }
      case 'drained':
        if (this.over) return;
        this.#onScene({ kind: 'drained', at: message.at, generation: message.generation });
        return;
      case 'trouble':
        this.#onScene({ kind: 'trouble', message: `The MCP server: ${message.message}` });
        return;
      case 'ready':
        return;
      default:
        message satisfies never;
    }
  }
}

async function ready<T>(first: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([first, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
