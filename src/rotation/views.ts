/** Rows as people and scripts see them. */
import type { Policy } from '../policy/policy.ts';
import type { Debt, Rotation, SecretState } from './model.ts';
import { endPhases } from './model.ts';
import type { DebtView, InstanceView, Progress, RotationView, SecretStatus } from './service.ts';

export function rotationView(
  rotation: Rotation,
  uptimeMs: number,
  waitsNow: string | null = null,
): RotationView {
  const { data } = rotation;
  const deadAt = Object.values(data.deadAt);
  const promotedAt = data.phases.find((mark) => mark.phase === 'promoted')?.at;
  return {
    id: rotation.id,
    secrets: rotation.secrets,
    phase: rotation.phase,
    kind: data.kind,
    mode: data.mode,
    actor: data.actor,
    reason: data.reason,
    startedAt: rotation.startedAt,
    endedAt: rotation.endedAt,
    phases: data.phases.map(({ phase, at }) => ({ phase, at })),
    parked:
      data.parked === null
        ? null
        : { code: data.parked.code, message: data.parked.message, next: data.parked.next },
    waitsFor: waitsNow ?? data.waitsFor,
    nextInMs:
      rotation.wakeAtUptimeMs === null ? null : Math.max(0, rotation.wakeAtUptimeMs - uptimeMs),
    attempts: data.attempts,
    lastError: data.failure ?? data.lastError,
    overlapMs:
      promotedAt === undefined || deadAt.length === 0
        ? null
        : Math.max(0, Math.max(...deadAt) - promotedAt),
    deadAt: data.deadAt,
    unconfirmedConsumers: data.unconfirmed,
  };
}

export function debtView(debt: Debt, uptimeMs: number): DebtView {
  const { data } = debt;
  const isProofOwed = debt.kind === 'revoke' && data.done.includes('revoked');
  return {
    id: debt.id,
    secret: debt.secret,
    rotation: debt.rotation,
    kind: isProofOwed ? 'prove' : data.parked === null ? debt.kind : 'person',
    ref: debt.kind === 'revoke' ? (data.credential?.ref ?? null) : null,
    attempts: data.attempts,
    createdAt: debt.createdAt,
    nextInMs: debt.wakeAtUptimeMs === null ? null : Math.max(0, debt.wakeAtUptimeMs - uptimeMs),
    needsPerson: data.parked !== null,
    lastError: data.lastError?.message ?? null,
    instructions: data.parked?.next ?? null,
  };
}

export function secretStatus(facts: {
  readonly state: SecretState;
  readonly policy: Policy | null;
  readonly active: Rotation | null;
  readonly debts: readonly Debt[];
  readonly instances: readonly InstanceView[];
  readonly now: number;
  readonly uptimeMs: number;
  readonly waitsNow: string | null;
}): SecretStatus {
  const { state, policy, active, now, uptimeMs } = facts;
  const { data } = state;
  const warnings: string[] = [];
  if (policy === null) warnings.push('its policy was removed');
  if (data.lost) warnings.push('the backend lost the item');
  if (active?.data.alerted === true) warnings.push('consumers did not confirm in time');
  return {
    secret: state.name,
    tags: policy?.tags ?? [],
    provider: data.provider,
    backend: data.item,
    generation: state.generation,
    currentSince: data.current?.since ?? null,
    ageMs: data.current === null ? null : Math.max(0, now - data.current.since),
    dueAt: state.dueAt,
    paused: state.paused
      ? { reason: data.pausedFor?.reason ?? '', since: data.pausedFor?.since ?? 0 }
      : null,
    lost: data.lost,
    failures: data.failures,
    active: active === null ? null : rotationView(active, uptimeMs, facts.waitsNow),
    debts: facts.debts.map((debt) => debtView(debt, uptimeMs)),
    instances: facts.instances,
    lastResult: data.lastResult,
    warnings,
  };
}

const phrases: Record<Rotation['phase'], string> = {
  planned: 'checking the issuer, the backend and the consumers',
  minting: 'creating a new credential at the issuer',
  minted: 'the new credential is sealed in the journal',
  staged: 'the new credential is pending in the backend',
  distributed: 'verifiers accept the new credential beside the old one',
  verified: 'the new credential works',
  promoted: 'the new credential is current; consumers are reloading',
  adopted: 'the new credential is in use; the old one is in its grace',
  retiring: 'the old credential is being revoked',
  retired: 'done',
  'rolling-back': 'the old credential is being restored',
  'rolled-back': 'rolled back: the old credential is current again',
  abandoned: 'abandoned: the old credential stays in use',
};

export function progressOf(rotation: Rotation, uptimeMs: number, patienceMs: number): Progress {
  const { data } = rotation;
  const waitMs = rotation.wakeAtUptimeMs === null ? 0 : rotation.wakeAtUptimeMs - uptimeMs;
  const isEnded = endPhases.has(rotation.phase);
  const isWaiting = waitMs > patienceMs || data.alerted;
  const detail =
    data.failure?.message ?? data.parked?.message ?? data.lastError?.message ?? data.waitsFor;
  return {
    rotation: rotation.id,
    secrets: rotation.secrets,
    phase: rotation.phase,
    at: data.phases.at(-1)?.at ?? rotation.startedAt,
    message: detail == null ? phrases[rotation.phase] : `${phrases[rotation.phase]} (${detail})`,
    final: isEnded ? 'ended' : rotation.parked ? 'parked' : isWaiting ? 'waiting' : null,
  };
}
