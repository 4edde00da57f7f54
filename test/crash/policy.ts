/** The policy of a crash case: one key, one file that an app reads, waits so short that nothing but order matters. */
import type { Policy } from '../../src/policy/policy.ts';
import { appControl } from '../support/world-consumer/server.ts';
import { itemName, type Job, secretName } from './protocol.ts';

export function policyOf(job: Job): Policy {
  const { scenario, directory, principal } = job;
  const isBlind = scenario.crashClass === 'blind';
  return {
    name: secretName,
    source: { file: 'crash.yaml', line: 1, column: 1 },
    directory,
    tags: [],
    group: null,
    provider: {
      use: 'test-issuer',
      admin: null,
      options: {
        url: job.issuerUrl,
        principal,
        crashClass: scenario.crashClass,
        // Longer than a lease: a takeover alone must not use it up.
        // One beside the present key: a mint that was forgotten leaves no room for another.
        liveMax: 2,
        settleSeconds: 120,
        // An issuer that shows nothing afterwards cannot show this either.
        without: isBlind ? ['resolve'] : [],
      },
    },
    backend: { scheme: 'local', item: itemName, fields: null },
    schedule: {
      trigger: { kind: 'manual' },
      timezone: 'UTC',
      splayMs: 0,
      window: null,
      freeze: [],
      missed: 'once',
      ageMinMs: null,
      ageMaxMs: null,
    },
    graceMs: 1_000,
    quietMs: 0,
    verify: [{ kind: 'provider' }],
    consumers: [
      {
        kind: 'file',
        role: 'user',
        path: 'app.json',
        format: 'json',
        template: null,
        mode: 0o600,
        then: null,
        timeoutMs: 5_000,
        report: {
          kind: 'http',
          url: appControl(job.appsUrl).address(principal),
          key: 'local://crash/hmac',
        },
      },
    ],
    adoption: { timeoutMs: 10_000, then: scenario.adoptionThen },
    failure: { attempts: 6, pauseAfter: 3 },
    emergency: { mode: 'continuity', deadlineMs: 60_000 },
    escrow: true,
    notify: [],
  };
}
