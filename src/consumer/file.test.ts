import { execFile } from 'node:child_process';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import type { ConsumerSpec } from '../policy/policy.ts';
import { Secret } from '../secret/secret.ts';
import type { Change, SecretReader } from './consumer.ts';
import { createConsumer } from './create.ts';
import { ownUid } from './guards.ts';

type FileSpec = Extract<ConsumerSpec, { kind: 'file' }>;

const isRoot = ownUid() === 0;
if (!isRoot) console.warn('skipping the tests that need another account: not run as root');

let directory = '';
let backend: SecretReader['read'];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-file-'));
  backend = async () => [live(7, { PGUSER: 'reports_a', PGPASSWORD: 'pa$$ "word"' })];
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function live(generation: number, fields: Record<string, string>) {
  return {
    generation,
    fields: Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, new Secret(value)]),
    ),
  };
}

const current: Change = { secret: 'reports-db', generation: 7, stage: 'current' };
const path = () => join(directory, 'db.json');

function reload(spec: Partial<FileSpec> = {}, change: Change = current): Promise<void> {
  return consumer(spec).reload([change], AbortSignal.timeout(30_000));
}

function consumer(spec: Partial<FileSpec> = {}) {
  return createConsumer(
    {
      kind: 'file',
      path: 'db.json',
      format: 'json',
      template: null,
      mode: 0o600,
      then: null,
      role: 'user',
      report: null,
      timeoutMs: 10_000,
      ...spec,
    },
    {
      directory,
      read: { read: (...given) => backend(...given) },
      resolveReference: async () => ({}),
      clock: systemClock(),
      random: systemRandom(),
      redactor: { add: () => undefined },
    },
  );
}

test('json holds the name, the generation and the values, for its owner alone', async () => {
  await reload();
  expect(JSON.parse(await readFile(path(), 'utf8'))).toEqual({
    secret: 'reports-db',
    generation: 7,
    fields: { PGUSER: 'reports_a', PGPASSWORD: 'pa$$ "word"' },
  });
  expect((await stat(path())).mode & 0o777).toBe(0o600);
  expect(await readdir(directory)).toEqual(['db.json']);
});

test('the mode is what the policy says, whatever the umask', async () => {
  const before = process.umask(0o077);
  try {
    await reload({ mode: 0o640 });
  } finally {
    process.umask(before);
  }
  expect((await stat(path())).mode & 0o777).toBe(0o640);
  await reload({ mode: 0o400 });
  expect((await stat(path())).mode & 0o777).toBe(0o400);
});

test('a verifier gets every generation that is accepted, the newest last', async () => {
  backend = async () => [live(6, { key: 'old' }), live(7, { key: 'new' })];
  await reload({ role: 'verifier' }, { ...current, stage: 'pending' });
  expect(JSON.parse(await readFile(path(), 'utf8'))).toEqual({
    secret: 'reports-db',
    generation: 7,
    accepted: [
      { generation: 6, fields: { key: 'old' } },
      { generation: 7, fields: { key: 'new' } },
    ],
  });
  backend = async () => [live(7, { key: 'new' })];
  await reload({ role: 'verifier' }, { ...current, stage: 'retired' });
  expect(await readFile(path(), 'utf8')).not.toContain('old');
});

test('a verifier cannot be given a format that holds one generation', () => {
  for (const format of ['env', 'template'] as const) {
    expect(() => consumer({ role: 'verifier', format })).toThrow(
      expect.objectContaining({ code: 'policy-invalid' }),
    );
  }
});

const awkward: readonly string[] = [
  'plain',
  '',
  'two words',
  `single ' quote`,
  `both ' and "`,
  '$HOME `id` \\ $(id)',
  `all ' of " it $HOME \`id\` \\`,
  '# no comment',
  'tab\there',
  'ünïcödé',
  "'",
  '"',
  '!history',
];

test('a shell that reads the env file sees exactly the values', async () => {
  const names = awkward.map((_, at) => `V${at}`);
  backend = async () => [
    live(7, Object.fromEntries(awkward.map((value, at) => [`V${at}`, value]))),
  ];
  await reload({ format: 'env' });
  const script = `set -a; . "$1"; exec "$2" -e 'console.log(JSON.stringify(process.env))'`;
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    script,
    'sh',
    path(),
    process.execPath,
  ]);
  const seen = JSON.parse(stdout) as Record<string, string>;
  expect(names.map((name) => seen[name])).toEqual(awkward);
  expect(seen['ROTATED_GENERATION']).toBe('7');
});

