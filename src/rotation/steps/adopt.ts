/** Telling consumers and learning whether they took it: distribute (verifiers, before anyone uses it) and adopt (everybody, after). */
import type { Change, Consumer, InstanceReport } from '../../consumer/consumer.ts';
import { asRotatedError } from '../../errors.ts';
import type { InstanceRow } from '../../journal/journal.ts';
import type { Adoption, ConsumerReply, Waiting } from '../checks.ts';
import { decideAdoption, decideAdoptionStep, strictestThen } from '../checks.ts';
import type { Context, StepResult } from '../context.ts';
import { commit, effect, moveTo, phaseMark, withData } from '../context.ts';
import type { Member, Rotation } from '../model.ts';
import { auditRotation } from '../store.ts';

/** How often instances are asked while an adoption is under way: quick at first, then once in so long. */
const pollFirstMs = 100;
const pollMostMs = 5_000;
/** A consumer that has not confirmed is told again after so long: its first reload may have been lost. */
const reloadAgainMs = 10_000;

interface Told {
  readonly consumer: Consumer;
  readonly changes: readonly Change[];
  readonly members: readonly Member[];
}

/** One reload for each consumer, with the changes of every member that names it. */
function toTell(
  context: Context,
  rotation: Rotation,
  role: Consumer['role'] | 'all',
  stage: Change['stage'],
): Told[] {
  const { kind, members } = rotation.data;
  const urgent = kind === 'emergency' ? { urgent: true } : {};
  const told = new Map<string, { consumer: Consumer; changes: Change[]; members: Member[] }>();
  for (const member of members) {
    for (const consumer of context.ports.consumers(member.policy)) {
      if (role !== 'all' && consumer.role !== role) continue;
      const key = `${consumer.role} ${consumer.id}`;
      const entry = told.get(key) ?? { consumer, changes: [], members: [] };
      entry.changes.push({
        secret: member.secret,
        generation: generationOf(member),
        stage,
        ...urgent,
      });
      entry.members.push(member);
      told.set(key, entry);
    }
  }
  return [...told.values()];
}

function generationOf(member: Member): number {
  return member.restored === null ? member.generation : member.generation + 1;
}

/** staged → distributed, where a consumer checks the credential: it accepts pending beside current before anybody presents it. */
export async function distribute(context: Context, rotation: Rotation): Promise<StepResult> {
  const told = toTell(context, rotation, 'verifier', 'pending');
  return await tellAndAsk(
    context,
    rotation,
    told,
    phaseMark(rotation, 'staged').uptimeMs,
    async (unconfirmed) => moveTo(context, rotation, 'distributed', { unconfirmed }),
  );
}

export function needsDistribution(context: Context, rotation: Rotation): boolean {
  return toTell(context, rotation, 'verifier', 'pending').length > 0;
}

/** promoted → adopted: every live instance serves the new generation. */
export async function adopt(context: Context, rotation: Rotation): Promise<StepResult> {
  const told = toTell(context, rotation, 'all', 'current');
  return await tellAndAsk(
    context,
    rotation,
    told,
    phaseMark(rotation, 'promoted').uptimeMs,
    async (unconfirmed) => moveTo(context, rotation, 'adopted', { unconfirmed }),
  );
}

/** The same after a roll back, for the generation that restored the predecessor. */
export async function adoptRestored(
  context: Context,
  rotation: Rotation,
  then: () => Promise<StepResult>,
): Promise<StepResult> {
  const told = toTell(context, rotation, 'all', 'current');
  return await tellAndAsk(
    context,
    rotation,
    told,
    phaseMark(rotation, 'rolling-back').uptimeMs,
    async () => then(),
  );
}

/** Are all instances, seen since, still on the new generation? Asked once more right before the way back closes. */
export async function stillAdopted(context: Context, rotation: Rotation): Promise<Adoption> {
  const told = toTell(context, rotation, 'all', 'current');
  const adoption = await ask(context, told);
  await remember(context, adoption);
  return adoption;
}

