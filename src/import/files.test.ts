/** A config replaced as a whole, and its sealed copy: old or new, never between; its rights kept; nobody's edits lost. */
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemRandom } from '../clock.ts';
import { fileKey } from '../secret/key-sources.ts';
import { createSealer } from '../secret/sealer.ts';
import { type Copies, digestOf, openCopies } from './copies.ts';
import { copiesBeside, gitAbove } from './leftovers.ts';
import { readWhole, replaceFile } from './replace-file.ts';
import { Secret } from '../secret/secret.ts';

const random = systemRandom();
let folder = '';
beforeEach(() => {
  folder = realpathSync(mkdtempSync(path.join(tmpdir(), 'import-files-')));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('a replaced file', () => {
  const file = () => path.join(folder, 'config.json');

  test('has the mode it had, and nothing is left beside it', async () => {
    for (const mode of [0o600, 0o644, 0o440]) {
      writeFileSync(file(), 'old');
      chmodSync(file(), mode);
      await replaceFile(await readWhole(file(), 100), Buffer.from('new'), random);
      expect(readFileSync(file(), 'utf8')).toBe('new');
      expect(statSync(file()).mode & 0o777).toBe(mode);
      expect(readdirSync(folder)).toEqual(['config.json']);
      rmSync(file());
    }
  });

  test('is followed through a link, which stays one', async () => {
    mkdirSync(path.join(folder, 'dotfiles'));
    const real = path.join(folder, 'dotfiles', 'claude.json');
    writeFileSync(real, 'old');
    symlinkSync(real, file());
    const read = await readWhole(file(), 100);
    expect(read.real).toBe(real);
    await replaceFile(read, Buffer.from('new'), random);
    expect(readFileSync(real, 'utf8')).toBe('new');
    expect(realpathSync(file())).toBe(real);
  });

  test('that was changed meanwhile is refused and stays as the other left it', async () => {
    writeFileSync(file(), 'old');
    const read = await readWhole(file(), 100);
    const change = (point: string) => {
      if (point === 'written') writeFileSync(file(), 'theirs');
    };
    await expect(replaceFile(read, Buffer.from('new'), random, change)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('was changed meanwhile') as string,
    });
    expect(readFileSync(file(), 'utf8')).toBe('theirs');
    expect(readdirSync(folder)).toEqual(['config.json']);
  });

  test('with another hard link is refused: that one would go on holding the keys', async () => {
    writeFileSync(file(), 'old');
    linkSync(file(), path.join(folder, 'twin.json'));
    const read = await readWhole(file(), 100);
    await expect(replaceFile(read, Buffer.from('new'), random)).rejects.toMatchObject({
      code: 'refused',
    });
    expect(readFileSync(file(), 'utf8')).toBe('old');
  });

  test('stopped at any step is the old one or the new one', async () => {
    for (const [stop, expected] of [
      ['written', 'old'],
      ['compared', 'old'],
      ['never', 'new'],
    ] as const) {
      writeFileSync(file(), 'old');
      const read = await readWhole(file(), 100);
      const done = replaceFile(read, Buffer.from('new'), random, (point) => {
        if (point === stop) throw new Error('stopped');
      });
      await done.catch(() => undefined);
      expect(readFileSync(file(), 'utf8')).toBe(expected);
    }
  });

  test('that is missing, too large or a folder is refused before anything is read', async () => {
    await expect(readWhole(file(), 100)).rejects.toMatchObject({ code: 'not-found' });
    writeFileSync(file(), 'x'.repeat(101));
    await expect(readWhole(file(), 100)).rejects.toMatchObject({ code: 'too-large' });
    await expect(readWhole(folder, 100)).rejects.toMatchObject({ code: 'refused' });
  });
});

describe('a sealed copy', () => {
  const text = '{"mcpServers":{"a":{"env":{"API_KEY":"sk-CANARY7-0123456789"}}}}';
  const real = '/home/anna/.claude.json';
  const copyOf = (before: string) => ({
    references: ['local://mcp/a#API_KEY'],
    before: Buffer.from(before),
    afterDigest: digestOf(Buffer.from(`after ${before}`)),
  });

  async function copies(): Promise<Copies> {
    const key = fileKey(path.join(folder, 'key'), { random, create: true });
    return openCopies(path.join(folder, 'state'), createSealer(await key.load(), random), random);
  }

  function everythingUnder(place: string): string {
    return readdirSync(place, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'latin1'))
      .join('\n');
  }

  test('gives back what was put in; no byte of it lies in the open, and nobody else can read it', async () => {
    const kept = await copies();
    await kept.add(real, copyOf(text), 5);
    expect((await kept.newest(real))?.copy).toEqual({ at: 5, ...copyOf(text) });
    const all = everythingUnder(path.join(folder, 'state'));
    expect(all).toContain(real);
    for (const form of ['CANARY7', Buffer.from('CANARY7').toString('base64').slice(0, 8)]) {
      expect(all).not.toContain(form);
    }
    const own = path.join(folder, 'state', 'imports');
    expect(statSync(own).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(own)) {
      expect(statSync(path.join(own, name)).mode & 0o777).toBe(0o600);
    }
  });

  test('the newest comes first, then the one before; at most ten are kept', async () => {
    const kept = await copies();
    for (let number = 1; number <= 12; number++) await kept.add(real, copyOf(`${number}`), number);
    const seen: string[] = [];
    for (let tries = 0; tries < 20; tries++) {
      const newest = await kept.newest(real);
      if (newest === null) break;
      seen.push(newest.copy.before.toString());
      kept.remove(newest.id);
    }
    expect(seen).toEqual(['12', '11', '10', '9', '8', '7', '6', '5', '4', '3']);
  });

  test('of one file does not open as the copy of another', async () => {
    const kept = await copies();
    const id = await kept.add(real, copyOf(text), 5);
    const other = await kept.add('/home/anna/other.json', copyOf('x'), 6);
    const own = path.join(folder, 'state', 'imports');
    writeFileSync(path.join(own, other), readFileSync(path.join(own, id)));
    await expect(kept.newest('/home/anna/other.json')).rejects.toMatchObject({
      code: 'seal-broken',
    });
  });
});

describe('where else a key may lie', () => {
  test('copies beside the config that hold it are found; others are not named', () => {
    const real = path.join(folder, '.claude.json');
    writeFileSync(real, 'x');
    writeFileSync(path.join(folder, '.claude.json.backup'), 'a sk-CANARY7 b');
    writeFileSync(path.join(folder, 'claude.old.json'), 'nothing');
    writeFileSync(path.join(folder, 'unrelated'), 'sk-CANARY7');
    expect(copiesBeside(real, [new Secret('sk-CANARY7')], 1_000)).toEqual([
      path.join(folder, '.claude.json.backup'),
    ]);
  });

  test('a git work tree above it is found', () => {
    mkdirSync(path.join(folder, 'shop', '.vscode'), { recursive: true });
    expect(gitAbove(path.join(folder, 'shop', '.vscode', 'mcp.json'))).not.toBe(
      path.join(folder, 'shop'),
    );
    mkdirSync(path.join(folder, 'shop', '.git'));
    expect(gitAbove(path.join(folder, 'shop', '.vscode', 'mcp.json'))).toBe(
      path.join(folder, 'shop'),
    );
  });
});
