/** One interrupted rotation from its template to its last check: kill once, kill twice, or stop past the lease. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { CrashClass } from '../../src/provider/provider.ts';
import type { RunningIssuer } from '../support/issuer/server.ts';
import type { RunningApps } from '../support/world-consumer/server.ts';
import { checkLog, checkPlaintext } from './checks.ts';
import type { RunningGates } from './gate/control.ts';
import type { Outcome, Pool } from './pool.ts';
import type { Invariant, Job, LogLine, MutantName, Violation } from './protocol.ts';
import { hmacKey, verifierOf } from './protocol.ts';
import { issuerOf, type Story } from './scenarios.ts';

export interface World {
  readonly directory: string;
  readonly kek: string;
  readonly issuer: RunningIssuer;
  readonly apps: RunningApps;
  /** null: the secret is used by an application that reads a file. */
  readonly gates: RunningGates | null;
  readonly pool: Pool;
  readonly count: { cases: number };
}

/** Which points: kill at the first number, then its recovery at the second, then the next; or stop at one. */
export interface Interruption {
  readonly kills: readonly number[];
  readonly stop: number | null;
}

export interface CaseResult {
  readonly violations: readonly Violation[];
  /** Of the process that came to the end by itself. */
  readonly points: readonly string[];
  /** False where a process ended before it came to its point. */
  readonly reached: boolean;
}

export async function makeTemplate(world: World, crashClass: CrashClass, story: Story) {
  const principal = `template-${crashClass}`;
  const directory = join(world.directory, principal);
  await world.issuer.configure(principal, issuerOf(crashClass));
  mkdirSync(directory);
  const scenario: Story = {
    ...story,
    first: true,
    now: null,
    overGrace: false,
    verifiers: true,
    ends: ['retired'],
  };
  const job = await prepare(world, scenario, principal, directory, null);
  const outcome = await world.pool.with((worker) => worker.run(job));
  const violations = gather(directory, `${crashClass}: the template`, outcome);
  if (violations.length > 0) throw new Error(`no template: ${JSON.stringify(violations)}`);
  rmSync(join(directory, 'log'));
}

