/** A complete policy from the few parts that a test cares about. */
import type { Policy, Schedule } from '../../../src/policy/policy.ts';

export type PolicyParts = Partial<Omit<Policy, 'schedule' | 'provider' | 'backend'>> & {
  readonly name: string;
  readonly schedule?: Partial<Schedule>;
  readonly options?: Record<string, unknown>;
  readonly use?: string;
  readonly item?: string;
  readonly fields?: Record<string, string> | null;
};

export function policyOf(parts: PolicyParts): Policy {
  const { schedule, options, use, item, fields, ...rest } = parts;
  return {
    source: { file: 'test.yaml', line: 1, column: 1 },
    directory: '/nowhere',
    tags: [],
    group: null,
    provider: {
      use: use ?? 'test-issuer',
      admin: null,
      options: { url: 'http://issuer', principal: parts.name, crashClass: 'listable', ...options },
    },
    backend: {
      scheme: 'local',
      item: item ?? `test/${parts.name}`,
      fields: fields === undefined ? { key: 'value' } : fields,
    },
    schedule: {
      trigger: { kind: 'manual' },
      timezone: 'UTC',
      splayMs: 0,
      window: null,
      freeze: [],
      missed: 'once',
      ageMinMs: null,
      ageMaxMs: null,
      ...schedule,
    },
    graceMs: 60_000,
    quietMs: 0,
    verify: [{ kind: 'provider' }],
    consumers: [],
    adoption: { timeoutMs: 60_000, then: 'wait' },
    failure: { attempts: 5, pauseAfter: 3 },
    emergency: { mode: 'continuity', deadlineMs: 300_000 },
    escrow: true,
    notify: [],
    ...rest,
  };
}
