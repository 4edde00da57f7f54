/** The policy of a crash case: one key, one file that an app reads, waits so short that nothing but order matters. */
import type { ConsumerSpec, Policy } from '../../src/policy/policy.ts';
import { appControl } from '../support/world-consumer/server.ts';
import { gateCommand, gateServer, itemName, type Job, secretName, verifierOf } from './protocol.ts';

export function policyOf(job: Job): Policy {
  const { scenario, directory, principal } = job;
  const isBlind = scenario.crashClass === 'blind';
  const apps = appControl(job.appsUrl);
  const fileOf = (role: 'user' | 'verifier', app: string): ConsumerSpec => ({
    kind: 'file',
    role,
    path: role === 'user' ? 'app.json' : 'verifier.json',
    format: 'json',
    template: null,
    mode: 0o600,
    then: null,
    timeoutMs: 5_000,
    report: { kind: 'http', url: apps.address(app), key: 'local://crash/hmac' },
  });
  const gate: ConsumerSpec = {
    kind: 'gate',
    role: 'user',
    report: null,
    timeoutMs: 30_000,
    server: gateServer,
    command: gateCommand,
    // Nothing passes by time: a drain lasts until the last answer.
    settings: { warmMs: 0, drainMs: 600_000, idleMs: scenario.idle ? 1 : 600_000 },
  };
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
    // So long that `now` finds it.
    graceMs: scenario.overGrace ? 3_600_000 : 1_000,
    quietMs: 0,
    verify: [{ kind: 'provider' }],
    consumers: [
      ...(scenario.verifiers ? [fileOf('verifier', verifierOf(principal))] : []),
      job.consumer === 'gate' ? gate : fileOf('user', principal),
    ],
    adoption: { timeoutMs: 10_000, then: scenario.adoptionThen },
    failure: { attempts: 6, pauseAfter: 3 },
    emergency: { mode: 'continuity', deadlineMs: 60_000 },
    escrow: true,
    notify: [],
  };
}
