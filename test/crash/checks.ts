/** The promises, as checks: what must hold at every instant, and what must hold once a rotation has come to its end. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ItemVersion } from '../../src/backend/backend.ts';
import { isRotatedError } from '../../src/errors.ts';
import type { Json } from '../../src/journal/journal.ts';
import type { DebtData, RotationData } from '../../src/rotation/model.ts';
import { itemOf } from '../../src/rotation/model.ts';
import type { KeyTruth } from '../support/issuer/server.ts';
import { chosenPrefix } from '../support/issuer/provider.ts';
import { hashOf } from '../support/issuer/store.ts';
import type { GateControl } from './gate/control.ts';
import type { Job, LogLine, Violation } from './protocol.ts';
import { canary, itemName, secretName, verifierOf } from './protocol.ts';
import type { Rig } from './rig.ts';

type Found = Omit<Violation, 'point'>;
const never = new AbortController().signal;

/**
 * The backend's current key is live, and so is every key that a live instance serves, to whoever checks it as well. In `contain` the
 * leaked one may be dead.
 */
export async function checkInstant(rig: Rig, job: Job): Promise<readonly Found[]> {
  const leaked = job.scenario.now === 'contain' ? await leakedGenerations(rig) : 0;
  const found: Found[] = [];
  const current = await currentOf(rig);
  const { issuer, apps, gates } = rig.controls;
  const [truth, serving, verifying] = await Promise.all([
    current === null ? null : issuer.probe(job.principal, valueOf(current)),
    (gates ?? apps).serving(job.principal),
    job.scenario.verifiers ? apps.serving(verifierOf(job.principal)) : [],
  ]);
  const generation = current?.owners[secretName]?.generation ?? 0;
  if (current !== null && truth?.accepted !== true && generation > leaked) {
    const detail = `the backend serves generation ${generation}, which the issuer refuses`;
    found.push({ invariant: 'backend-current-live', detail });
  }
  for (const { instance, generation, hashes, accepted } of serving) {
    if (accepted === null || (generation ?? 0) <= leaked) continue;
    const refusers = verifying.filter((one) => hashes.some((hash) => !one.hashes.includes(hash)));
    const who = [...(accepted ? [] : ['the issuer']), ...refusers.map((one) => one.instance)];
    if (who.length === 0) continue;
    const detail = `${instance} serves generation ${generation}, which is refused by ${who.join(', ')}`;
    found.push({ invariant: 'served-keys-live', detail });
  }
  return found;
}

/** Whoever takes an adoption for done knows that no process behind the gate holds an older generation, serving or draining. */
export async function checkAdopted(rig: Rig, job: Job): Promise<readonly Found[]> {
  const { gates } = rig.controls;
  if (gates === null) return [];
  const [newest] = await rig.journal.history(secretName, 1);
  const data = newest?.data as unknown as RotationData | undefined;
  const adopted = data?.members[0]?.generation ?? 0;
  const older = (await gates.serving(job.principal)).filter(
    ({ generation }) => (generation ?? 0) < adopted,
  );
  return older.map(({ instance, generation }) => ({
    invariant: 'adopted-by-all',
    detail: `a process of ${instance} holds generation ${generation} after ${adopted} was adopted`,
  }));
}

/** A daemon may die and come back without a client noticing: every call has one answer, and it is no error. */
async function checkCalls(gates: GateControl, job: Job): Promise<readonly Found[]> {
  await gates.use(job.principal);
  const ledgers = await gates.ledgers(job.principal);
  return ledgers.flatMap(({ sent, answered, errors, strays }) => {
    // One that the server was asked to keep may be open.
    const open = sent - answered - errors;
    if (errors === 0 && strays === 0 && open <= 1) return [];
    const detail = `of ${sent} calls ${errors} failed, ${open} are open; ${strays} answers nobody asked for`;
    return [{ invariant: 'calls-answered' as const, detail }];
  });
}

/** Generations that `--now` treats as leaked, from the moment that the revoke is owed. */
async function leakedGenerations(rig: Rig): Promise<number> {
  const [newest] = await rig.journal.history(secretName, 1);
  const data = newest?.data as unknown as RotationData | undefined;
  if (data === undefined || data.kind !== 'emergency') return 0;
  return (data.members[0]?.generation ?? 0) - 1;
}