async function tellAndAsk(
  context: Context,
  rotation: Rotation,
  told: readonly Told[],
  sinceUptimeMs: number,
  go: (unconfirmed: readonly string[]) => Promise<StepResult>,
): Promise<StepResult> {
  if (told.length === 0) return go([]);
  const uptimeMs = await context.store.journal.uptimeMs();
  const waitedMs = uptimeMs - sinceUptimeMs;
  const asked = await ask(context, told);
  const stale = told.filter((one) => !isConfirmed(asked, one));
  const failures: readonly Waiting[] = await tell(context, rotation, stale, asked, waitedMs);
  const adoption = stale.length > 0 ? await ask(context, told) : asked;
  await remember(context, adoption);
  const waitingFor = [...adoption.waitingFor, ...failures];
  const members = rotation.data.members;
  const isLeaked = await leadsToLeaked(context, rotation);
  const decision = decideAdoptionStep({
    adoption: { adopted: adoption.adopted && failures.length === 0, waitingFor },
    timedOut: waitedMs >= Math.max(...members.map((member) => member.policy.adoption.timeoutMs)),
    then: strictestThen(members.map((member) => member.policy.adoption.then)),
    pastDeadline:
      rotation.data.deadlineUptimeMs !== null && uptimeMs >= rotation.data.deadlineUptimeMs,
    canRollBack:
      rotation.phase === 'promoted' &&
      !isLeaked &&
      members.every((member) => member.previous !== null),
  });
  const waitsFor = sentence(waitingFor, adoption.unconfirmed);
  switch (decision.kind) {
    case 'go':
      return go([...new Set([...adoption.unconfirmed, ...waitingFor.map((one) => one.consumer)])]);
    case 'roll-back':
      return moveTo(context, rotation, 'rolling-back', {
        failure: { code: 'adoption-timeout', message: `Not adopted in time: ${waitsFor}.` },
      });
    case 'alert':
      if (!rotation.data.alerted) return alert(context, rotation, waitsFor, adoption.unconfirmed);
      return poll(uptimeMs, waitedMs, waitsFor);
    case 'poll':
      return poll(uptimeMs, waitedMs, waitsFor);
    default:
      return decision satisfies never;
  }
}

/** A way back to a key that was declared leaked is none. */
async function leadsToLeaked(context: Context, rotation: Rotation): Promise<boolean> {
  for (const { secret, previous } of rotation.data.members) {
    const state = await context.store.secret(secret);
    if (previous !== null && previous.generation <= (state?.data.leakedThrough ?? -1)) return true;
  }
  return false;
}

/** What an adoption waits for, as people read it. */
export function sentence(waitingFor: readonly Waiting[], unconfirmed: readonly string[]): string {
  const parts = waitingFor.map(({ consumer, what }) => `${consumer}: ${what}`);
  return [...parts, ...unconfirmed.map((one) => `${one}: cannot tell`)].join(', ');
}

function poll(uptimeMs: number, waitedMs: number, waitsFor: string): StepResult {
  const delayMs = Math.min(pollMostMs, Math.max(pollFirstMs, waitedMs / 4));
  return { kind: 'wait', untilUptimeMs: uptimeMs + delayMs, waitsFor };
}

/** Told once for each long wait; what is waited for stays waited for. */
export async function alert(
  context: Context,
  rotation: Rotation,
  waitsFor: string,
  unconfirmed: readonly string[],
): Promise<StepResult> {
  const next = `Restart or mend the consumer. If you know that it uses the new generation, say so: 'rotate confirm ${rotation.secrets[0]}'. To go back: 'rotate rollback ${rotation.secrets[0]}'.`;
  for (const member of rotation.data.members) {
    context.ports.notify(member.policy, {
      secret: member.secret,
      rotation: rotation.id,
      level: 'alert',
      event: 'adoption.timeout',
      message: `Waiting for ${waitsFor}; the old credential stays valid until then.`,
      next,
    });
  }
  const lastError = { code: 'adoption-timeout', message: `Waiting for ${waitsFor}.` };
  return commit(context, withData(rotation, { alerted: true, lastError, unconfirmed, waitsFor }), {
    audit: auditRotation(
      context.ports.clock.now(),
      rotation,
      'rotation.adoption-timeout',
      'failed',
      () => ({ waitsFor }),
    ),
  });
}

