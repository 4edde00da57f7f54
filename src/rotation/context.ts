/** What every step works with, and the three narrow ways in which a step acts: guarded effects, commits, waits. */
import { RotatedError } from '../errors.ts';
import type { Backend } from '../backend/backend.ts';
import type { Policy } from '../policy/policy.ts';
import type { ProviderSession } from '../provider/provider.ts';
import type { Phase, Rotation, RotationData } from './model.ts';
import { endPhases } from './model.ts';
import type { Ports } from './ports.ts';
import type { Draft, Store } from './store.ts';
import { auditRotation } from './store.ts';

export interface Context {
  readonly ports: Ports;
  readonly store: Store;
  readonly fence: () => number;
  /** The newest good policy; a rotation works with the one it began with. Null once it was removed. */
  readonly policyOf: (secret: string) => Policy | null;
  /** Aborted when the lease is lost or the process stops. */
  readonly signal: AbortSignal;
  /** Mints whose intent this process journalled and which it has not called yet: only those need no reconciliation. */
  readonly freshIntents: Set<string>;
  /** Which consumers this process has told of which rotation, and when (waited milliseconds): reloads are repeated sparingly. */
  readonly told: Map<string, number>;
  /** Debts being paid now: one payer each. */
  readonly paying: Set<string>;
}

/** Committed: go on from here. */
export interface Moved {
  readonly kind: 'moved';
  readonly rotation: Rotation;
}

/** Nothing to do before the journalled uptime reaches this. */
export interface Wait {
  readonly kind: 'wait';
  readonly untilUptimeMs: number;
  readonly waitsFor: string;
}

export type StepResult = Moved | Wait;

/**
 * One change of the world outside. The fence and the lease are read again right before it, since this process may have been
 * stopped for longer than its lease since it last knew that it owns the state.
 */
export async function effect<T>(
  context: Context,
  point: string,
  call: () => Promise<T>,
): Promise<T> {
  const { ports } = context;
  await ports.at?.(`before:${point}`);
  context.signal.throwIfAborted();
  await ports.journal.assertFence(context.fence());
  const result = await call();
  await ports.at?.(`after:${point}`);
  return result;
}

/** Makes `next` durable, together with whatever else must be true from the same instant on. */
export async function commit(context: Context, next: Rotation, extra: Draft = {}): Promise<Moved> {
  const { ports, store } = context;
  await ports.at?.(`before:commit:${next.phase}`);
  await store.write({ ...extra, rotations: [next, ...(extra.rotations ?? [])] });
  await ports.at?.(`after:commit:${next.phase}`);
  return { kind: 'moved', rotation: { ...next, version: next.version + 1 } };
}

/** The rotation in its next phase: marks the instant, forgets the failures of the step that is done. */
export async function inPhase(
  context: Context,
  rotation: Rotation,
  phase: Phase,
  data: Partial<RotationData> = {},
): Promise<Rotation> {
  const now = context.ports.clock.now();
  const uptimeMs = await context.ports.journal.uptimeMs();
  const ended = endPhases.has(phase);
  return {
    ...rotation,
    phase,
    active: !ended,
    endedAt: ended ? now : null,
    wakeAtUptimeMs: null,
    parked: false,
    data: {
      ...rotation.data,
      attempts: 0,
      lastError: null,
      parked: null,
      waitsFor: null,
      alerted: false,
      ...data,
      phases: [...rotation.data.phases, { phase, at: now, uptimeMs }],
    },
  };
}

export function withData(rotation: Rotation, data: Partial<RotationData>): Rotation {
  return { ...rotation, data: { ...rotation.data, ...data } };
}

/** Moves to `phase` with one audit line for each secret. */
export async function moveTo(
  context: Context,
  rotation: Rotation,
  phase: Phase,
  data: Partial<RotationData> = {},
  extra: Draft = {},
): Promise<Moved> {
  const next = await inPhase(context, rotation, phase, data);
  const members = next.data.members;
  return commit(context, next, {
    ...extra,
    audit: [
      ...(extra.audit ?? []),
      ...auditRotation(
        context.ports.clock.now(),
        next,
        `rotation.${phase}`,
        phase === 'abandoned' ? 'failed' : 'done',
        (secret) => {
          const member = members.find((one) => one.secret === secret);
          const { failure } = next.data;
          return {
            kind: next.data.kind,
            generation: member?.generation ?? null,
            ref: member?.minted?.ref ?? null,
            fingerprint: member?.minted?.fingerprint ?? null,
            ...(failure === null ? {} : { failure: failure.code }),
          };
        },
      ),
    ],
  });
}

export function phaseMark(
  rotation: Rotation,
  phase: Phase,
): { readonly at: number; readonly uptimeMs: number } {
  const mark = rotation.data.phases.findLast((one) => one.phase === phase);
  if (mark === undefined)
    throw new RotatedError(
      'unexpected',
      `Rotation ${rotation.id} has no mark of its phase ${phase}.`,
    );
  return mark;
}

export async function withSession<T>(
  context: Context,
  policy: Policy,
  work: (session: ProviderSession) => Promise<T>,
): Promise<T> {
  await using session = await context.ports.provider(policy).open();
  return await work(session);
}

export function backendOf(context: Context, policy: Pick<Policy, 'backend'>): Backend {
  return context.ports.backend(policy);
}

/** Runs `work` for each in order; members of a rotation are few and their order is part of the record. */
export async function inOrder<T>(
  all: readonly T[],
  work: (one: T) => Promise<void>,
): Promise<void> {
  for (const one of all) await work(one);
}
