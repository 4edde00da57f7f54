/** The `local` backend against the contract, on a real database file, and what only it promises. */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createAuditChain } from '../audit/chain.ts';
import { systemClock, systemRandom } from '../clock.ts';
import { openSqliteJournal, type SqliteJournal } from '../journal/sqlite.ts';
import { localKey } from '../secret/key-encryption-key.ts';
import { createSealer } from '../secret/sealer.ts';
import { Secret } from '../secret/secret.ts';
import type { Backend } from './backend.ts';
import { backendContract } from './contract.ts';
import { fields, note } from './contract-support.ts';
import { createLocalBackend } from './local.ts';
import type { LocalRows } from './local-rows.ts';

const clock = systemClock();
const random = systemRandom();
const signal = new AbortController().signal;

interface Place extends AsyncDisposable {
  readonly directory: string;
  open(key?: Uint8Array): Promise<{ backend: Backend; journal: SqliteJournal }>;
}

async function place(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'rotated-local-'));
  const material = random.bytes(32);
  const journals: SqliteJournal[] = [];
  return {
    directory,
    async open(other) {
      const key = localKey(other ?? material, random);
      const chain = createAuditChain(await key.derive('audit'));
      const journal = await openSqliteJournal({ directory, clock, chain });
      journals.push(journal);
      const sealer = createSealer({ current: key, all: [key] }, random);
      const digestKey = await key.derive('local digest');
      return {
        backend: createLocalBackend({ rows: journal.localRows, sealer, digestKey, clock }),
        journal,
      };
    },
    async [Symbol.asyncDispose]() {
      for (const journal of journals) await journal[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function inFiles(directory: string, text: string): boolean {
  return readdirSync(directory).some((name) => readFileSync(join(directory, name)).includes(text));
}

backendContract({
  name: 'local on sqlite',
  async create() {
    const here = await place();
    const { backend } = await here.open();
    return {
      backend,
      item: 'mcp/reports-db',
      other: async () => (await here.open()).backend,
      leaks: async (value) => inFiles(here.directory, value),
      [Symbol.asyncDispose]: () => here[Symbol.asyncDispose](),
    };
  },
});

test('no value is ever in the database, its log or its shared memory, before and after a checkpoint', async () => {
  await using here = await place();
  const { backend, journal } = await here.open();
  const canary = 'canary-2b8d04f7c6';
  let current: string | null = null;
  for (let round = 0; round < 60; round++) {
    const txn = `t${round}`;
    const plain = { PASSWORD: `${canary}-${round}`, USER: `plain-marker-${round}` };
    const notes = [note(`marker-of-the-notes`, round, Object.keys(plain))];
    const pending: string = await backend.stage(
      'i',
      fields(plain),
      notes,
      { txn, expectCurrent: current },
      signal,
    );
    if (round % 7 === 3) {
      await backend.discard('i', txn, signal);
      continue;
    }
    current = await backend.promote('i', { txn, pending, expectCurrent: current }, signal);
    if (round % 5 === 0) await backend.purge('i', signal);
    else await backend.read('i', 'previous', signal);
    expect(inFiles(here.directory, canary)).toBe(false);
  }
  // The scan would find it: what is not sealed is there.
  expect(inFiles(here.directory, 'marker-of-the-notes')).toBe(true);
  for (const form of [
    canary,
    Buffer.from(canary).toString('base64').slice(0, -4),
    'plain-marker-',
  ]) {
    expect(inFiles(here.directory, form)).toBe(false);
  }
  await journal[Symbol.asyncDispose]();
  expect(readdirSync(here.directory)).toEqual(['state.sqlite']);
  expect(inFiles(here.directory, canary)).toBe(false);
  expect(inFiles(here.directory, 'marker-of-the-notes')).toBe(true);
});

test('a purged version is gone from the file, sealed bytes included', async () => {
  await using here = await place();
  const { backend, journal } = await here.open();
  const write = { txn: 't1', expectCurrent: null };
  const first = await backend.stage(
    'i',
    fields({ A: 'one' }),
    [note('db', 1, ['A'])],
    write,
    signal,
  );
  await backend.promote('i', { ...write, pending: first }, signal);
  const sealed = await journal.localRows.look((rows) => rows.version('i', 1)?.sealed.data ?? '');
  const change = { txn: 't2', expectCurrent: first };
  const second = await backend.stage(
    'i',
    fields({ A: 'two' }),
    [note('db', 2, ['A'])],
    change,
    signal,
  );
  await backend.promote('i', { ...change, pending: second }, signal);
  expect(inFiles(here.directory, sealed)).toBe(true);
  await backend.purge('i', signal);
  await journal[Symbol.asyncDispose]();
  expect(inFiles(here.directory, sealed)).toBe(false);
});

test('a row moved to another item does not open', async () => {
  await using here = await place();
  const { backend, journal } = await here.open();
  for (const item of ['a', 'b']) {
    const write = { txn: 't1', expectCurrent: null };
    const pending = await backend.stage(
      item,
      fields({ A: item }),
      [note('db', 1, ['A'])],
      write,
      signal,
    );
    await backend.promote(item, { ...write, pending }, signal);
  }
  await journal.localRows.transact((rows) => {
    const [a, b] = [rows.version('a', 1), rows.version('b', 1)];
    if (a === null || b === null) throw new Error('Both were written.');
    rows.remove('b', 1);
    rows.insert({ ...b, sealed: a.sealed });
  });
  await expect(backend.read('b', 'current', signal)).rejects.toMatchObject({ code: 'seal-broken' });
  expect((await backend.preflight('b', signal))[0]).toMatchObject({ level: 'red' });
});

test('another key is reported as unknown, by read and by preflight', async () => {
  await using here = await place();
  const { backend, journal } = await here.open();
  const write = { txn: 't1', expectCurrent: null };
  const pending = await backend.stage(
    'i',
    fields({ A: 'x' }),
    [note('db', 1, ['A'])],
    write,
    signal,
  );
  await backend.promote('i', { ...write, pending }, signal);
  expect((await journal.keysUsed()).length).toBe(1);
  const stranger = await here.open(random.bytes(32));
  await expect(stranger.backend.read('i', 'current', signal)).rejects.toMatchObject({
    code: 'key-unknown',
    effect: 'none',
  });
  expect((await stranger.backend.preflight('i', signal))[0]).toMatchObject({
    name: 'backend-unreadable',
    level: 'red',
  });
});

test('a secret renamed in the policy takes its fields along', async () => {
  await using here = await place();
  const { backend } = await here.open();
  const write = { txn: 't1', expectCurrent: null };
  const first = await backend.stage(
    'i',
    fields({ A: 'x' }),
    [note('old-name', 1, ['A'])],
    write,
    signal,
  );
  await backend.promote('i', { ...write, pending: first }, signal);
  const change = { txn: 't2', expectCurrent: first };
  const second = await backend.stage(
    'i',
    fields({ A: 'y' }),
    [note('new-name', 1, ['A'])],
    change,
    signal,
  );
  await backend.promote('i', { ...change, pending: second }, signal);
  const { current } = await backend.describe('i', signal);
  expect(Object.keys(current?.owners ?? {})).toEqual(['new-name']);
});

test('a neighbour that came and went between reading and writing is noticed: its version number is not reused', async () => {
  await using here = await place();
  const { backend, journal } = await here.open();
  const key = localKey(random.bytes(32), random);
  let interfere = true;
  const rows: LocalRows = {
    ...journal.localRows,
    async transact(work) {
      if (interfere) {
        interfere = false;
        const write = { txn: 'neighbour', expectCurrent: null };
        await backend.stage('i', fields({ B: 'b' }), [note('beta', 1, ['B'])], write, signal);
        await backend.discard('i', 'neighbour', signal);
      }
      return journal.localRows.transact(work);
    },
  };
  const sealer = createSealer({ current: key, all: [key] }, random);
  const slow = createLocalBackend({ rows, sealer, digestKey: await key.derive('d'), clock });
  const write = { txn: 't1', expectCurrent: null };
  const version = await slow.stage(
    'i',
    fields({ A: 'a' }),
    [note('alpha', 1, ['A'])],
    write,
    signal,
  );
  expect(version).toBe('2');
  expect((await slow.read('i', 'pending', signal)).fields['A']?.equals(new Secret('a'))).toBe(true);
});
