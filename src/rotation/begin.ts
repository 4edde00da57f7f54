/** How a rotation comes into being: one row that holds its secrets, so that the store refuses a second. */
import { newId } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Actor } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { Context } from './context.ts';
import type { Kind, Known, Member, Rotation, SecretState } from './model.ts';
import type { EmergencyMode } from './service.ts';
import type { Draft } from './store.ts';
import { auditRotation } from './store.ts';

export interface Beginning {
  /** One, or every member of a group. */
  readonly policies: readonly Policy[];
  readonly kind: Exclude<Kind, 'bootstrap'>;
  readonly mode: EmergencyMode | null;
  readonly actor: Actor;
  readonly reason: string | null;
  /** What an ended rotation left to be revoked once this one is adopted. */
  readonly inherited: ReadonlyMap<string, readonly Known[]>;
  /** The due instant that fired, by secret. */
  readonly fired: ReadonlyMap<string, number>;
  readonly handIn?: readonly string[];
}

/** The rotation as it will be, and the rows that change with it; the caller commits both. */
export async function beginning(
  context: Context,
  wanted: Beginning,
): Promise<{ rotation: Rotation; draft: Draft }> {
  const { ports, store } = context;
  const now = ports.clock.now();
  const uptimeMs = await store.journal.uptimeMs();
  const states = new Map<string, SecretState>();
  for (const policy of wanted.policies) {
    const state = await store.secret(policy.name);
    if (state === null)
      throw new RotatedError('policy-unknown', `The journal does not know ${policy.name} yet.`, {
        secret: policy.name,
        next: 'Try again when its policy is loaded.',
      });
    states.set(policy.name, state);
  }
  const policies = [...wanted.policies].sort((a, b) => (a.name < b.name ? -1 : 1));
  const isFirst = [...states.values()].every((state) => state.generation === 0);
  const kind: Kind = wanted.kind === 'scheduled' && isFirst ? 'bootstrap' : wanted.kind;
  const deadlineMs = Math.min(...policies.map((policy) => policy.emergency.deadlineMs));
  const rotation: Rotation = {
    id: newId(ports.clock, ports.random),
    secrets: policies.map((policy) => policy.name),
    phase: 'planned',
    version: 0,
    fence: context.fence(),
    active: true,
    wakeAtUptimeMs: null,
    parked: false,
    startedAt: now,
    endedAt: null,
    data: {
      kind,
      mode: wanted.mode,
      actor: wanted.actor,
      reason: wanted.reason,
      members: policies.map((policy) =>
        memberOf(
          policy,
          wanted.inherited.get(policy.name) ?? [],
          states.get(policy.name)?.generation ?? 0,
        ),
      ),
      phases: [{ phase: 'planned', at: now, uptimeMs }],
      attempts: 0,
      lastError: null,
      parked: null,
      waitsFor: null,
      stagings: 0,
      deadlineUptimeMs: kind === 'emergency' ? uptimeMs + deadlineMs : null,
      unconfirmed: [],
      alerted: false,
      deadAt: {},
      supersededBy: null,
      ...(wanted.handIn !== undefined && { handIn: wanted.handIn }),
      failure: null,
    },
  };
  const secrets: SecretState[] = [];
  for (const policy of policies) {
    const fired = wanted.fired.get(policy.name);
    const state = states.get(policy.name);
    if (state === undefined) continue;
    if (kind === 'emergency') secrets.push(leakedState(state));
    else if (fired !== undefined) secrets.push(firedState(context, policy, state, fired));
  }
  const audit = auditRotation(now, rotation, 'rotation.planned', 'done', (secret) => ({
    kind,
    mode: wanted.mode,
    dueAt: wanted.fired.get(secret) ?? null,
  }));
  return { rotation, draft: { secrets, audit } };
}

/** Declared leaked from the first commit of an emergency on, whatever becomes of it: nothing rolls back to this key any more. */
export function leakedState(state: SecretState): SecretState {
  const leakedThrough = Math.max(state.data.leakedThrough, state.generation);
  return { ...state, data: { ...state.data, leakedThrough } };
}

/**
 * The due instant is used up, whatever becomes of the rotation: the same one never fires twice. So are all that were
 * missed before now: one run stands for them.
 */
export function firedState(
  context: Pick<Context, 'ports'>,
  policy: Policy,
  state: SecretState,
  fired: number,
): SecretState {
  const now = context.ports.scheduleClock.now();
  const firedAt = Math.max(fired, now);
  const data = { ...state.data, firedBefore: state.data.firedAt, firedAt, looked: true };
  const { current, knownSince } = data;
  const dueAt = context.ports.nextDue(policy, {
    now,
    firedAt,
    currentSince: current?.since ?? null,
    expiresAt: current?.expiresAt ?? null,
    knownSince,
  });
  return { ...state, dueAt, data };
}

function memberOf(policy: Policy, inherited: readonly Known[], generation: number): Member {
  return {
    secret: policy.name,
    policy,
    generation: generation + 1,
    olds: inherited,
    previous: null,
    intent: null,
    minted: null,
    base: null,
    staged: null,
    promoted: null,
    restored: null,
  };
}

/** Commits a beginning; returns the rotation as it now stands. */
export async function beginNew(context: Context, wanted: Beginning): Promise<Rotation> {
  const { rotation, draft } = await beginning(context, wanted);
  await context.ports.at?.('before:commit:planned');
  await context.store.write({ ...draft, rotations: [rotation] });
  await context.ports.at?.('after:commit:planned');
  return { ...rotation, version: 1 };
}
