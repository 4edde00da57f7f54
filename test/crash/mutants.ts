/** Ways to break the machine from outside, through its ports, each of which the invariants must catch. */
import type { Consumer } from '../../src/consumer/consumer.ts';
import type { Commit, Journal } from '../../src/journal/journal.ts';
import type { CredentialInfo, ProviderSession } from '../../src/provider/provider.ts';
import type { Ports } from '../../src/rotation/ports.ts';
import type { Sealer } from '../../src/secret/sealing.ts';
import { Secret } from '../../src/secret/secret.ts';
import type { MutantName } from './protocol.ts';

export function mutate(ports: Ports, mutant: MutantName): Ports {
  switch (mutant) {
    case 'no-reconcile':
      return withSessions(ports, (session) => hideOurs(session));
    case 'no-intent':
      return { ...ports, journal: withoutIntent(ports.journal) };
    case 'plaintext-journal':
      return { ...ports, sealer: plaintext(ports.sealer) };
    case 'guard-removed':
      return { ...ports, journal: { ...ports.journal, assertFence: async () => {} } };
    case 'verify-skipped':
      return withSessions(ports, (session) => ({ ...session, verify: async () => ({ ok: true }) }));
    case 'revoke-before-adoption':
      return { ...ports, consumers: (policy) => ports.consumers(policy).map(alwaysAdopted) };
    default:
      return mutant satisfies never;
  }
}

function withSessions(ports: Ports, change: (session: ProviderSession) => ProviderSession): Ports {
  return {
    ...ports,
    provider: (policy) => {
      const provider = ports.provider(policy);
      return { ...provider, open: async () => change(await provider.open()) };
    },
  };
}

/** Whoever asks what a lost mint left behind learns nothing. */
function hideOurs(session: ProviderSession): ProviderSession {
  const list = session.list?.bind(session);
  if (list === undefined) return session;
  return {
    ...session,
    list: async function* (signal: AbortSignal): AsyncGenerator<CredentialInfo> {
      for await (const one of list(signal)) if (!one.name?.startsWith('rotated-')) yield one;
    },
  };
}

/** The intent is written after the act instead of before it: held back until the next commit of the rotation. */
function withoutIntent(journal: Journal): Journal {
  let held: Commit | null = null;
  const heldRow = (wanted: (row: { id: string; secrets: readonly string[] }) => boolean) => {
    const change = held?.rotations?.find((one) => wanted(one.row));
    if (held === null || change === undefined) return null;
    return { ...change.row, version: change.expectVersion + 1, fence: held.fence };
  };
  return {
    ...journal,
    commit: async (change) => {
      const isIntent = change.rotations?.some((one) => one.row.phase === 'minting') === true;
      if (isIntent && held === null) {
        held = change;
        return;
      }
      if (held !== null) {
        const before = held;
        held = null;
        await journal.commit(before);
      }
      await journal.commit(change);
    },
    rotation: async (id) => heldRow((row) => row.id === id) ?? (await journal.rotation(id)),
    activeRotationOf: async (secret) =>
      heldRow((row) => row.secrets.includes(secret)) ?? (await journal.activeRotationOf(secret)),
    sealed: async (id) =>
      held?.seals?.find((one) => one.id === id)?.sealed ?? (await journal.sealed(id)),
  };
}

function plaintext(sealer: Sealer): Sealer {
  return {
    newKey: (signal) => sealer.newKey(signal),
    seal: async (fields, context, key, signal) => {
      const sealed = await sealer.seal({}, context, key, signal);
      const values = Object.entries(fields).map(([name, value]) => [name, value.reveal()]);
      return { ...sealed, data: JSON.stringify(Object.fromEntries(values)) };
    },
    open: async (sealed, context, signal) => {
      // What stands there from before the mutation.
      if (!sealed.data.startsWith('{')) return sealer.open(sealed, context, signal);
      const values = Object.entries(JSON.parse(sealed.data) as Record<string, string>);
      return Object.fromEntries(values.map(([name, value]) => [name, new Secret(value)]));
    },
  };
}

/** Told once, it claims to serve whatever it was told, in every instance. */
function alwaysAdopted(consumer: Consumer): Consumer {
  return {
    ...consumer,
    report: async (secret, signal) => {
      const report = await consumer.report(secret, signal);
      if (report === 'unknown') return report;
      return report.map((one) => ({ ...one, generation: Number.MAX_SAFE_INTEGER }));
    },
  };
}
