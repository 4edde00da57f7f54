/** Data keys in memory: how many are kept, and that a dropped one is overwritten. */

/** Least recently used first out; copies go in and out, so that a key being used is never the one being zeroed. */
export interface KeyCache {
  get(name: string): Buffer | undefined;
  set(name: string, key: Uint8Array): void;
  readonly size: number;
}

export function createKeyCache(most: number): KeyCache {
  const keys = new Map<string, Buffer>();
  return {
    get(name) {
      const key = keys.get(name);
      if (key === undefined) return undefined;
      keys.delete(name);
      keys.set(name, key);
      return Buffer.from(key);
    },
    set(name, key) {
      keys.get(name)?.fill(0);
      keys.delete(name);
      keys.set(name, Buffer.from(key));
      for (const [oldest, dropped] of keys) {
        if (keys.size <= most) break;
        dropped.fill(0);
        keys.delete(oldest);
      }
    },
    get size() {
      return keys.size;
    },
  };
}
