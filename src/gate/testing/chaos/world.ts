/** What the ends of a simulated session share: the seeded choice, the servers there were, and what went wrong. */
import type { Random } from '../../../clock.ts';
import type { FakeServer } from './server.ts';

export type Era = 'legacy' | 'modern';

/** A message as either end writes it: the members that the simulated ends look at. */
export interface Wire {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: Params;
  readonly result?: Result;
  readonly error?: { readonly code: number; readonly message: string; readonly data?: Result };
}

export interface Params {
  readonly name?: string;
  readonly arguments?: { readonly kind?: CallKind };
  readonly uri?: string;
  readonly level?: string;
  readonly cursor?: string;
  readonly paged?: boolean;
  readonly requestId?: number | string;
  readonly requestState?: string;
  readonly taskId?: string;
  readonly status?: string;
  readonly tag?: string;
  readonly progressToken?: string;
  readonly progress?: number;
  readonly notifications?: { readonly resourceSubscriptions?: readonly string[] };
  readonly _meta?: Readonly<Record<string, unknown>>;
}

export interface Result {
  /** The request that this answers, as the server understood it. */
  readonly for?: string;
  readonly by?: number;
  readonly tag?: string;
  readonly steps?: number;
  readonly variant?: string;
  readonly tools?: readonly object[];
  readonly isError?: boolean;
  readonly nextCursor?: string;
  readonly requestState?: string;
  readonly task?: { readonly taskId: string; readonly status: string };
  readonly taskId?: string;
  readonly status?: string;
  readonly roots?: readonly unknown[];
}

export type CallKind = 'plain' | 'again' | 'ask' | 'progress' | 'round' | 'task';

export const subscriptionKey = 'io.modelcontextprotocol/subscriptionId';
export const versionKey = 'io.modelcontextprotocol/protocolVersion';

export interface Mix {
  readonly era: Era;
  readonly swap?: 'swap' | 'drain-window';
  /** Chance of each step that a server crashes. */
  readonly crash?: number;
  /** Chance that a rotation is an emergency. */
  readonly urgent?: number;
  /** Chance that a generation is one that its issuer does not accept: the canary finds out. */
  readonly bad?: number;
  /** Servers and client that do not always keep up. */
  readonly pressure?: boolean;
  readonly idleMs?: number;
  readonly retry?: boolean;
  /** The client says `initialized` late, or after the gate has stopped waiting for it. */
  readonly half?: boolean;
  readonly steps?: number;
}

export class World {
  readonly era: Era;
  readonly mix: Mix;
  readonly servers: FakeServer[] = [];
  readonly wrongs: string[] = [];
  readonly trace: string[] = [];
  readonly badGenerations = new Set<number>();
  generation = 1;
  crashes = 0;
  emergencies = 0;
  /** Deadlines that passed before those had answered who could have. */
  lapses = 0;
  readonly #random: Random;

  constructor(mix: Mix, random: Random) {
    this.mix = mix;
    this.era = mix.era;
    this.#random = random;
  }

  chance(probability: number): boolean {
    return this.#random.fraction() < probability;
  }

  below(count: number): number {
    return Math.floor(this.#random.fraction() * count);
  }

  pick<T>(all: readonly T[]): T {
    return all[this.below(all.length)] as T;
  }

  wrong(what: string): void {
    this.wrongs.push(what);
  }

  note(what: string): void {
    this.trace.push(what);
  }

  get alive(): readonly FakeServer[] {
    return this.servers.filter((server) => server.isAlive);
  }
}

export function keyOf(id: number | string | undefined): string {
  return JSON.stringify(id);
}

export function linesOf(bytes: Buffer): readonly Wire[] {
  return bytes
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Wire);
}
