/** Folders of policy files: broken ones, unsafe ones, several that do not fit together, and what the cache keeps. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type CachedFile, type LoadContext, loadPolicies, type PolicyCache } from './load.ts';
import { ownAccount, unsafeRights } from './safety.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'rotated-policies-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const context: LoadContext = {
  backends: new Set(['local']),
  providers: ['generated'],
  providerSchema: (use) => (use === 'generated' ? z.strictObject({}) : undefined),
};

function put(name: string, text: string | Buffer): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

function secret(name: string, more = ''): string {
  return `secrets:\n  ${name}: { provider: generated, backend: local://mcp/${name}, every: 30d${more} }\n`;
}

function createCache(): PolicyCache & { readonly entries: Map<string, CachedFile>; puts: number } {
  const entries = new Map<string, CachedFile>();
  return {
    entries,
    puts: 0,
    get: async (key) => entries.get(key) ?? null,
    async put(list) {
      this.puts += list.length;
      for (const { key, digest, value } of list) entries.set(key, { digest, value });
    },
  };
}

async function load(more: Partial<LoadContext> = {}, target = folder) {
  const result = await loadPolicies(target, { ...context, ...more });
  return {
    ...result,
    names: result.policies.map(({ name }) => name),
    codes: result.problems.map(({ code, file }) => `${path.basename(file)} ${code}`),
  };
}

describe('a folder', () => {
  test('gives the policies of its YAML files in the order of their names, and nothing else', async () => {
    put('b.yaml', secret('two'));
    put('a.yml', secret('one'));
    put('.hidden.yaml', 'not: [yaml');
    put('notes.txt', 'no policy');
    mkdirSync(path.join(folder, 'below'));
    writeFileSync(path.join(folder, 'below', 'c.yaml'), secret('three'));
    expect(await load()).toMatchObject({ complete: true, names: ['one', 'two'], codes: [] });
  });

  test('one broken file never stops the good ones', async () => {
    put('a.yaml', secret('one'));
    put('b.yaml', `${secret('two')}  three: { provider: generated }\n`);
    put('c.yaml', 'secrets: [');
    put('d.yaml', secret('four'));
    const result = await load();
    expect(result.names).toEqual(['one', 'four']);
    expect(result.codes).toEqual(['b.yaml missing', 'b.yaml missing', 'c.yaml yaml-syntax']);
    expect(result.files.map(({ state }) => state)).toEqual(['good', 'broken', 'broken', 'good']);
  });

  test('a missing folder is not an empty one', async () => {
    expect(await load({}, path.join(folder, 'nowhere'))).toMatchObject({
      complete: false,
      codes: ['nowhere unreadable'],
    });
    expect(await load()).toMatchObject({ complete: true, names: [], codes: [] });
  });

  test('a single file can be named instead', async () => {
    const file = put('a.yaml', secret('one'));
    put('b.yaml', 'secrets: [');
    expect(await load({}, file)).toMatchObject({ names: ['one'], codes: [] });
  });

  test('a directory, a pipe, a file that is too large or not there are named as what they are', async () => {
    mkdirSync(path.join(folder, 'a.yaml'));
    execFileSync('mkfifo', [path.join(folder, 'b.yaml')]);
    put('c.yaml', Buffer.alloc(9 * 1024 * 1024, '#'));
    symlinkSync(path.join(folder, 'gone'), path.join(folder, 'd.yaml'));
    put('e.yaml', secret('one'));
    expect(await load()).toMatchObject({
      names: ['one'],
      codes: ['a.yaml not-a-file', 'b.yaml not-a-file', 'c.yaml too-large', 'd.yaml unreadable'],
    });
  });

  test('a link that stays in the folder is followed, as a mounted ConfigMap has it; one that leaves is refused', async () => {
    mkdirSync(path.join(folder, '..data'));
    writeFileSync(path.join(folder, '..data', 'a.yaml'), secret('one'));
    symlinkSync(path.join('..data', 'a.yaml'), path.join(folder, 'a.yaml'));
    const outside = mkdtempSync(path.join(tmpdir(), 'rotated-outside-'));
    try {
      writeFileSync(path.join(outside, 'b.yaml'), secret('two'));
      symlinkSync(path.join(outside, 'b.yaml'), path.join(folder, 'b.yaml'));
      expect(await load()).toMatchObject({ names: ['one'], codes: ['b.yaml policy-unsafe'] });
    } finally {
      rmSync(outside, { recursive: true });
    }
  });
});

describe('rights', () => {
  test.each([0o666, 0o622, 0o664, 0o620])('a file of mode %o is refused', async (mode) => {
    chmodSync(put('a.yaml', secret('one')), mode);
    put('b.yaml', secret('two'));
    const result = await load({
      account: { uid: process.getuid?.() ?? 0, isPrivateGroup: () => false },
    });
    expect(result).toMatchObject({ names: ['two'], codes: ['a.yaml policy-unsafe'] });
    expect(result.problems[0]?.example).toContain('chmod go-w');
  });

  test.each([0o777, 0o775, 0o1777])('a folder of mode %o is refused as a whole', async (mode) => {
    put('a.yaml', secret('one'));
    chmodSync(folder, mode);
    const result = await load({
      account: { uid: process.getuid?.() ?? 0, isPrivateGroup: () => false },
    });
    expect(result).toMatchObject({
      complete: false,
      names: [],
      codes: [`${path.basename(folder)} policy-unsafe`],
    });
  });

  test('a folder above that others can write is as bad', async () => {
    const inner = path.join(folder, 'inner');
    mkdirSync(inner);
    writeFileSync(path.join(inner, 'a.yaml'), secret('one'));
    chmodSync(folder, 0o777);
    expect(await load({}, inner)).toMatchObject({ complete: false });
  });

  test.skipIf(process.getuid?.() !== 0)(
    "another account's file is refused (needs root to make one)",
    async () => {
      chownSync(put('a.yaml', secret('one')), 4711, 4711);
      const result = await load();
      expect(result).toMatchObject({ names: [], codes: ['a.yaml policy-unsafe'] });
      expect(result.problems[0]?.message).toContain('another account');
    },
  );

  test("a group of one's own may write, but never for root", async () => {
    const stats = { uid: 1000, gid: 1000, mode: 0o100664 } as Parameters<typeof unsafeRights>[0];
    expect(unsafeRights(stats, { uid: 1000, isPrivateGroup: (gid) => gid === 1000 })).toBeNull();
    expect(unsafeRights(stats, { uid: 1000, isPrivateGroup: () => false })).toContain('group');
    expect(
      unsafeRights(Object.assign(Object.create(null), stats, { mode: 0o100666 }), {
        uid: 1000,
        isPrivateGroup: () => true,
      }),
    ).toContain('every account');
    if (process.getuid?.() === 0) expect(ownAccount()?.isPrivateGroup(0)).toBe(false);
  });
});

describe('files together', () => {
  test('the same name in two files is a mistake in the second, which names both places', async () => {
    const first = put('a.yaml', secret('one'));
    put('b.yaml', `# a comment\n${secret('one').replace('mcp/one', 'mcp/other')}`);
    const result = await load();
    expect(result).toMatchObject({ names: ['one'], codes: ['b.yaml duplicate-name'] });
    expect(result.problems[0]).toMatchObject({ line: 3, column: 3, path: 'secrets.one' });
    expect(result.problems[0]?.message).toContain(`${first}:2:3`);
    expect(result.policies[0]?.backend.item).toBe('mcp/one');
  });

  test('a hook may be defined in any file, and a group may span files', async () => {
    put('a.yaml', secret('one', ', group: pair, notify: [ops]'));
    put('b.yaml', secret('two', ', group: pair'));
    put('hooks.yaml', 'notifiers: { ops: { http: "https://hooks.example.com/x" } }\n');
    const result = await load();
    expect(result.codes).toEqual([]);
    expect(result.policies[0]?.notify).toEqual([
      { kind: 'http', name: 'ops', url: 'https://hooks.example.com/x' },
    ]);
    expect(result.notifiers).toHaveLength(1);
  });

  test('a hook that nobody defines is a mistake where it is named', async () => {
    put('a.yaml', secret('one', ', notify: [osp]'));
    put('hooks.yaml', 'notifiers: { ops: { http: "https://hooks.example.com/x" } }\n');
    expect(await load()).toMatchObject({ names: [], codes: ['a.yaml unknown-notifier'] });
  });

  test('a broken file of hooks stops no policy that names one', async () => {
    put('a.yaml', secret('one', ', notify: [ops]'));
    put('hooks.yaml', 'notifiers: { ops: [');
    expect(await load()).toMatchObject({ names: ['one'], codes: ['hooks.yaml yaml-syntax'] });
    put('hooks.yaml', 'notifiers: { ops: {} }');
    expect(await load()).toMatchObject({ names: ['one'], codes: ['hooks.yaml missing'] });
  });
});

describe('the cache', () => {
  test('an unchanged file is not parsed again, and gives the same', async () => {
    put('a.yaml', secret('one', ', notify: [ops]'));
    put('b.yaml', `${secret('two')}notifiers: { ops: { exec: [tell] } }\n`);
    const cache = createCache();
    const first = await load({ cache });
    expect(cache.puts).toBe(2);
    let asked = 0;
    const providerSchema: LoadContext['providerSchema'] = (...args) => {
      asked++;
      return context.providerSchema(...args);
    };
    const second = await load({ cache, providerSchema });
    expect(second.policies).toEqual(first.policies);
    expect([asked, cache.puts]).toEqual([0, 2]);
  });

  test.each([
    ['the text', { text: secret('one', ', grace: 2h') }],
    ['the backends', { more: { backends: new Set(['local', 'vault']) } }],
    ['the providers', { more: { providers: ['generated', 'postgres'] } }],
    ['the tag', { more: { cacheTag: '2' } }],
  ] as const)(
    '%s changed: the file is parsed again',
    async (_, change: { text?: string; more?: Partial<LoadContext> }) => {
      put('a.yaml', secret('one'));
      const cache = createCache();
      await load({ cache });
      if (change.text !== undefined) put('a.yaml', change.text);
      await load({ cache, ...change.more });
      expect(cache.puts).toBe(2);
    },
  );

  test('a file that was broken by an edit keeps its last good policies, and is good again once mended', async () => {
    put('a.yaml', secret('one', ', grace: 2h'));
    put('b.yaml', secret('two'));
    const cache = createCache();
    await load({ cache });
    for (const text of [
      'secrets: [',
      secret('one', ', grace: 2'),
      secret('one', ', notify: [nobody]'),
    ]) {
      put('a.yaml', text);
      const broken = await load({ cache });
      expect(broken.names, text).toContain('one');
      expect(broken.problems.length, text).toBeGreaterThan(0);
      expect(broken.policies.find(({ name }) => name === 'one')?.graceMs).toBe(7_200_000);
      expect(broken.files[0]?.state).toBe('stale');
    }
    put('a.yaml', secret('one', ', grace: 3h'));
    const mended = await load({ cache });
    expect(mended.codes).toEqual([]);
    expect(mended.policies[0]?.graceMs).toBe(10_800_000);
    unlinkSync(path.join(folder, 'a.yaml'));
    expect((await load({ cache })).names).toEqual(['two']);
  });

  test('a damaged or older entry is parsed again', async () => {
    put('a.yaml', secret('one'));
    const cache = createCache();
    await load({ cache });
    for (const [key, { digest }] of cache.entries)
      cache.entries.set(key, { digest, value: '{"parserVersion":0}' });
    expect((await load({ cache })).names).toEqual(['one']);
    for (const [key, { digest }] of cache.entries) cache.entries.set(key, { digest, value: 'x' });
    expect((await load({ cache })).names).toEqual(['one']);
    expect(cache.puts).toBe(3);
  });

  test('a provider by path is asked for before it is needed', async () => {
    put('a.yaml', secret('one').replace('generated', './mine.ts'));
    const asked: string[] = [];
    const known = new Map<string, z.ZodType>();
    const result = await load({
      loadProvider: async (use, directory) => {
        asked.push(path.resolve(directory, use));
        known.set(use, z.strictObject({}));
      },
      providerSchema: (use) => known.get(use),
    });
    expect(asked).toEqual([path.join(folder, 'mine.ts')]);
    expect(result.names).toEqual(['one']);
  });

  test('a file that was renamed keeps its policies', async () => {
    put('a.yaml', secret('one'));
    const cache = createCache();
    await load({ cache });
    renameSync(path.join(folder, 'a.yaml'), path.join(folder, 'b.yaml'));
    expect(await load({ cache })).toMatchObject({ names: ['one'], codes: [] });
  });
});
