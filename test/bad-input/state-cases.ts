/** Everything around the policies that can be bad: keys, disks, directories, databases, a second daemon. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { systemClock } from '../../src/clock.ts';
import { isRotatedError } from '../../src/errors.ts';
import { openSqliteJournal } from '../../src/journal/sqlite.ts';
import { databaseName } from '../../src/state-place.ts';
import { mount, umount } from '../support/mounts.ts';
import type { CaseResult } from './case.ts';
import {
  copyOf,
  type Deployment,
  digestOf,
  lookAt,
  type Ran,
  rotate,
  stillWorks,
} from './deployment.ts';

/** Not taken from the program: what scripts rely on. 3: refused as it stands; 1: the machine fails it. */
const exits = {
  'key-unsafe': 3,
  'key-missing': 3,
  'key-unknown': 3,
  'policy-unsafe': 3,
  'state-busy': 3,
  'state-newer': 3,
  'state-network': 3,
  'state-corrupt': 1,
  'state-read-only': 1,
  'state-full': 1,
} as const;
type Expected = keyof typeof exits;

export interface StateCase {
  readonly name: string;
  /** Needs mounts of its own. */
  readonly mounts?: true;
  run(spoiled: Deployment): Promise<Finding>;
}

interface Finding {
  readonly ran: Pick<Ran, 'exit' | 'json' | 'out' | 'err'>;
  readonly expected: Expected;
  readonly stateIntact: boolean;
  readonly complaints?: readonly string[];
}

interface PrintedError {
  readonly code?: string;
  readonly message?: string;
  readonly next?: string;
}

export async function stateCase(
  good: Deployment,
  scratch: string,
  one: StateCase,
): Promise<CaseResult> {
  const spoiled = copyOf(good, path.join(scratch, one.name.replaceAll(/\W+/g, '-')));
  const { ran, expected, stateIntact, complaints = [] } = await one.run(spoiled);
  const error = (ran.json?.['error'] ?? {}) as PrintedError;
  const wanted = exits[expected];
  const wrong = [
    ...complaints,
    ...(error.code === expected
      ? []
      : [
          `code ${error.code ?? 'none'} instead of ${expected}: ${ran.out.slice(-500)}${ran.err.slice(-500)}`,
        ]),
    ...(ran.exit === wanted ? [] : [`exit ${ran.exit} instead of ${wanted}`]),
    ...((error.message ?? '') === '' ? ['no message'] : []),
    ...((error.next ?? '') === '' ? ['no next step'] : []),
  ];
  return {
    name: one.name,
    code: error.code ?? null,
    line: null,
    column: null,
    exit: ran.exit,
    stateIntact,
    complaints: wrong,
  };
}