/** Once everything is done that can be done without a person. */
export async function checkEnd(rig: Rig, job: Job): Promise<readonly Found[]> {
  const { journal } = rig;
  const found: Found[] = [...(await checkInstant(rig, job))];
  const [newest] = await journal.history(secretName, 1);
  const debts = await journal.debts(secretName);
  const active = await journal.unfinished();
  const current = await currentOf(rig);
  const { keys, late } = await rig.controls.issuer.keys(job.principal);

  if (active.length > 1) {
    found.push({ invariant: 'one-active-rotation', detail: `${active.length} are active` });
  }
  const holder = await journal.lockOf(itemOf(rig.policy));
  if (holder !== null && active.length === 0) {
    found.push({ invariant: 'locks-released', detail: `${holder} still holds the item` });
  }
  const end: string = newest?.parked === true ? 'parked' : (newest?.phase ?? 'none');
  if (!(job.scenario.ends as readonly string[]).includes(end)) {
    const why = (newest?.data as unknown as RotationData | undefined)?.lastError?.code ?? '';
    found.push({ invariant: 'outcome', detail: `the rotation ended as ${end} ${why}` });
  }
  const generation = current?.owners[secretName]?.generation ?? 0;
  const before = job.scenario.first ? 0 : 1;
  const overtaken = job.scenario.overGrace ? 1 : 0;
  const expected = before + overtaken + (end === 'retired' ? 1 : end === 'rolled-back' ? 2 : 0);
  if (generation !== expected) {
    const detail = `the backend serves generation ${generation}, not ${expected}, after ${end}`;
    found.push({ invariant: 'outcome', detail });
  }
  if (late > 0) found.push({ invariant: 'outcome', detail: 'a mint never landed' });
  const named = new Set<string>();
  if (current !== null) named.add(hashOf(valueOf(current)));
  for (const key of keys) {
    if (!key.live || named.has(key.hash) || isOwed(key, debts) || isParked(key, active)) continue;
    const detail = `${key.ref} (${key.name ?? 'no name'}) is live, and nothing here knows of it`;
    found.push({ invariant: 'live-keys-named', detail });
  }
  const problem = await rig.ports.auditChain.verify(auditLines(rig), await journal.auditHead());
  if (problem !== null) found.push({ invariant: 'audit-verifies', detail: problem });
  const { gates } = rig.controls;
  if (gates !== null) {
    found.push(...(await checkCalls(gates, job)));
    // Those calls may have woken a server that rested.
    found.push(...(await checkInstant(rig, job)));
  }
  return found;
}

function isOwed(key: KeyTruth, debts: readonly { readonly data: Json }[]): boolean {
  return debts.some((debt) => {
    const { credential, intent } = debt.data as unknown as DebtData;
    if (credential?.ref === key.ref) return true;
    return intent !== null && key.name?.startsWith(intent.namePrefix) === true;
  });
}

/** A person was asked to look: at the keys it names, or, where the issuer shows no list, at what came since the mint. */
function isParked(
  key: KeyTruth,
  active: readonly { readonly parked: boolean; readonly startedAt: number; readonly data: Json }[],
): boolean {
  return active.some((rotation) => {
    if (!rotation.parked) return false;
    const { members, parked } = rotation.data as unknown as RotationData;
    const refs = members.flatMap((one) => [one.minted?.ref, one.previous?.ref]);
    if (refs.includes(key.ref)) return true;
    return parked?.code === 'mint-blind' && key.createdAt >= rotation.startedAt;
  });
}

async function currentOf(rig: Rig): Promise<ItemVersion | null> {
  try {
    return await rig.backend.read(itemName, 'current', never);
  } catch (error) {
    if (isRotatedError(error, 'not-found')) return null;
    throw error;
  }
}

function valueOf(version: ItemVersion): string {
  return version.fields['value']?.reveal() ?? '';
}

async function* auditLines(rig: Rig) {
  const pageSize = 500;
  for (let from = 1; ; from += pageSize) {
    const page = await rig.journal.auditLines(from, pageSize);
    yield* page;
    if (page.length < pageSize) return;
  }
}

/** Any canary in the state directory as it lies there, raw or in any alignment of base64. */
export function checkPlaintext(directory: string): readonly Found[] {
  const needles = [canary, chosenPrefix]
    .flatMap((prefix) => [prefix, ...base64Forms(prefix)])
    .map((form) => Buffer.from(form));
  const found: Found[] = [];
  const entries = readdirSync(join(directory, 'state'), { withFileTypes: true });
  // Beside the files there is the folder of the daemon's sockets.
  for (const { name } of entries.filter((entry) => entry.isFile())) {
    const bytes = readFileSync(join(directory, 'state', name));
    if (needles.some((needle) => bytes.includes(needle))) {
      found.push({ invariant: 'no-plaintext', detail: `a key stands in state/${name}` });
    }
  }
  return found;
}

/** What a text becomes inside a longer base64 text, less the characters that depend on its neighbours. */
function base64Forms(text: string): readonly string[] {
  return [0, 1, 2].map((offset) => {
    const encoded = Buffer.concat([Buffer.alloc(offset), Buffer.from(text)]).toString('base64');
    const from = Math.ceil((offset * 4) / 3);
    const whole = Math.floor(((text.length + offset) * 8) / 6);
    return encoded.slice(from, whole);
  });
}

/** Fences rise with each owner, versions with each commit, and nobody commits under a fence that was overtaken. */
export function checkLog(lines: readonly LogLine[]): readonly Found[] {
  const found: Found[] = [];
  const versions = new Map<string, number>();
  let newest = 0;
  for (const line of lines) {
    if (line.kind === 'lease') {
      if (line.fence <= newest) {
        const detail = `fence ${line.fence} was given after ${newest}`;
        found.push({ invariant: 'fences-rise', detail });
      }
      newest = Math.max(newest, line.fence);
    } else if (line.kind === 'commit') {
      if (line.fence < newest) {
        const detail = `${line.rotation} was written under fence ${line.fence} after ${newest}`;
        found.push({ invariant: 'fences-rise', detail });
      }
      const before = versions.get(line.rotation) ?? 0;
      if (line.version !== before + 1) {
        const detail = `${line.rotation} went from version ${before} to ${line.version}`;
        found.push({ invariant: 'versions-rise', detail });
      }
      versions.set(line.rotation, line.version);
    }
  }
  return found;
}
