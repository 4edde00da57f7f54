/** Composes the real machine over a case's state directory, the test issuer and the test app, and marks every point it passes. */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuditChain } from '../../src/audit/chain.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { createLocalBackend } from '../../src/backend/local.ts';
import { systemRandom } from '../../src/clock.ts';
import type { Consumer } from '../../src/consumer/consumer.ts';
import { createConsumer } from '../../src/consumer/create.ts';
import type { Journal } from '../../src/journal/journal.ts';
import { openSqliteJournal } from '../../src/journal/sqlite.ts';
import type { Policy } from '../../src/policy/policy.ts';
import type { ProviderSession } from '../../src/provider/provider.ts';
import { wrapSession } from '../../src/provider/wrapper.ts';
import { createMachine, type Machine } from '../../src/rotation/machine.ts';
import type { Ports } from '../../src/rotation/ports.ts';
import { createFingerprinter } from '../../src/secret/fingerprint.ts';
import { localKey } from '../../src/secret/key-encryption-key.ts';
import { createRedactor } from '../../src/secret/redactor.ts';
import { createSealer } from '../../src/secret/sealer.ts';
import { Secret } from '../../src/secret/secret.ts';
import { createValues } from '../../src/wiring/values.ts';
import type { IssuerControl } from '../support/issuer/server.ts';
import type { AppControl } from '../support/world-consumer/server.ts';
import { testIssuer } from '../support/issuer/provider.ts';
import type { GateControl } from './gate/control.ts';
import { createDaemonEnd, type DaemonEnd } from './gate/daemon-end.ts';
import { openJumpClock, type JumpClock } from './jump-clock.ts';
import { mutate } from './mutants.ts';
import { policyOf } from './policy.ts';
import { hmacKey, type Job, type LogLine } from './protocol.ts';

export interface Rig extends AsyncDisposable {
  readonly machine: Machine;
  /** Not through any mutation: what the checks look at. */
  readonly journal: Journal;
  readonly backend: Backend;
  readonly ports: Ports;
  readonly policy: Policy;
  readonly clock: JumpClock;
  readonly controls: Controls;
  /** null where no instance stands behind the gate. */
  readonly gate: DaemonEnd | null;
  log(line: LogLine): void;
}

/** Made once for each process: they keep connections. */
export interface Controls {
  readonly issuer: IssuerControl;
  readonly apps: AppControl;
  readonly gates: GateControl | null;
}

const callDeadlineMs = 5_000;

export async function openRig(
  job: Job,
  controls: Controls,
  at: (rig: Rig, point: string) => Promise<void>,
): Promise<Rig> {
  const clock = openJumpClock(join(job.directory, 'clock'));
  const random = systemRandom();
  const kek = localKey(Buffer.from(job.kek, 'hex'), random);
  const auditChain = createAuditChain(await kek.derive('audit'));
  const journal = await openSqliteJournal({
    directory: join(job.directory, 'state'),
    clock,
    chain: auditChain,
    readOnly: job.kind === 'check',
  });
  const log = (line: LogLine) => {
    appendFileSync(join(job.directory, 'log'), `${JSON.stringify(line)}\n`);
  };
  const honest = createSealer({ current: kek, all: [kek] }, random);
  const policy = policyOf(job);
  const redactor = createRedactor();
  const never = new AbortController().signal;
  const mark = (point: string) => at(rig, point);

  const gate =
    controls.gates === null
      ? null
      : createDaemonEnd({ job, gates: controls.gates, journal, backend: () => backend, mark });
  const settled = (consumer: Consumer) => gate?.settled(consumer) ?? consumer;

  const plain: Omit<Ports, 'backend'> = {
    journal: observed(journal, log),
    sealer: honest,
    fingerprints: createFingerprinter(await kek.derive('fingerprint')),
    clock,
    random,
    log: {
      info: () => {},
      warn: (fields, message) =>
        log({ kind: 'note', text: `${message} ${JSON.stringify(fields)}` }),
      error: (fields, message) =>
        log({ kind: 'note', text: `${message} ${JSON.stringify(fields)}` }),
    },
    provider: (one) => {
      const options = testIssuer.options.parse(one.provider.options);
      const traits = testIssuer.traits(options);
      return {
        traits,
        issuer: options.url,
        open: async () => {
          const context = { secret: one.name, clock, random, directory: job.directory };
          const session = await testIssuer.open(options, { ...context, admin: async () => ({}) });
          const wrapped = { secret: one.name, deadlineMs: callDeadlineMs, redactor, clock };
          return marked(wrapSession(session, { ...wrapped, signal: never, traits }), mark);
        },
      };
    },
    verifiers: () => [],
    consumers: (one) =>
      one.consumers.map((spec) =>
        settled(
          createConsumer(spec, {
            directory: job.directory,
            read: values.reader,
            resolveReference: async () => ({ key: new Secret(hmacKey) }),
            clock,
            random,
            redactor,
            ...(gate === null ? {} : { gate: gate.feed }),
          }),
        ),
      ),
    notify: () => {},
    nextDue: () => null,
    nextRuns: () => [],
    scheduleClock: { now: () => clock.now(), setBackMs: () => 0 },
    parallel: { total: 4, perIssuer: 4 },
    auditChain,
    mayBegin: () => true,
    at: mark,
  };

  // A mutated sealer seals the backend's rows as well: made before the backend.
  const mutated = (ports: Ports) => (job.mutant === null ? ports : mutate(ports, job.mutant));
  const digestKey = await kek.derive('local digest');
  const sealer = mutated({ ...plain, backend: noBackend }).sealer;
  const backend = createLocalBackend({ rows: journal.localRows, sealer, digestKey, clock });
  const ports = mutated({ ...plain, backend: () => backend });
  const values = createValues(
    () => backend,
    () => policy,
  );
  const machine = createMachine(ports);
  const rig: Rig = {
    machine,
    journal,
    backend,
    ports,
    policy,
    clock,
    controls,
    gate,
    log,
    [Symbol.asyncDispose]: async () => {
      await gate?.close();
      await journal[Symbol.asyncDispose]();
    },
  };
  return rig;
}

function noBackend(): never {
  throw new Error('The backend is not composed yet.');
}

/** Every commit that succeeded, written down where a kill cannot reach it. */
function observed(journal: Journal, log: (line: LogLine) => void): Journal {
  return {
    ...journal,
    acquire: async (holder, ttlMs) => {
      const lease = await journal.acquire(holder, ttlMs);
      log({ kind: 'lease', pid: process.pid, fence: lease.fence });
      return lease;
    },
    commit: async (change) => {
      await journal.commit(change);
      for (const { row, expectVersion } of change.rotations ?? []) {
        const { pid } = process;
        const version = expectVersion + 1;
        log({ kind: 'commit', pid, fence: change.fence, rotation: row.id, version });
      }
    },
  };
}

/** A call that failed is a point too: its answer was lost, it may still land. */
function marked(session: ProviderSession, mark: (point: string) => Promise<void>): ProviderSession {
  const failing =
    <A extends unknown[], T>(name: string, call: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      try {
        return await call(...args);
      } catch (error) {
        await mark(`failed:${name}`);
        throw error;
      }
    };
  return {
    ...session,
    mint: failing('mint', session.mint.bind(session)),
    revoke: failing('revoke', session.revoke.bind(session)),
    ...(session.disable && { disable: failing('disable', session.disable.bind(session)) }),
  };
}
