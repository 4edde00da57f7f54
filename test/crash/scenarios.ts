/** The stories that are interrupted: for each crash class what the issuer and the app do to the rotation, and how it may end. */
import type { CrashClass } from '../../src/provider/provider.ts';
import type { Fault, PrincipalSettings } from '../support/issuer/server.ts';
import { canary, type ConsumerKind, type End, type Scenario } from './protocol.ts';

export interface Story extends Scenario {
  readonly issuer: Partial<PrincipalSettings>;
  /** Behind the gate. `leaves`: an instance ends when the first report is due. `awayReports`: how long it takes after a crash to come back. */
  readonly app: {
    readonly lagReports: number;
    readonly refuses: readonly number[];
    readonly leaves?: boolean;
    readonly awayReports?: number;
  };
  /** Also stopped past the lease at every point. */
  readonly stops: boolean;
}

export const crashClasses: readonly CrashClass[] = ['chosen', 'token', 'listable', 'blind'];

/** What the template's key is made under, and what every story changes. */
export function issuerOf(crashClass: CrashClass): Partial<PrincipalSettings> {
  return {
    crashClass,
    liveMax: 2,
    valuePrefix: canary,
    resolve: crashClass !== 'blind',
    // Refused at first, and not listed at first: what was just made may not be seen yet.
    lag: { uses: 1, lists: 1, ms: 0 },
  };
}

const promptApp = { lagReports: 0, refuses: [] };
const slowApp = { lagReports: 1, refuses: [] };

/** `full`: every story for every class; else each class its own, and the rare ones once. */
export function storiesOf(
  crashClass: CrashClass,
  full: boolean,
  consumer: ConsumerKind,
): readonly Story[] {
  // A mint whose answer nobody saw waits for a person.
  const orParked: readonly End[] = crashClass === 'blind' ? ['parked'] : [];
  const base = {
    crashClass,
    now: null,
    overGrace: false,
    adoptionThen: 'wait',
    verifiers: false,
    first: false,
    idle: false,
    issuer: {},
    app: slowApp,
    stops: false,
  } as const;
  const late: Fault = { operation: 'mint', nth: 1, kind: 'late', calls: 1 };
  const roughRevokes: readonly Fault[] = [
    { operation: 'disable', nth: 1, kind: 'error', status: 503 },
    { operation: 'revoke', nth: 1, kind: 'error', status: 500, committed: false },
    { operation: 'revoke', nth: 2, kind: 'lie', calls: 2 },
    { operation: 'revoke', nth: 3, kind: 'lost' },
  ];
  const common: readonly Story[] = [
    { ...base, name: 'plain', stops: true, ends: ['retired', ...orParked] },
    { ...base, name: 'first', first: true, ends: ['retired', ...orParked] },
    {
      ...base,
      name: 'rough',
      // Late to land, so seen as soon as it has: later would be outside of what the issuer promises.
      issuer: {
        lag: { uses: 1, lists: 0, ms: 0 },
        faults: crashClass === 'blind' ? roughRevokes : [late, ...roughRevokes],
      },
      ends: ['retired', ...orParked],
    },
  ];
  const rare: readonly (Story & { readonly home: CrashClass })[] = [
    {
      ...base,
      name: 'unusable',
      home: 'token',
      issuer: { lag: { uses: 1_000_000, lists: 0, ms: 0 } },
      ends: ['abandoned', ...orParked],
    },
    {
      ...base,
      name: 'never-adopted',
      home: 'listable',
      adoptionThen: 'rollback',
      app: { lagReports: 0, refuses: [2] },
      ends: ['rolled-back', ...orParked],
    },
    {
      ...base,
      name: 'verified',
      home: 'chosen',
      verifiers: true,
      ends: ['retired', ...orParked],
    },
    {
      ...base,
      name: 'continuity',
      home: 'chosen',
      now: 'continuity',
      app: promptApp,
      ends: ['retired', ...orParked],
    },
    {
      ...base,
      name: 'overtaken',
      home: 'token',
      now: 'continuity',
      overGrace: true,
      app: promptApp,
      ends: ['retired', ...orParked],
    },
    {
      ...base,
      name: 'contain',
      home: 'listable',
      now: 'contain',
      app: promptApp,
      ends: ['retired', ...orParked],
    },
  ];
  const behindGate: typeof rare = [
    {
      ...base,
      name: 'idle',
      home: 'chosen',
      idle: true,
      app: promptApp,
      ends: ['retired', ...orParked],
    },
    {
      ...base,
      name: 'away',
      home: 'chosen',
      app: { ...slowApp, awayReports: 1 },
      ends: ['retired', ...orParked],
    },
    {
      ...base,
      name: 'leaves',
      home: 'listable',
      app: { ...slowApp, leaves: true },
      ends: ['retired', ...orParked],
    },
  ];
  const all = consumer === 'gate' ? [...rare, ...behindGate] : rare;
  const stories = [...common, ...all.filter((story) => full || story.home === crashClass)];
  if (full || consumer === 'app') return stories;
  // What is about the mint alone is the same whoever uses the secret.
  const toldElsewhere = crashClass === 'listable' ? ['first'] : ['first', 'rough'];
  return stories
    .filter(({ name }) => !toldElsewhere.includes(name))
    .map((story) => ({ ...story, stops: story.stops && crashClass === 'chosen' }));
}