test('env lines refuse what would become another line or no variable, and do not repeat it', async () => {
  for (const fields of [
    { KEY: 'canary-1\nPATH=/evil' },
    { KEY: 'canary-1\r' },
    { KEY: 'canary-1\0' },
    { 'api-key': 'canary-1' },
    { ROTATED_GENERATION: 'canary-1' },
  ]) {
    backend = async () => [live(7, fields)];
    const error = await reload({ format: 'env' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'policy-invalid', effect: 'none' });
    expect(JSON.stringify(error)).not.toContain('canary-1');
  }
  expect(await readdir(directory)).toEqual([]);
});

test('a template is filled in, and a name it may not use is a mistake that leaves the file alone', async () => {
  await writeFile(
    join(directory, 'db.tmpl'),
    'postgres://${PGUSER}@h/db # ${generation} $${literal} $PGUSER {PGUSER}\n',
  );
  await reload({ format: 'template', template: 'db.tmpl' });
  expect(await readFile(path(), 'utf8')).toBe(
    'postgres://reports_a@h/db # 7 ${literal} $PGUSER {PGUSER}\n',
  );
  for (const name of ['password', 'toString', '__proto__', '']) {
    await writeFile(join(directory, 'db.tmpl'), `\${${name}}`);
    await expect(reload({ format: 'template', template: 'db.tmpl' })).rejects.toMatchObject({
      code: 'policy-invalid',
    });
  }
  await expect(reload({ format: 'template', template: 'none.tmpl' })).rejects.toMatchObject({
    code: 'not-found',
  });
  expect(await readFile(path(), 'utf8')).toContain('reports_a');
});

test('a value that looks like a placeholder is not filled in again', async () => {
  backend = async () => [live(7, { a: '${b}', b: 'secret' })];
  await writeFile(join(directory, 'db.tmpl'), '${a}');
  await reload({ format: 'template', template: 'db.tmpl' });
  expect(await readFile(path(), 'utf8')).toBe('${b}');
});

test('a file that says the same already is not written again', async () => {
  await reload();
  const before = await stat(path());
  await reload();
  expect((await stat(path())).ino).toBe(before.ino);
  backend = async () => [live(8, { PGUSER: 'reports_b' })];
  await reload({}, { ...current, generation: 8 });
  expect((await stat(path())).ino).not.toBe(before.ino);
});

