/** What a new set of policies changes: rows for new secrets, due instants, and edits that must wait. */
import { createHash } from 'node:crypto';
import type { AuditEvent } from '../journal/journal.ts';
import { policyEdit } from '../policy/edit.ts';
import type { Policy } from '../policy/policy.ts';
import type { Context } from './context.ts';
import { dueAfter } from './due.ts';
import type { Rotation, SecretState } from './model.ts';
import { itemOf } from './model.ts';
import type { Ask } from './service.ts';
import { auditEvent } from './store.ts';

/** Rows are written so many at a time, so that ten thousand new policies are a handful of transactions. */
const batchSize = 500;

export interface PolicyChange {
  /** In use from now on. Holds the old policy where an edit is refused while a rotation is active. */
  readonly policies: ReadonlyMap<string, Policy>;
  readonly warnings: readonly string[];
}

export async function applyPolicies(
  context: Context,
  before: ReadonlyMap<string, Policy>,
  wanted: ReadonlyMap<string, Policy>,
  ask: Ask,
): Promise<PolicyChange> {
  const { store, ports } = context;
  const now = ports.clock.now();
  const states = new Map((await store.secrets()).map((state) => [state.name, state]));
  const active = activeBySecret(await store.unfinished());
  const policies = new Map<string, Policy>();
  const warnings: string[] = [];
  const changed: { state: SecretState; audit: AuditEvent }[] = [];
  for (const [name, policy] of wanted) {
    const state = states.get(name);
    const refusal = refusedEdit(
      policy,
      before.get(name) ?? memberPolicy(active.get(name), name),
      active.get(name),
    );
    if (refusal !== null) {
      warnings.push(refusal);
      const kept = before.get(name) ?? memberPolicy(active.get(name), name);
      if (kept !== null && kept !== undefined) policies.set(name, kept);
      continue;
    }
    policies.set(name, policy);
    const digest = digestOf(policy);
    if (state?.data.policyDigest === digest) continue;
    const next =
      state === undefined ? newState(policy, digest, now) : editedState(state, policy, digest, now);
    const due =
      state === undefined && policy.schedule.trigger.kind !== 'manual'
        ? now
        : dueAfter(context, next, policy);
    const action =
      state === undefined || state.data.policyDigest === null ? 'policy.added' : 'policy.edited';
    changed.push({
      state: { ...next, dueAt: due },
      audit: auditEvent(now, { secret: name, rotation: null, ...ask }, action, 'done', {
        digest,
        file: policy.source.file,
      }),
    });
  }
  for (const [name, state] of states) {
    if (wanted.has(name) || state.data.policyDigest === null) continue;
    // A rotation under way finishes, or stays parked and shown; its schedule ends here.
    changed.push({
      state: { ...state, dueAt: null, data: { ...state.data, policyDigest: null } },
      audit: auditEvent(now, { secret: name, rotation: null, ...ask }, 'policy.removed', 'done'),
    });
  }
  for (let from = 0; from < changed.length; from += batchSize) {
    const batch = changed.slice(from, from + batchSize);
    await store.write({
      secrets: batch.map((one) => one.state),
      audit: batch.map((one) => one.audit),
    });
  }
  return { policies, warnings };
}

function activeBySecret(rotations: readonly Rotation[]): Map<string, Rotation> {
  return new Map(
    rotations.flatMap((rotation) => rotation.secrets.map((secret) => [secret, rotation] as const)),
  );
}

function memberPolicy(rotation: Rotation | undefined, secret: string): Policy | null {
  return rotation?.data.members.find((member) => member.secret === secret)?.policy ?? null;
}

/** Where the credential lives, and who issues it, cannot change under a rotation that is moving it. */
function refusedEdit(
  policy: Policy,
  before: Policy | null,
  active: Rotation | undefined,
): string | null {
  if (before === null || active === undefined) return null;
  const { backendChanged, providerChanged } = policyEdit(before, policy);
  if (!backendChanged && !providerChanged) return null;
  const what = backendChanged ? 'backend' : 'provider';
  return `The edit of ${policy.name} (${policy.source.file}:${policy.source.line}) changes its ${what} while rotation ${active.id} is active: the old policy stays in use until it has ended.`;
}

/** Tells an edit from a policy that only moved in its file. */
export function digestOf(policy: Policy): string {
  const { source: _, ...meaning } = policy;
  return digestJson(meaning);
}

function digestJson(value: object): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url').slice(0, 22);
}

/** A changed schedule counts from now: the instants it would have had before were not missed. */
function editedState(state: SecretState, policy: Policy, digest: string, now: number): SecretState {
  const scheduleDigest = digestJson(policy.schedule);
  const knownSince = state.data.scheduleDigest === scheduleDigest ? state.data.knownSince : now;
  const { use: provider } = policy.provider;
  const data = { policyDigest: digest, scheduleDigest, knownSince, item: itemOf(policy), provider };
  return { ...state, data: { ...state.data, ...data } };
}

function newState(policy: Policy, digest: string, now: number): SecretState {
  return {
    name: policy.name,
    version: 0,
    generation: 0,
    dueAt: null,
    paused: false,
    data: {
      knownSince: now,
      scheduleDigest: digestJson(policy.schedule),
      firedAt: null,
      firedBefore: null,
      looked: false,
      current: null,
      failures: 0,
      pausedFor: null,
      lost: false,
      lastResult: null,
      leakedThrough: -1,
      policyDigest: digest,
      item: itemOf(policy),
      provider: policy.provider.use,
    },
  };
}
