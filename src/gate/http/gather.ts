/** Frames of many requests on their way to one server: those that come in the same turn leave in one write. */

export interface Gather {
  add(frames: readonly Buffer[]): void;
}

export function createGather(send: (frames: readonly Buffer[]) => void): Gather {
  let waiting: Buffer[] = [];
  return {
    add(frames) {
      if (waiting.length === 0) {
        setImmediate(() => {
          const all = waiting;
          waiting = [];
          send(all);
        });
      }
      waiting.push(...frames);
    },
  };
}
