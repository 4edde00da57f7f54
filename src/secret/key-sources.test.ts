/** Key sources: what is made on a first run, what is unsafe, and what a person is told. */
import {
  chmod,
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
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemRandom } from '../clock.ts';
import { credentialKey, environmentKey, fileKey, freshKeyLine } from './key-sources.ts';

const random = systemRandom();
let directory = '';
let path = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-key-'));
  path = join(directory, 'deep', 'key');
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const made = async (text: string, mode = 0o600): Promise<void> => {
  await mkdir(join(directory, 'deep'), { recursive: true });
  await writeFile(path, text);
  await chmod(path, mode);
};

describe('a key file', () => {
  test.each([0, 0o022, 0o377])(
    'is made on the first run, for its owner alone, whatever the umask: %o',
    async (mask) => {
      await mkdir(join(directory, 'deep'));
      const old = process.umask(mask);
      try {
        const first = await fileKey(path, { random, create: true }).load();
        expect((await stat(path)).mode & 0o777).toBe(0o600);
        const second = await fileKey(path, { random, create: true }).load();
        expect(second.current.id).toBe(first.current.id);
        expect(await readdir(join(directory, 'deep'))).toEqual(['key']);
      } finally {
        process.umask(old);
      }
    },
  );

  test('made by many processes at once is one key', async () => {
    const rings = await Promise.all(
      Array.from({ length: 12 }, () => fileKey(path, { random, create: true }).load()),
    );
    expect(new Set(rings.map(({ current }) => current.id)).size).toBe(1);
    expect(await readdir(join(directory, 'deep'))).toEqual(['key']);
  });

  test('that is missing is never made where records exist already', async () => {
    await expect(fileKey(path, { random, create: false }).load()).rejects.toMatchObject({
      code: 'key-missing',
      message: expect.stringContaining(path),
    });
    expect(await readdir(directory)).toEqual([]);
  });

  test.each([0o640, 0o604, 0o660, 0o777])(
    'that others can read is refused with the command that mends it: %o',
    async (mode) => {
      await made(freshKeyLine(random), mode);
      await expect(fileKey(path, { random, create: true }).load()).rejects.toMatchObject({
        code: 'key-unsafe',
        message: expect.stringContaining(`0${mode.toString(8)}`),
        next: `chmod 600 ${path}`,
      });
    },
  );

  test.each([0o600, 0o400])('of mode %o or stricter is accepted', async (mode) => {
    await made(freshKeyLine(random), mode);
    expect((await fileKey(path, { random, create: false }).load()).warnings).toEqual([]);
  });

  test('reached through a link is judged by the file it points to', async () => {
    await made(freshKeyLine(random), 0o644);
    const link = join(directory, 'link');
    await symlink(path, link);
    await expect(fileKey(link, { random, create: true }).load()).rejects.toMatchObject({
      code: 'key-unsafe',
    });
  });

  test('of several lines seals with the last, opens with all, and derives from the first', async () => {
    const lines = [freshKeyLine(random), freshKeyLine(random), freshKeyLine(random)];
    await made(lines[0] ?? '');
    const before = await fileKey(path, { random, create: false }).load();
    await made(`# added in November\n${lines.join('\n')}`);
    const ring = await fileKey(path, { random, create: false }).load();
    expect(ring.all.map(({ id }) => id)).toEqual([...new Set(ring.all.map(({ id }) => id))]);
    expect(ring.all.length).toBe(3);
    expect(ring.current.id).toBe(ring.all[2]?.id);
    expect(ring.anchor.id).toBe(before.current.id);
  });

  test.each([
    ['', 'holds no key'],
    ['# nothing\n', 'holds no key'],
    ['hunter2\n', 'Line 1 of'],
    ['rotated-key-1:c2hvcnQ=\n', 'Line 1 of'],
  ])('that holds %j is refused, and its content is not repeated', async (text, message) => {
    await made(text);
    const error: unknown = await fileKey(path, { random, create: true })
      .load()
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'key-missing', message: expect.stringContaining(message) });
    expect(JSON.stringify(error)).not.toMatch(/hunter2|c2hvcnQ/);
    expect(await readFile(path, 'utf8')).toBe(text);
  });

  test('that is a directory is refused', async () => {
    await mkdir(path, { recursive: true });
    await expect(fileKey(path, { random, create: true }).load()).rejects.toMatchObject({
      code: 'key-missing',
    });
  });
});

describe('a systemd credential', () => {
  test('may show the mask of its access list, but must not be readable for everyone', async () => {
    const credential = join(directory, 'rotated-key');
    await writeFile(credential, freshKeyLine(random));
    await chmod(credential, 0o440);
    expect((await credentialKey(directory, { random }).load()).all.length).toBe(1);
    await chmod(credential, 0o444);
    await expect(credentialKey(directory, { random }).load()).rejects.toMatchObject({
      code: 'key-unsafe',
    });
  });

  test('that is missing is told with the line of the unit', async () => {
    await expect(credentialKey(directory, { random }).load()).rejects.toMatchObject({
      code: 'key-missing',
      next: expect.stringContaining('LoadCredentialEncrypted=rotated-key'),
    });
  });
});

describe('a key in the environment', () => {
  const variable = 'ROTATED_KEY';

  test('opens what the same key in a file sealed, and warns', async () => {
    const line = freshKeyLine(random);
    await made(line);
    const file = await fileKey(path, { random, create: false }).load();
    const ring = await environmentKey(`  ${line.trim()} ${freshKeyLine(random)}`, {
      random,
      variable,
    }).load();
    expect(ring.anchor.id).toBe(file.current.id);
    expect(ring.all.length).toBe(2);
    expect(ring.warnings).toEqual([expect.stringContaining(variable)]);
  });

  test.each([undefined, '', '  '])('that is empty is missing: %j', async (value) => {
    await expect(environmentKey(value, { random, variable }).load()).rejects.toMatchObject({
      code: 'key-missing',
      message: expect.stringContaining(variable),
    });
  });
});