export const stateCases: readonly StateCase[] = [
  {
    name: 'a key file that others can read',
    run: (spoiled) =>
      refusedUnchanged(
        spoiled,
        'key-unsafe',
        () => chmodSync(spoiled.key, 0o644),
        () => chmodSync(spoiled.key, 0o600),
      ),
  },
  {
    name: 'a key file that is gone',
    run: (spoiled) => {
      const aside = `${spoiled.key}.aside`;
      return refusedUnchanged(
        spoiled,
        'key-missing',
        () => renameSync(spoiled.key, aside),
        () => renameSync(aside, spoiled.key),
      );
    },
  },
  {
    name: "another deployment's key",
    run: (spoiled) => {
      const own = readFileSync(spoiled.key);
      const other = `rotated-key-1:${Buffer.alloc(32, 7).toString('base64')}\n`;
      return refusedUnchanged(
        spoiled,
        'key-unknown',
        () => writeFileSync(spoiled.key, other),
        () => writeFileSync(spoiled.key, own),
      );
    },
  },
  {
    name: 'a state directory that others can write',
    run: (spoiled) =>
      refusedUnchanged(
        spoiled,
        'policy-unsafe',
        () => chmodSync(spoiled.state, 0o777),
        () => chmodSync(spoiled.state, 0o700),
      ),
  },
  {
    name: 'a policy folder that others can write',
    run: (spoiled) =>
      refusedUnchanged(
        spoiled,
        'policy-unsafe',
        () => chmodSync(spoiled.policies, 0o777),
        () => chmodSync(spoiled.policies, 0o700),
        // Found out when the directory is already owned: the lease was taken and given back, nothing else.
        withoutLease,
      ),
  },
  { name: 'a second daemon', run: secondDaemon },
  {
    name: 'a corrupt database: pages in the middle overwritten',
    run: (spoiled) =>
      corrupted(spoiled, (file) => {
        const { size } = statSync(file);
        const handle = openSync(file, 'r+');
        // Whole pages: what stands inside a cell is for the seals and the audit chain to notice.
        writeSync(
          handle,
          Buffer.alloc(16 * 1_024, 0xa5),
          0,
          16 * 1_024,
          Math.floor(size / 2 / 1_024) * 1_024,
        );
        closeSync(handle);
      }),
  },
  {
    name: 'a corrupt database: truncated',
    run: (spoiled) =>
      corrupted(spoiled, (file) => truncateSync(file, Math.floor(statSync(file).size / 2))),
  },
  {
    name: 'a corrupt database: not a database',
    run: (spoiled) => corrupted(spoiled, (file) => writeFileSync(file, 'hello\n'.repeat(1_000))),
  },
  {
    name: 'a state directory of a newer version',
    run: (spoiled) =>
      refusedUnchanged(
        spoiled,
        'state-newer',
        () => setVersion(spoiled, 1),
        () => setVersion(spoiled, -1),
      ),
  },
  { name: 'a network file system (its type is injected, none is mounted)', run: networkFileSystem },
  { name: 'a read-only state directory', mounts: true, run: readOnly },
  ...[0, 16, 48, 96].map(
    (leftKb): StateCase => ({
      name:
        leftKb === 0
          ? 'a full disk'
          : `a disk with ${leftKb} KB left, full in the middle of a rotation`,
      mounts: true,
      run: (spoiled) => fullDisk(spoiled, leftKb),
    }),
  ),
];

/** The daemon and a command that acts are refused and change nothing; undone, everything goes on. */
async function refusedUnchanged(
  spoiled: Deployment,
  expected: Expected,
  spoil: () => void,
  mend: () => void,
  digest: (folder: string) => string = digestOf,
): Promise<Finding> {
  spoil();
  const before = digest(spoiled.state);
  const daemon = await rotate(spoiled, [], 'rotated');
  const ran = await rotate(spoiled, ['run', 'good']);
  const isUnchanged = digest(spoiled.state) === before;
  mend();
  const daemonCode = (daemon.json?.['error'] as PrintedError | undefined)?.code;
  const complaints =
    daemonCode === expected ? [] : [`the daemon said ${daemonCode}: ${daemon.out}${daemon.err}`];
  if (!isUnchanged) complaints.push('the state directory was changed');
  return { ran, expected, stateIntact: isUnchanged && (await stillWorks(spoiled)), complaints };
}

async function corrupted(spoiled: Deployment, damage: (file: string) => void): Promise<Finding> {
  const file = path.join(spoiled.state, databaseName);
  const aside = path.join(spoiled.folder, 'backup');
  copyFileSync(file, aside);
  return refusedUnchanged(
    spoiled,
    'state-corrupt',
    () => damage(file),
    () => {
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
      copyFileSync(aside, file);
      chmodSync(file, 0o600);
    },
  );
}

/** Every row but the one with the lease. */
function withoutLease(state: string): string {
  const database = new DatabaseSync(path.join(state, databaseName), { readOnly: true });
  try {
    const tables = database
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('state')")
      .all();
    return JSON.stringify(
      tables.map(({ name }) => database.prepare(`SELECT * FROM ${String(name)}`).all()),
    );
  } finally {
    database.close();
  }
}

function setVersion({ state }: Deployment, by: number): void {
  const database = new DatabaseSync(path.join(state, databaseName));
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  database.exec(`PRAGMA user_version = ${version + by}`);
  database.close();
}

