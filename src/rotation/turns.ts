/** Turns: work on one key runs one at a time, in the order it asked. */
export class Turns {
  readonly #tails = new Map<string, Promise<void>>();

  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: tail, resolve: release } = Promise.withResolvers<void>();
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      release();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/** Places to work in: so many in all, so many of them at one issuer. Nobody queues; who finds none asks again. */
export class Lane {
  readonly #total: number;
  readonly #perIssuer: number;
  readonly #taken = new Map<string, number>();
  #all = 0;

  constructor({ total, perIssuer }: { readonly total: number; readonly perIssuer: number }) {
    this.#total = total;
    this.#perIssuer = perIssuer;
  }

  room(): number {
    return this.#total - this.#all;
  }

  isFull(): boolean {
    return this.room() <= 0;
  }

  /** A place, as the function that gives it back; null where there is none. */
  enter(issuer: string): (() => void) | null {
    const taken = this.#taken.get(issuer) ?? 0;
    if (this.isFull() || taken >= this.#perIssuer) return null;
    this.#all += 1;
    this.#taken.set(issuer, taken + 1);
    return () => {
      this.#all -= 1;
      const left = (this.#taken.get(issuer) ?? 1) - 1;
      if (left === 0) this.#taken.delete(issuer);
      else this.#taken.set(issuer, left);
    };
  }
}
