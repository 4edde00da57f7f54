/** What the backends' contract is written with: an item nobody wrote yet, and short forms of the interface's calls. */
import { expect } from 'vitest';
import type { ErrorCode } from '../errors.ts';
import { type Fields, Secret } from '../secret/secret.ts';
import type { Backend, OwnerNote, VersionId } from './backend.ts';

export interface BackendSubject {
  readonly name: string;
  /** The backend under test, and an item path that nothing was ever written to. */
  create(): Promise<BackendUnderTest>;
}

export interface BackendUnderTest extends AsyncDisposable {
  readonly backend: Backend;
  readonly item: string;
  /** A second client of the same store, as another process has. */
  other(): Promise<Backend>;
  /** Whether the value can be found, in plain text, in anything the store keeps where it should not be; false without such a place. */
  leaks?(value: string): Promise<boolean>;
}

export const signal = new AbortController().signal;

export type Work = (backend: Backend, item: string, under: BackendUnderTest) => Promise<void>;

/** A test's body on a backend and an item of its own. */
export function onFreshItem(subject: BackendSubject, work: Work): () => Promise<void> {
  return async () => {
    await using under = await subject.create();
    await work(under.backend, under.item, under);
  };
}

export function fields(values: Readonly<Record<string, string>>): Fields {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, new Secret(value)]),
  );
}

export function note(
  secret: string,
  generation: number,
  names: readonly string[] = ['PASSWORD'],
): OwnerNote {
  return {
    secret,
    generation,
    ref: `ref-${generation}`,
    rotation: `rotation-${generation}`,
    fields: names,
  };
}

export async function values(
  backend: Backend,
  item: string,
  at: Parameters<Backend['read']>[1] = 'current',
): Promise<Record<string, string>> {
  const { fields: read } = await backend.read(item, at, signal);
  return Object.fromEntries(Object.entries(read).map(([name, value]) => [name, value.reveal()]));
}

export function stage(
  backend: Backend,
  item: string,
  txn: string,
  plain: Readonly<Record<string, string>>,
  expectCurrent: VersionId | null,
  secret = 'db',
  generation = 1,
): Promise<VersionId> {
  const notes = [note(secret, generation, Object.keys(plain))];
  return backend.stage(item, fields(plain), notes, { txn, expectCurrent }, signal);
}

export function promote(
  backend: Backend,
  item: string,
  txn: string,
  pending: VersionId,
  expectCurrent: VersionId | null,
): Promise<VersionId> {
  return backend.promote(item, { txn, pending, expectCurrent }, signal);
}

export async function put(
  backend: Backend,
  item: string,
  txn: string,
  plain: Readonly<Record<string, string>>,
  expectCurrent: VersionId | null,
  secret = 'db',
  generation = 1,
): Promise<VersionId> {
  const pending = await stage(backend, item, txn, plain, expectCurrent, secret, generation);
  return promote(backend, item, txn, pending, expectCurrent);
}

export async function refuses(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code });
}

export function required<T>(value: T | null): T {
  if (value === null) throw new Error('The item has no current version.');
  return value;
}
