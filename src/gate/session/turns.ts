/** One at a time: whatever changes which process serves waits for its turn. */

export interface Turns {
  /** Rejects as the work does; the next turn begins either way. */
  take<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when nobody is at it; null where nobody is now. */
  readonly underWay: () => Promise<unknown> | null;
}

export function createTurns(): Turns {
  let tail: Promise<unknown> | null = null;
  return {
    take(work) {
      const before = tail;
      const mine = before === null ? work() : before.then(work, work);
      const settled = mine.then(
        () => undefined,
        () => undefined,
      );
      tail = settled;
      void settled.then(() => {
        if (tail === settled) tail = null;
      });
      return mine;
    },
    underWay: () => tail,
  };
}
