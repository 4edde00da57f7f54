/** One server's line to its secrets, shared by all sessions of it behind the gate: they are one instance, as old as its oldest. */
import type { Generations, InstanceStatus, Notice, Resolved, ValueSource } from '../source.ts';
import type { SettingsOverrides } from '../own-settings.ts';
import type { ServerSettings } from '../settings.ts';

export interface SharedSource {
  /** For one session more; its `close` takes it out of the account. */
  share(): ValueSource;
  settings(): ServerSettings;
  close(): Promise<void>;
}

interface Share {
  /** Of what was handed to it since it last said what it holds; null: it has said so since. */
  unsaid: Generations | null;
  status: InstanceStatus | null;
  listener: (notice: Notice) => void;
}

/** `overrides`: what the entry itself says of how its server is swapped; that counts more than the policy. */
export function shareSource(source: ValueSource, overrides: SettingsOverrides): SharedSource {
  const shares = new Set<Share>();
  let newest: Generations = {};
  const settings = () => ({ ...source.settings(), ...overrides });

  source.listen((notice) => {
    for (const share of shares) share.listener(notice);
  });

  function report(): void {
    source.report(summaryOf([...shares].map(accountOf), newest));
  }

  return {
    settings,
    share() {
      const share: Share = { unsaid: null, status: null, listener: () => {} };
      shares.add(share);
      return {
        settings,
        async resolve(signal): Promise<Resolved> {
          const resolved = await source.resolve(signal);
          newest = resolved.generations;
          // Until it says otherwise it holds what it got: a change told meanwhile must wait for it.
          if (share.status === null) {
            share.unsaid =
              share.unsaid === null
                ? resolved.generations
                : oldest([share.unsaid, resolved.generations]);
          }
          return resolved;
        },
        listen(listener) {
          share.listener = listener;
        },
        report(status) {
          share.unsaid = null;
          share.status = status;
          report();
        },
        async close() {
          if (shares.delete(share)) report();
        },
      };
    },
    close: () => source.close(),
  };
}

function accountOf({ unsaid, status }: Share): InstanceStatus {
  if (status !== null) return status;
  return unsaid === null
    ? { state: 'idle', generations: {}, problem: null }
    : { state: 'serving', generations: unsaid, problem: null };
}

/** What several sessions are together. */
export function summaryOf(all: readonly InstanceStatus[], newest: Generations): InstanceStatus {
  const serving = all.filter(({ state }) => state === 'serving');
  const problem = all.find((one) => one.problem !== null)?.problem ?? null;
  return serving.length === 0
    ? { state: 'idle', generations: newest, problem }
    : { state: 'serving', generations: oldest(serving.map((one) => one.generations)), problem };
}

/** By secret, the lowest. */
export function oldest(all: readonly Generations[]): Generations {
  const out: Record<string, number> = {};
  for (const generations of all) {
    for (const [secret, generation] of Object.entries(generations)) {
      out[secret] = Math.min(out[secret] ?? generation, generation);
    }
  }
  return out;
}
