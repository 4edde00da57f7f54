/** A process that runs or finishes rotations, one job after another, and ends itself exactly where it is told to. */
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import { writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { asRotatedError, isRotatedError } from '../../src/errors.ts';
import type { Lease } from '../../src/journal/journal.ts';
import type { RotationData } from '../../src/rotation/model.ts';
import type { Ask } from '../../src/rotation/service.ts';
import { checkAdopted, checkEnd, checkInstant } from './checks.ts';
import { gateControl } from './gate/control.ts';
import { type Job, type Reply, secretName } from './protocol.ts';
import { issuerControl } from '../support/issuer/server.ts';
import { appControl } from '../support/world-consumer/server.ts';
import { type Controls, openRig, type Rig } from './rig.ts';

const leaseMs = 30_000;
/** Rounds without end: more than the longest back-off of any scenario takes. */
const roundsMost = 400;
const jumpFirstMs = 100;
const jumpMostMs = 30_000;
const selector = { tags: [], providers: [], consumers: [], all: false, names: [secretName] };

let controls: Controls | undefined;

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line) as Job;
  // All jobs of one process are about one issuer and one process of apps.
  controls ??= {
    issuer: issuerControl(job.issuerUrl),
    apps: appControl(job.appsUrl),
    gates: job.gatesUrl === null ? null : gateControl(job.gatesUrl),
  };
  const reply = await run(job, controls);
  writeSync(1, `${JSON.stringify(reply)}\n`);
}

async function run(job: Job, controls: Controls): Promise<Reply> {
  const points: string[] = [];
  let checking = false;

  async function at(rig: Rig, point: string): Promise<void> {
    points.push(point);
    const number = points.length;
    // Only effects change what is live; the first point of a process looks at what the one before left.
    const isEffect = !point.startsWith('before:') && !point.includes(':commit:');
    if ((isEffect || number === 1) && !checking) {
      checking = true;
      for (const found of await checkInstant(rig, job)) {
        rig.log({ kind: 'violation', violation: { ...found, point } });
      }
      checking = false;
    }
    if (point === 'after:commit:adopted') {
      for (const found of await checkAdopted(rig, job)) {
        rig.log({ kind: 'violation', violation: { ...found, point } });
      }
    }
    if (job.stopAt?.point !== number) return;
    process.kill(process.pid, job.stopAt.signal);
    // A kill arrives within the call; a stopped process goes on here once it is continued.
    rig.clock.refresh();
  }

  try {
    await using rig = await openRig(job, controls, at);
    try {
      if (job.kind !== 'check') await work(rig, job);
      const last = points.at(-1) ?? 'nothing to do';
      for (const found of await checkEnd(rig, job)) {
        rig.log({ kind: 'violation', violation: { ...found, point: `end (${last})` } });
      }
      return { outcome: 'finished', points, error: null };
    } catch (error) {
      if (isRotatedError(error, 'fence-lost')) return { outcome: 'lost', points, error: null };
      throw error;
    }
  } catch (error) {
    const known = asRotatedError(error, 'unknown');
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    return { outcome: 'failed', points, error: `${known.code}: ${known.message} ${stack}` };
  }
}

async function work(rig: Rig, job: Job): Promise<void> {
  const { machine, journal, clock } = rig;
  const lease = await acquire(rig, job);
  machine.own(lease.fence);
  const ask = { actor: { id: 'crash', channel: 'command', proven: true }, reason: null } as const;
  await machine.usePolicies(new Map([[secretName, rig.policy]]), ask);
  await rig.gate?.open(lease.fence, rig.policy);
  // Recovery of a crash before anything was journalled has nothing to recover: it is asked again.
  if (job.kind === 'start' || !(await hasBegun(rig))) {
    const mode = job.scenario.overGrace ? null : job.scenario.now;
    const [started] = await (mode === null
      ? machine.run(selector, ask)
      : machine.now(selector, mode, ask));
    if (started?.outcome !== 'started') throw new Error(`not started: ${started?.message}`);
  }
  const stop = new AbortController();
  if (job.scenario.overGrace) await overtake(rig, job, ask, stop.signal);
  let jumpMs = jumpFirstMs;
  let seen = '';
  for (let round = 0; round < roundsMost; round++) {
    await machine.tick(stop.signal);
    const rotations = (await journal.unfinished()).filter((one) => !one.parked);
    const debts = (await journal.debts()).filter((one) => !one.parked);
    if (rotations.length + debts.length === 0) {
      await journal.release(lease.fence);
      return;
    }
    const now = JSON.stringify([...rotations, ...debts].map(({ id, version }) => [id, version]));
    jumpMs = now === seen ? Math.min(jumpMostMs, jumpMs * 2) : jumpFirstMs;
    seen = now;
    clock.jump(jumpMs);
    await journal.renew(lease.fence, leaseMs);
    await turn();
  }
  throw new Error('it never came to an end');
}

/** Waits for the grace of the ordinary rotation, then takes its key for leaked. */
async function overtake(
  { machine, journal, clock }: Rig,
  { scenario }: Job,
  ask: Ask,
  signal: AbortSignal,
): Promise<void> {
  for (let round = 0; round < roundsMost; round++) {
    const [newest] = await journal.history(secretName, 1);
    const data = newest?.data as unknown as RotationData | undefined;
    if (data?.kind === 'emergency') return;
    if (newest?.phase === 'adopted' || newest?.active === false) {
      const [started] = await machine.now(selector, scenario.now, ask);
      if (started?.outcome !== 'started') throw new Error(`not started: ${started?.message}`);
      return;
    }
    await machine.tick(signal);
    clock.jump(jumpFirstMs);
  }
  throw new Error('it never came to its grace');
}

async function acquire({ ports, clock }: Rig, job: Job): Promise<Lease> {
  const holder = { pid: process.pid, host: hostname(), what: 'crash test' };
  try {
    return await ports.journal.acquire(holder, leaseMs);
  } catch (error) {
    if (!isRotatedError(error, 'state-busy') || !job.takeOver) throw error;
    clock.jump(leaseMs + 1);
    return ports.journal.acquire(holder, leaseMs);
  }
}

/** Is there a rotation of this case, beside the one that made the template? */
async function hasBegun({ journal, policy }: Rig): Promise<boolean> {
  const [newest] = await journal.history(secretName, 1);
  if (newest === undefined) return false;
  return (newest.data as unknown as RotationData).members[0]?.policy.directory === policy.directory;
}