test('a link, a folder or a pipe in the place of the file is refused and left alone', async () => {
  await writeFile(join(directory, 'elsewhere'), 'untouched');
  await symlink('elsewhere', path());
  await expect(reload()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  expect(await readFile(join(directory, 'elsewhere'), 'utf8')).toBe('untouched');
  await rm(path());
  await mkdir(path());
  await expect(reload()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  await rm(path(), { recursive: true });
  await promisify(execFile)('mkfifo', [path()]);
  await expect(reload()).rejects.toMatchObject({ code: 'consumer-unsafe' });
});

test('a folder that everybody can write is refused, also further up', async () => {
  const inner = join(directory, 'inner');
  await mkdir(inner);
  for (const folder of [inner, directory]) {
    await chmod(folder, 0o777);
    await expect(reload({ path: 'inner/db.json' })).rejects.toMatchObject({
      code: 'consumer-unsafe',
      next: expect.stringContaining(folder) as string,
    });
    await chmod(folder, 0o755);
  }
  await reload({ path: 'inner/db.json' });
  expect(await readdir(inner)).toEqual(['db.json']);
});

test.runIf(isRoot)('a file keeps its owner, whoever writes it', async () => {
  await chown(directory, 12_345, 12_345);
  await writeFile(path(), 'old', { mode: 0o600 });
  await chown(path(), 12_345, 54_321);
  await reload();
  expect(await stat(path())).toMatchObject({ uid: 12_345, gid: 54_321 });
  expect((await stat(path())).mode & 0o777).toBe(0o600);
});

test.runIf(isRoot)('a file that a stranger put into a shared folder gets no secret', async () => {
  await chmod(directory, 0o1777);
  await writeFile(path(), 'bait');
  await chown(path(), 12_345, 12_345);
  await expect(reload()).rejects.toMatchObject({ code: 'consumer-unsafe' });
  expect(await readFile(path(), 'utf8')).toBe('bait');
});

test.runIf(isRoot)("a stranger's link on the way to the folder is refused", async () => {
  const { lchown } = await import('node:fs/promises');
  await mkdir(join(directory, 'real'));
  await symlink('real', join(directory, 'way'));
  await reload({ path: 'way/db.json' });
  await lchown(join(directory, 'way'), 12_345, 12_345);
  await expect(reload({ path: 'way/db.json' })).rejects.toMatchObject({ code: 'consumer-unsafe' });
});

test('what a killed render left behind is removed by the next, and nothing else is', async () => {
  const left = '.db.json.rotated-0123456789abcdef.tmp';
  const others = ['.db.json.rotated-0123.tmp', '.other.json.rotated-0123456789abcdef.tmp', 'x.tmp'];
  for (const name of [left, ...others]) await writeFile(join(directory, name), 'canary');
  await reload();
  expect((await readdir(directory)).sort()).toEqual([...others, 'db.json'].sort());
  // Also where there is nothing to write.
  await writeFile(join(directory, left), 'canary');
  await reload();
  expect(await readdir(directory)).not.toContain(left);
});

test('a render that fails half-way leaves the old file and no copy', async () => {
  await writeFile(path(), 'old');
  const controller = new AbortController();
  const spec = consumer();
  backend = async () => {
    controller.abort();
    return [live(7, { a: 'new' })];
  };
  await expect(spec.reload([current], controller.signal)).rejects.toMatchObject({
    code: 'timeout',
  });
  expect(await readdir(directory)).toEqual(['db.json']);
  expect(await readFile(path(), 'utf8')).toBe('old');
});

test('a render that was overtaken by a newer generation ends with the newer one', async () => {
  let reads = 0;
  // As after SIGSTOP between read and rename: another process promoted and rendered generation 8 meanwhile.
  backend = async () => [live(++reads === 1 ? 7 : 8, { key: reads === 1 ? 'old' : 'new' })];
  await reload();
  expect(JSON.parse(await readFile(path(), 'utf8'))).toMatchObject({
    generation: 8,
    fields: { key: 'new' },
  });
});

test('a render overtaken again and again gives up and says so', async () => {
  let generation = 7;
  backend = async () => [live(generation++, { key: 'value' })];
  await expect(reload()).rejects.toMatchObject({ code: 'consumer-failed', effect: 'applied' });
});

test('a generation that the backend does not serve yet is not announced by an older file', async () => {
  await expect(reload({}, { ...current, generation: 8 })).rejects.toMatchObject({
    code: 'consumer-failed',
    effect: 'none',
    secret: 'reports-db',
  });
  expect(await readdir(directory)).toEqual([]);
  backend = async () => [];
  await expect(reload()).rejects.toMatchObject({ code: 'not-found' });
});

test('two secrets in one file are refused', async () => {
  const both = consumer().reload(
    [current, { ...current, secret: 'other' }],
    AbortSignal.timeout(9_000),
  );
  await expect(both).rejects.toMatchObject({ code: 'policy-invalid', effect: 'none' });
});

test('a reader that cannot be told is consumer-failed with the file in place; a probe waits for it', async () => {
  const then = {
    signal: 'SIGHUP',
    target: { kind: 'pidfile', path: 'none.pid' },
    owner: null,
  } as const;
  await expect(reload({ then })).rejects.toMatchObject({
    code: 'consumer-failed',
    effect: 'applied',
  });
  expect(await readdir(directory)).toEqual(['db.json']);
  await consumer({ then }).probe(AbortSignal.timeout(9_000));
  await writeFile(join(directory, 'none.pid'), '1', { mode: 0o600 });
  await expect(consumer({ then }).probe(AbortSignal.timeout(9_000))).rejects.toMatchObject({
    code: 'consumer-unsafe',
  });
});

test('a probe says that the folder is missing, and writes nothing', async () => {
  await consumer().probe(AbortSignal.timeout(9_000));
  expect(await readdir(directory)).toEqual([]);
  await expect(
    consumer({ path: 'none/db.json' }).probe(AbortSignal.timeout(9_000)),
  ).rejects.toMatchObject({ code: 'not-found' });
});

test('a path written in two ways is one consumer', () => {
  expect(consumer({ path: './x/../db.json' }).id).toBe(consumer({ path: path() }).id);
});
