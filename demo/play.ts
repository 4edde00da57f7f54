/** The demo itself: puts issuer, daemon and agents on the stage, follows every rotation, and ends them all in order. */
import { setTimeout as delay } from 'node:timers/promises';
import type { RotationView, Service } from '../src/rotation/service.ts';
import { type Actor, start } from './cast.ts';
import { activeRotation, currentLogin, setUp, startDaemon } from './daemon.ts';
import { agentCount, type AgentsMessage, type IssuerReady } from './messages.ts';
import { type Attempt, type Login, tryLogin } from './old-login.ts';
import { everySeconds, secret, setStage } from './stage.ts';

/** What happens, as it happens. */
export type Scene =
  | { readonly kind: 'stage'; readonly folder: string }
  | { readonly kind: 'issuer'; readonly port: number }
  | { readonly kind: 'daemon'; readonly policy: string; readonly state: string }
  | { readonly kind: 'first-login'; readonly login: Login }
  | { readonly kind: 'agents' }
  | {
      readonly kind: 'begins';
      readonly rotation: number;
      readonly old: Login;
      readonly counts: Counts;
    }
  | { readonly kind: 'phase'; readonly phase: string; readonly at: number; readonly old: Login }
  | (Extract<AgentsMessage, { kind: 'flipped' }> & { readonly old: Login })
  | Extract<AgentsMessage, { kind: 'drained' }>
  | { readonly kind: 'tried-old'; readonly old: Login; readonly attempt: Attempt }
  | { readonly kind: 'ended'; readonly turn: Turn; readonly counts: Counts }
  | { readonly kind: 'trouble'; readonly message: string }
  | { readonly kind: 'counts'; readonly counts: Counts }
  | { readonly kind: 'stopping' }
  | { readonly kind: 'stopped' };

export type Counts = Omit<Extract<AgentsMessage, { kind: 'calls' }>, 'kind'>;

/** One rotation, as it was seen from outside the daemon. */
export interface Turn {
  readonly rotation: number;
  readonly generation: number;
  /** Calls that began before their agent's server was replaced, and that the old one answered after that. */
  readonly inFlightAtReload: number;
  /** The old login had worked before, and was refused after. */
  readonly oldRefused: boolean;
  readonly overlapMs: number | null;
  /** Every agent is answered by a new server, and every gate has said that the old ones are gone. */
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
  // Ends from the last to the first: agents with their servers, daemon, issuer, folder.
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

  const policy = await stage.writePolicy(postgres.port);
  const daemon = await startDaemon(stage, signal);
  scene.defer(() => daemon.stop());
  onScene({ kind: 'daemon', policy, state: stage.state });
  await setUp(daemon.service, postgres, signal);
  onScene({ kind: 'first-login', login: await currentLogin(daemon.service) });

  const agents = start<AgentsMessage>({
    name: 'the agents',
    file: 'agents.ts',
    args: [JSON.stringify(stage.entry(postgres.port))],
  });
  scene.defer(() => agents.stop());
  const watch = new Watch(daemon.service, postgres.port, agents, onScene);
  await ready(agents.first('calls'), signal);
  onScene({ kind: 'agents' });

  const unexpected = Promise.race(
    [issuer, daemon.actor, agents].map(async (actor) => {
      throw new Error(await actor.ended);
    }),
  );
  unexpected.catch(() => undefined);
  try {
    await Promise.race([watch.rotations(options), unexpected]);
  } catch (error) {
    if (!signal.aborted) {
      onScene({ kind: 'trouble', message: `The daemon's last log lines:\n${daemon.log()}` });
      throw error;
    }
  }
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

/** Follows the rotations from outside: what the daemon says, what the agents see, what the issuer answers. */
class Watch {
  readonly turns: Turn[] = [];
  counts: Counts = { calls: 0, failed: 0, inFlight: 0, firstFailure: null };
  readonly #service: Service;
  readonly #databasePort: number;
  readonly #onScene: (scene: Scene) => void;
  /** In this rotation: the agents that a new server answers, and what their old ones still did. */
  #seen = { flipped: new Set<number>(), servedByOld: 0 };
  #old: Login | null = null;

  constructor(
    service: Service,
    databasePort: number,
    agents: Actor<AgentsMessage>,
    onScene: (scene: Scene) => void,
  ) {
    this.#service = service;
    this.#databasePort = databasePort;
    this.#onScene = onScene;
    agents.on((message) => this.#heard(message));
  }

  async rotations({ rotations, signal }: PlayOptions): Promise<void> {
    // One that began before the agents did is not theirs.
    while ((await activeRotation(this.#service)) !== null) {
      await delay(pollMs, undefined, { signal });
    }
    for (let turn = 1; turn <= rotations; turn += 1) {
      const old = await currentLogin(this.#service);
      this.#old = old;
      this.#seen = { flipped: new Set(), servedByOld: 0 };
      // Without this, a refusal afterwards would prove nothing.
      const workedBefore = (await tryLogin(this.#databasePort, old)).accepted;
      const id = await this.#begin(signal);
      this.#onScene({ kind: 'begins', rotation: turn, old, counts: this.counts });
      const view = await this.#follow(id, old, signal);
      if (view.phase !== 'retired') throw new Error(`A rotation ended as ${view.phase}.`);
      const attempt = await tryLogin(this.#databasePort, old);
      this.#onScene({ kind: 'tried-old', old, attempt });
      const { flipped, servedByOld } = this.#seen;
      const ended: Turn = {
        rotation: turn,
        generation: old.generation + 1,
        inFlightAtReload: servedByOld,
        oldRefused: workedBefore && !attempt.accepted,
        overlapMs: view.overlapMs,
        adopted: view.unconfirmedConsumers.length === 0 && flipped.size === agentCount,
      };
      this.turns.push(ended);
      this.#onScene({ kind: 'ended', turn: ended, counts: this.counts });
    }
  }

  /** Waits for the schedule to fire. */
  async #begin(signal: AbortSignal): Promise<string> {
    const began = performance.now();
    let told = began;
    for (;;) {
      const active = await activeRotation(this.#service);
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
  async #follow(id: string, old: Login, signal: AbortSignal): Promise<RotationView> {
    const began = performance.now();
    let told = 0;
    for (;;) {
      const view = await this.#service.rotation(id);
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

  #heard(message: AgentsMessage): void {
    switch (message.kind) {
      case 'calls':
        this.counts = message;
        return;
      case 'flipped':
        this.#seen.flipped.add(message.agent);
        if (this.#old !== null) this.#onScene({ ...message, old: this.#old });
        return;
      case 'drained':
        this.#seen.servedByOld += message.servedByOld;
        this.#onScene(message);
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