export async function runCase(
  world: World,
  story: Story,
  interruption: Interruption,
  mutant: MutantName | null,
): Promise<CaseResult> {
  const principal = `case-${++world.count.cases}`;
  const directory = join(world.directory, principal);
  const template = `template-${story.crashClass}`;
  if (story.first) {
    mkdirSync(directory);
    await world.issuer.configure(principal, { ...issuerOf(story.crashClass), ...story.issuer });
  } else {
    cpSync(join(world.directory, template), directory, { recursive: true });
    await world.issuer.clone(template, principal, story.issuer);
  }
  const job = await prepare(world, story, principal, directory, mutant);
  const where = `${story.crashClass}/${story.name}${labelOf(interruption)}`;
  try {
    return interruption.stop === null
      ? await killed(world, job, interruption.kills, where)
      : await stopped(world, job, interruption.stop, where);
  } finally {
    await world.apps.forget(principal);
    await world.apps.forget(verifierOf(principal));
    await world.gates?.forget(principal);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function prepare(
  world: World,
  story: Story,
  principal: string,
  directory: string,
  mutant: MutantName | null,
): Promise<Job> {
  const { issuer, apps, gates, kek } = world;
  const appOf = (role: 'user' | 'verifier', name: string) => ({
    role,
    file: join(directory, role === 'user' ? 'app.json' : 'verifier.json'),
    key: hmacKey,
    issuer: issuer.url,
    principal,
    instances: [`${name}-a`, `${name}-b`],
    states: {},
    ...story.app,
  });
  if (gates === null) await apps.configure(principal, appOf('user', 'app'));
  else {
    const { lagReports, refuses, leaves = false, awayReports = 0 } = story.app;
    await gates.configure(principal, {
      directory,
      issuer: issuer.url,
      principal,
      instances: story.first ? 0 : 2,
      lagReports: lagReports === 0 ? null : lagReports,
      refuses,
      leaves,
      awayReports,
    });
  }
  if (story.verifiers) {
    await apps.configure(verifierOf(principal), appOf('verifier', 'verifier'));
  }
  const { name, crashClass, now, overGrace, adoptionThen, verifiers, first, idle, ends } = story;
  const plot = { name, crashClass, now, overGrace, adoptionThen, verifiers, first, idle };
  const scenario = { ...plot, ends };
  const urls = {
    issuerUrl: issuer.url,
    appsUrl: apps.url,
    gatesUrl: gates?.url ?? null,
    consumer: gates === null ? 'app' : 'gate',
  } as const;
  const how = { kind: 'start', stopAt: null, takeOver: false, mutant } as const;
  return { ...how, scenario, directory, principal, ...urls, kek };
}

async function killed(
  { gates, pool }: World,
  job: Job,
  kills: readonly number[],
  where: string,
): Promise<CaseResult> {
  let reached = true;
  const found: Violation[] = [];
  for (const [index, point] of [...kills, null].entries()) {
    const kind = index === 0 ? 'start' : 'recover';
    const stopAt = point === null ? null : ({ point, signal: 'SIGKILL' } as const);
    const outcome = await pool.with((worker) => worker.run({ ...job, kind, stopAt }));
    if (outcome.outcome === 'killed') {
      found.push(...plaintextAt(job.directory, where));
      // No daemon runs now: whoever calls a server must not notice.
      await gates?.use(job.principal);
      continue;
    }
    if (point !== null) reached = false;
    found.push(...gather(job.directory, where, outcome));
    return { violations: found, points: outcome.points, reached };
  }
  throw new Error(`${where}: killed where nobody asked for it`);
}

async function stopped(
  { pool }: World,
  job: Job,
  point: number,
  where: string,
): Promise<CaseResult> {
  return pool.with(async (first) => {
    const stopAt = { point, signal: 'SIGSTOP' } as const;
    const state = await first.runUntilStopped({ ...job, stopAt });
    const recover = { ...job, kind: 'recover', takeOver: true } as const;
    const outcome = state === 'stopped' ? await pool.with((second) => second.run(recover)) : null;
    // Whatever it does now, it must do no harm.
    const late = await first.continue();
    const check = { ...job, kind: 'check' } as const;
    const last = await pool.with((third) => third.run(check));
    const violations = [
      ...(outcome === null || outcome.outcome === 'finished' ? [] : failure(where, outcome)),
      ...(late.outcome === 'failed' ? failure(`${where}, continued`, late) : []),
      ...gather(job.directory, where, last),
    ];
    const points = outcome === null || outcome.outcome === 'killed' ? [] : outcome.points;
    return { violations, points, reached: state === 'stopped' };
  });
}

/** What the processes wrote down, what the files hold, and how the last one ended. */
function gather(directory: string, where: string, outcome: Outcome): readonly Violation[] {
  const file = join(directory, 'log');
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const lines = text.split('\n').filter((line) => line !== '');
  const log = lines.map((line) => JSON.parse(line) as LogLine);
  const during = log.flatMap((line) => (line.kind === 'violation' ? [line.violation] : []));
  const notes = log.flatMap((line) => (line.kind === 'note' ? [line.text] : []));
  const broken = outcome.outcome === 'finished' ? [] : failure(where, outcome);
  const violations = [
    ...during.map((one) => ({ ...one, point: `${where}: ${one.point}` })),
    ...checkLog(log).map((one) => ({ ...one, point: where })),
    ...plaintextAt(directory, where),
    ...broken,
  ];
  const hint = notes.length === 0 ? '' : ` (${notes.join('; ')})`;
  return violations.map((one) => ({ ...one, detail: one.detail + hint }));
}

function failure(where: string, outcome: Outcome): readonly Violation[] {
  const why = outcome.outcome === 'failed' ? (outcome.error ?? '') : outcome.outcome;
  return [{ point: where, invariant: 'outcome' satisfies Invariant, detail: why }];
}

function plaintextAt(directory: string, where: string): readonly Violation[] {
  return checkPlaintext(directory).map((one) => ({ ...one, point: where }));
}

function labelOf({ kills, stop }: Interruption): string {
  if (stop !== null) return ` stopped at ${stop}`;
  return kills.length === 0 ? '' : ` killed at ${kills.join(', then ')}`;
}