async function secondDaemon(spoiled: Deployment): Promise<Finding> {
  const first = spawn(process.execPath, [spoiled.built.rotated, '--json', ...spoiled.args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(first, 'close');
  try {
    for await (const line of createInterface({ input: first.stdout }))
      if (line.includes('"ready"')) break;
    first.stdout.resume();
    const ran = await rotate(spoiled, [], 'rotated');
    const answers = (await lookAt(spoiled)) !== null && first.exitCode === null;
    const names = ran.out.includes(`process ${first.pid}`);
    const stateIntact = await stillWorks(spoiled);
    const complaints = [
      ...(answers ? [] : ['the first one stopped']),
      ...(names ? [] : ['the first one is not named']),
    ];
    return { ran, expected: 'state-busy', stateIntact, complaints };
  } finally {
    first.kill('SIGTERM');
    await ended;
  }
}

/** No server for one is at hand: the journal is told that its directory is on NFS, as statfs would tell it. */
async function networkFileSystem(spoiled: Deployment): Promise<Finding> {
  const before = digestOf(spoiled.state);
  let ran: Finding['ran'] = { exit: 0, json: null, out: 'it was opened', err: '' };
  try {
    await using _journal = await openSqliteJournal({
      directory: spoiled.state,
      clock: systemClock(),
      chain: {
        next: () => {
          throw new Error('Nothing is written here.');
        },
      },
      fileSystemOf: () => ({ magic: 0x6969, name: 'nfs4' }),
    });
  } catch (error) {
    if (!isRotatedError(error)) throw error;
    ran = {
      exit: exits[error.code as Expected],
      json: { error: error.toJSON() },
      out: '',
      err: '',
    };
  }
  const isUnchanged = digestOf(spoiled.state) === before;
  return {
    ran,
    expected: 'state-network',
    stateIntact: isUnchanged && (await stillWorks(spoiled)),
  };
}

async function readOnly(spoiled: Deployment): Promise<Finding> {
  const before = digestOf(spoiled.state);
  mount('--bind', spoiled.state, spoiled.state);
  mount('-o', 'remount,ro,bind', spoiled.state);
  let ran: Ran;
  let shown: Ran;
  try {
    ran = await rotate(spoiled, ['run', 'good']);
    shown = await rotate(spoiled, ['status']);
  } finally {
    umount(spoiled.state);
  }
  const complaints =
    shown.exit === 0 ? [] : [`rotate status cannot read it: ${shown.out}${shown.err}`];
  const isUnchanged = digestOf(spoiled.state) === before;
  return {
    ran,
    expected: 'state-read-only',
    stateIntact: isUnchanged && (await stillWorks(spoiled)),
    complaints,
  };
}

const diskBytes = 4 * 1_024 * 1_024;

/** Filled but for `leftKb`; afterwards freed again, where the interrupted rotation has to end by itself. */
async function fullDisk(spoiled: Deployment, leftKb: number): Promise<Finding> {
  const disk = `${spoiled.folder}-disk`;
  await mkdir(disk);
  mount('-t', 'tmpfs', '-o', `size=${diskBytes},mode=0700`, 'tmpfs', disk);
  try {
    const moved = { ...copyOf(spoiled, path.join(disk, 'd')), key: spoiled.key };
    const filler = path.join(disk, 'filler');
    fill(filler, statfsSync(disk).bavail * statfsSync(disk).bsize - leftKb * 1_024);
    const ran = await rotate(moved, ['run', 'good']);
    const whileFull = await rotate(moved, ['status']);
    unlinkSync(filler);
    const after = await lookAt(moved);
    const complaints = [
      ...(after === null ? ['status or audit verify fail once there is space'] : []),
      ...(whileFull.exit === 0 ? [] : [`rotate status fails while it is full: ${whileFull.out}`]),
    ];
    // The first run ends what was interrupted; then the good secret rotates as ever.
    const resumed = await rotate(moved, ['run', 'good']);
    if (resumed.exit !== 0) complaints.push(`it does not go on: ${resumed.out}`);
    return {
      ran,
      expected: 'state-full',
      stateIntact: after !== null && (await stillWorks(moved)),
      complaints,
    };
  } finally {
    umount(disk);
  }
}

function fill(file: string, bytes: number): void {
  const handle = openSync(file, 'w', 0o600);
  writeSync(handle, Buffer.alloc(bytes));
  fsyncSync(handle);
  closeSync(handle);
}
