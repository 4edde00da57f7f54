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

/** At most `most` pieces of work at once for each key. */
export class Slots {
  readonly #most: number;
  readonly #taken = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(most: number) {
    this.#most = most;
  }

  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    if ((this.#taken.get(key) ?? 0) >= this.#most) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.set(key, [...(this.#waiting.get(key) ?? []), resolve]);
      await promise;
    } else {
      this.#taken.set(key, (this.#taken.get(key) ?? 0) + 1);
    }
    try {
      return await work();
    } finally {
      const [next, ...rest] = this.#waiting.get(key) ?? [];
      if (rest.length > 0) this.#waiting.set(key, rest);
      else this.#waiting.delete(key);
      // A slot is handed over, not given back and taken again: nobody can slip in between.
      if (next !== undefined) next();
      else this.#release(key);
    }
  }

  #release(key: string): void {
    const taken = (this.#taken.get(key) ?? 1) - 1;
    if (taken === 0) this.#taken.delete(key);
    else this.#taken.set(key, taken);
  }
}