function isConfirmed(adoption: Adoption, told: Told): boolean {
  if (adoption.unconfirmed.includes(told.consumer.id)) return false;
  return !adoption.waitingFor.some((one) => one.consumer === told.consumer.id);
}

/**
 * At once the first time, then again once in a while: a reload may be repeated. Who cannot report is told once: it would be
 * told for as long as a person is waited for. Returns who could not be told.
 */
async function tell(
  context: Context,
  rotation: Rotation,
  stale: readonly Told[],
  asked: Adoption,
  waitedMs: number,
): Promise<Waiting[]> {
  const failures: Waiting[] = [];
  await Promise.all(
    stale.map(async ({ consumer, changes }) => {
      const key = `${rotation.id}:${rotation.phase}:${consumer.role}:${consumer.id}`;
      const toldAt = context.told.get(key);
      const againAfterMs = asked.unconfirmed.includes(consumer.id) ? Infinity : reloadAgainMs;
      if (toldAt !== undefined && waitedMs - toldAt < againAfterMs) return;
      try {
        await effect(context, 'reload', () => consumer.reload(changes, context.signal));
        context.told.set(key, waitedMs);
      } catch (error) {
        const failed = asRotatedError(error, 'unknown');
        if (failed.code === 'fence-lost') throw failed;
        failures.push({ consumer: consumer.id, what: failed.message });
      }
    }),
  );
  return failures;
}

async function ask(context: Context, told: readonly Told[]): Promise<Adoption> {
  const replies = await Promise.all(
    told.flatMap(({ consumer, members }) =>
      members.map((member) => askOne(context, consumer, member)),
    ),
  );
  return decideAdoption(replies);
}

async function askOne(
  context: Context,
  consumer: Consumer,
  member: Member,
): Promise<ConsumerReply> {
  const rows = await context.store.journal.instances(member.secret);
  const key = consumerKey(consumer);
  const known = rows.filter((row) => row.consumer === key).map((row) => row.instance);
  let reply: readonly InstanceReport[] | 'unknown' | 'failed';
  try {
    reply = consumer.reports
      ? await consumer.report(member.secret, context.signal, known)
      : 'unknown';
  } catch (error) {
    if (context.signal.aborted) throw error;
    reply = 'failed';
  }
  return {
    consumer: consumer.id,
    secret: member.secret,
    reply,
    known,
    generation: generationOf(member),
  };
}

function consumerKey(consumer: Consumer): string {
  return consumer.id;
}

/** Instances are journalled, so that one which was seen counts after a restart of the daemon as well. */
async function remember(context: Context, adoption: Adoption): Promise<void> {
  const put: InstanceRow[] = [];
  const gone: Omit<InstanceRow, 'data'>[] = [];
  for (const one of adoption.seen) {
    const row = { consumer: one.consumer, secret: one.secret, instance: one.instance };
    if (one.state === 'gone') gone.push(row);
    else put.push({ ...row, data: { state: one.state, generation: one.generation } });
  }
  const changed = await changedRows(context, put);
  if (changed.length > 0 || gone.length > 0)
    await context.store.write({ instances: changed, removeInstances: gone });
}

async function changedRows(context: Context, rows: readonly InstanceRow[]): Promise<InstanceRow[]> {
  const before = new Map<string, string>();
  for (const secret of new Set(rows.map((row) => row.secret))) {
    for (const row of await context.store.journal.instances(secret)) {
      before.set(`${row.consumer} ${row.secret} ${row.instance}`, JSON.stringify(row.data));
    }
  }
  return rows.filter(
    (row) =>
      before.get(`${row.consumer} ${row.secret} ${row.instance}`) !== JSON.stringify(row.data),
  );
}
