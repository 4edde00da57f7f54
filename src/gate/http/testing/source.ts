/** A source of values for tests: whoever holds it says when they change, and waits for what the gate reports. */
import { Secret } from '../../../secret/secret.ts';
import { defaultSettings, type ServerSettings } from '../../settings.ts';
import type { Generations, InstanceStatus, Notice, Resolved, ValueSource } from '../../source.ts';

export interface TestSource extends ValueSource {
  /** New values, and the word that there are some. */
  change(values: Readonly<Record<string, string>>, options?: { readonly urgent?: boolean }): void;
  /** What was reported last. */
  status(): InstanceStatus | null;
  /** Resolves as soon as what was reported last fits. */
  reported(fits: (status: InstanceStatus) => boolean): Promise<InstanceStatus>;
  /** The next calls of `resolve` throw this; null ends that. */
  fail(error: Error | null): void;
  readonly isClosed: () => boolean;
}

/** Each reference is a secret of its own, named by it; generation 1 first. */
export function createTestSource(
  initial: Readonly<Record<string, string>>,
  settings: Partial<ServerSettings> = {},
): TestSource {
  let values = initial;
  let generation = 1;
  let listener: (notice: Notice) => void = () => {};
  let last: InstanceStatus | null = null;
  let failure: Error | null = null;
  let isClosed = false;
  const waiting = new Set<(status: InstanceStatus) => void>();
  return {
    settings: () => ({ ...defaultSettings, ...settings }),
    async resolve(): Promise<Resolved> {
      if (failure !== null) throw failure;
      return { values: boxed(values), generations: generationsOf(values, generation) };
    },
    listen(given) {
      listener = given;
    },
    report(status) {
      last = status;
      for (const one of waiting) one(status);
    },
    async close() {
      isClosed = true;
    },
    change(given, { urgent = false } = {}) {
      values = given;
      generation += 1;
      listener({ urgent });
    },
    status: () => last,
    reported: (fits) =>
      new Promise((resolve) => {
        const look = (status: InstanceStatus) => {
          if (!fits(status)) return;
          waiting.delete(look);
          resolve(status);
        };
        waiting.add(look);
        if (last !== null) look(last);
      }),
    fail(error) {
      failure = error;
      if (error === null) listener({ urgent: false });
    },
    isClosed: () => isClosed,
  };
}

/** Serving, and nothing older than this. */
export function serves(generation: number): (status: InstanceStatus) => boolean {
  return ({ state, generations }) =>
    state === 'serving' && Object.values(generations).every((one) => one === generation);
}

function boxed(values: Readonly<Record<string, string>>): Map<string, Secret> {
  return new Map(Object.entries(values).map(([reference, text]) => [reference, new Secret(text)]));
}

function generationsOf(values: Readonly<Record<string, string>>, generation: number): Generations {
  return Object.fromEntries(Object.keys(values).map((reference) => [reference, generation]));
}
