/** What every part of the front is given, for tests: the real clock, and a log that is kept. */
import { systemClock, systemRandom } from '../../../clock.ts';
import { Secret } from '../../../secret/secret.ts';
import type { Around, Backend } from '../backend.ts';
import { type Front, openFront } from '../front.ts';

export interface TestAround extends Around {
  readonly lines: { readonly message: string; readonly fields: Record<string, unknown> }[];
  /** Resolves once this was logged. */
  logged(message: string): Promise<void>;
}

export function testAround(): TestAround {
  const lines: TestAround['lines'] = [];
  const waiting = new Set<() => void>();
  const write = (fields: Record<string, unknown>, message: string) => {
    lines.push({ fields, message });
    for (const look of waiting) look();
  };
  return {
    clock: systemClock(),
    random: systemRandom(),
    log: { info: write, warn: write },
    lines,
    logged: (message) =>
      new Promise((resolve) => {
        const look = () => {
          if (!lines.some((line) => line.message === message)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}

export const token = 'the-token-of-the-gate';
export const withToken = { authorization: `Bearer ${token}` };

export function frontFor(around: Around, backends: Record<string, Backend>): Promise<Front> {
  return openFront({
    ...around,
    host: '127.0.0.1',
    port: 0,
    token: new Secret(token),
    hosts: [],
    backends: new Map(Object.entries(backends)),
  });
}
