/** Typed reading and writing of the journal: the only place of the machine that casts its JSON. */
import type {
  Actor,
  AuditEvent,
  Commit,
  DebtRow,
  InstanceRow,
  Journal,
  Json,
  RotationRow,
  SecretRow,
} from '../journal/journal.ts';
import type { Sealed } from '../secret/sealing.ts';
import { logWritten } from './log.ts';
import type { Debt, Rotation, SecretState } from './model.ts';
import type { Log } from './ports.ts';

/** Everything one step makes durable at once. Rows carry the version they were read with; 0 inserts. */
export interface Draft {
  readonly rotations?: readonly Rotation[];
  readonly secrets?: readonly SecretState[];
  readonly debts?: readonly Debt[];
  readonly closeDebts?: readonly Debt[];
  readonly releaseLocksOf?: readonly string[];
  readonly takeLocks?: readonly { readonly item: string; readonly rotation: string }[];
  readonly seals?: readonly {
    readonly id: string;
    readonly secret: string;
    readonly rotation: string;
    readonly sealed: Sealed;
  }[];
  readonly removeSeals?: readonly string[];
  readonly instances?: readonly InstanceRow[];
  readonly removeInstances?: readonly Omit<InstanceRow, 'data'>[];
  readonly audit?: readonly AuditEvent[];
}

export interface Store {
  readonly journal: Journal;
  write(draft: Draft): Promise<void>;
  rotation(id: string): Promise<Rotation | null>;
  activeOf(secret: string): Promise<Rotation | null>;
  secret(name: string): Promise<SecretState | null>;
  secrets(): Promise<readonly SecretState[]>;
  debts(secret?: string): Promise<readonly Debt[]>;
  unfinished(): Promise<readonly Rotation[]>;
  history(secret: string | null, most: number): Promise<readonly Rotation[]>;
  dueRotations(uptimeMs: number, most: number): Promise<readonly Rotation[]>;
  dueDebts(uptimeMs: number, most: number): Promise<readonly Debt[]>;
}

export function createStore(journal: Journal, fence: () => number, log: Log): Store {
  const rotationFrom = (row: RotationRow) => row as unknown as Rotation;
  const secretFrom = (row: SecretRow) => row as unknown as SecretState;
  const debtFrom = (row: DebtRow) => row as unknown as Debt;
  return {
    journal,
    write: async (draft) => {
      await journal.commit(toCommit(draft, fence()));
      logWritten(log, draft);
    },
    rotation: async (id) => mapNull(await journal.rotation(id), rotationFrom),
    activeOf: async (secret) => mapNull(await journal.activeRotationOf(secret), rotationFrom),
    secret: async (name) => mapNull(await journal.secret(name), secretFrom),
    secrets: async () => (await journal.secrets()).map(secretFrom),
    debts: async (secret) => (await journal.debts(secret)).map(debtFrom),
    unfinished: async () => (await journal.unfinished()).map(rotationFrom),
    history: async (secret, most) => (await journal.history(secret, most)).map(rotationFrom),
    dueRotations: async (uptimeMs, most) =>
      (await journal.dueRotations(uptimeMs, most)).map(rotationFrom),
    dueDebts: async (uptimeMs, most) => (await journal.dueDebts(uptimeMs, most)).map(debtFrom),
  };
}

function toCommit(draft: Draft, fence: number): Commit {
  const { rotations, secrets, debts, closeDebts, ...rest } = draft;
  return {
    ...rest,
    fence,
    ...(rotations && { rotations: rotations.map(changeOf<RotationRow>) }),
    ...(secrets && { secrets: secrets.map(changeOf<SecretRow>) }),
    ...(debts && { debts: debts.map(changeOf<DebtRow>) }),
    ...(closeDebts && {
      closeDebts: closeDebts.map(({ id, version }) => ({ id, expectVersion: version })),
    }),
  };
}

function changeOf<Row extends { readonly data: Json }>(typed: {
  readonly version: number;
  readonly data: object;
}): { readonly expectVersion: number; readonly row: Omit<Row, 'version' | 'fence'> } {
  return { expectVersion: typed.version, row: typed as unknown as Omit<Row, 'version' | 'fence'> };
}

function mapNull<A, B>(value: A | null, map: (value: A) => B): B | null {
  return value === null ? null : map(value);
}

export interface AuditSubject {
  readonly secret: string | null;
  readonly rotation: string | null;
  readonly actor: Actor;
  readonly reason: string | null;
}

export function auditEvent(
  at: number,
  subject: AuditSubject,
  action: string,
  outcome: AuditEvent['outcome'],
  detail: AuditEvent['detail'] = {},
): AuditEvent {
  const { actor, secret, rotation, reason } = subject;
  return { at, actor, action, secret, rotation, reason, outcome, detail };
}

/** One line for each secret that the rotation moves. */
export function auditRotation(
  at: number,
  rotation: Pick<Rotation, 'id' | 'secrets' | 'data'>,
  action: string,
  outcome: AuditEvent['outcome'],
  detail: (secret: string) => AuditEvent['detail'] = () => ({}),
): AuditEvent[] {
  const { actor, reason } = rotation.data;
  return rotation.secrets.map((secret) =>
    auditEvent(
      at,
      { secret, rotation: rotation.id, actor, reason },
      action,
      outcome,
      detail(secret),
    ),
  );
}
