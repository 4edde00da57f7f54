/** What Prometheus sees: gauges read from the service at each scrape, histograms fed by each durable step. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Clock } from '../clock.ts';
import type { RotationView, Service, ServiceStatus } from '../rotation/service.ts';

export interface Metrics {
  readonly contentType: string;
  render(): Promise<string>;
  /** After each durable step of a rotation. */
  step(rotation: RotationView): void;
  /** After each renewal of the lease: the loop runs and the state can be written. */
  heartbeat(): void;
}

export interface MetricsOptions {
  readonly service: Service;
  /** How far each audit sink has got. */
  readonly auditSinks: () => Promise<
    readonly { readonly name: string; readonly behind: number; readonly failing: unknown }[]
  >;
  readonly clock: Clock;
  readonly version: string;
}

/** From what a loopback issuer needs to what a person needs. */
const phaseSeconds = [0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 7_200, 86_400, 604_800];
const everything = { names: [], tags: [], providers: [], consumers: [], all: true };
/** Rotations whose last phase is remembered: the oldest are forgotten first. */
const followedMost = 20_000;

export function createMetrics({ service, auditSinks, clock, version }: MetricsOptions): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name: `rotated_${name}`, help, labelNames, registers });

  const buildInfo = gauge('build_info', 'Always 1; the version is in the labels.', [
    'version',
    'node',
  ]);
  buildInfo.set({ version, node: process.versions.node }, 1);
  const heartbeat = gauge(
    'heartbeat_timestamp_seconds',
    'When the daemon last renewed its lease. Alert when it is older than a minute.',
  );
  const age = gauge('secret_age_seconds', 'Age of the credential in use.', ['secret']);
  const due = gauge('secret_due_timestamp_seconds', 'When its schedule fires next.', ['secret']);
  const generation = gauge('secret_generation', 'Promotes so far.', ['secret']);
  const failures = gauge('secret_failures', 'Failed rotations in a row.', ['secret']);
  const paused = gauge('secret_paused', '1 while its schedule is off.', ['secret']);
  const lost = gauge('secret_lost', '1 while the backend has lost its item.', ['secret']);
  const parked = gauge('secret_parked', '1 while its rotation waits for a person.', ['secret']);
  const debts = gauge('secret_debts', 'Revokes and proofs still owed.', ['secret', 'kind']);
  const oldestDebt = gauge('debt_oldest_age_seconds', 'Age of the oldest debt; 0 without any.');
  const active = gauge('rotations_active', 'Rotations under way, by phase.', ['phase']);
  const warnings = gauge('warnings', 'Warnings about the whole: see rotate status.');
  const behind = gauge('audit_sink_behind_lines', 'Audit lines that it lacks.', ['sink']);
  const failing = gauge('audit_sink_failing', '1 while an audit sink takes no lines.', ['sink']);
  const phase = new Histogram({
    name: 'rotated_phase_duration_seconds',
    help: 'From reaching a phase to reaching the next.',
    labelNames: ['phase'],
    buckets: phaseSeconds,
    registers,
  });
  const overlap = new Histogram({
    name: 'rotated_overlap_seconds',
    help: 'Observed time that old and new credential were both valid.',
    buckets: phaseSeconds,
    registers,
  });
  const ended = new Counter({
    name: 'rotated_rotations_ended_total',
    help: 'Ended rotations, by how they ended and what began them.',
    labelNames: ['phase', 'kind'],
    registers,
  });

  const perSecret = [age, due, generation, failures, paused, lost, parked, debts];

  function show(status: ServiceStatus): void {
    const now = clock.now();
    for (const each of perSecret) each.reset();
    active.reset();
    let oldest = now;
    for (const one of status.secrets) {
      const { secret } = one;
      if (one.ageMs !== null) age.set({ secret }, one.ageMs / 1_000);
      if (one.dueAt !== null) due.set({ secret }, one.dueAt / 1_000);
      generation.set({ secret }, one.generation);
      failures.set({ secret }, one.failures);
      paused.set({ secret }, one.paused === null ? 0 : 1);
      lost.set({ secret }, one.lost ? 1 : 0);
      parked.set({ secret }, one.active === null || one.active.parked === null ? 0 : 1);
      for (const debt of one.debts) {
        debts.inc({ secret, kind: debt.kind });
        oldest = Math.min(oldest, debt.createdAt);
      }
    }
    oldestDebt.set((now - oldest) / 1_000);
    const rotations = new Map(
      status.secrets.flatMap(({ active }) => (active === null ? [] : [[active.id, active]])),
    );
    for (const rotation of rotations.values()) active.inc({ phase: rotation.phase });
    warnings.set(status.warnings.length);
  }

  /** rotation → how many of its phases were counted. */
  const counted = new Map<string, number>();

  function step(rotation: RotationView): void {
    const { id, phases } = rotation;
    const from = counted.get(id) ?? Math.max(0, phases.length - 1);
    for (let index = Math.max(1, from); index < phases.length; index++) {
      const [before, reached] = [phases[index - 1], phases[index]];
      if (before === undefined || reached === undefined) continue;
      phase.observe({ phase: before.phase }, Math.max(0, reached.at - before.at) / 1_000);
    }
    const isNews = phases.length > from;
    counted.delete(id);
    if (rotation.endedAt === null) {
      counted.set(id, phases.length);
      for (const oldest of counted.keys()) {
        if (counted.size <= followedMost) break;
        counted.delete(oldest);
      }
      return;
    }
    if (!isNews) return;
    ended.inc({ phase: rotation.phase, kind: rotation.kind });
    if (rotation.overlapMs !== null) overlap.observe(rotation.overlapMs / 1_000);
  }

  return {
    contentType: registry.contentType,
    render: async () => {
      show(await service.status(everything));
      for (const sink of await auditSinks()) {
        behind.set({ sink: sink.name }, sink.behind);
        failing.set({ sink: sink.name }, sink.failing === null ? 0 : 1);
      }
      return registry.metrics();
    },
    step,
    heartbeat: () => heartbeat.set(clock.now() / 1_000),
  };
}
