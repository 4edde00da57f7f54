import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { builtInProviders } from '../../providers/index.ts';
import { RotatedError } from '../errors.ts';
import { assertOnlyOursToWrite } from './ownership.ts';
import type { Provider } from './provider.ts';
import { createRegistry, nearestName, parseOptions } from './registry.ts';

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'rotated-registry-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const module = (more = '', id = 'mine') => `
export default {
  apiVersion: 1, id: '${id}', options: { safeParse: (data) => ({ success: true, data }) },
  traits: () => ({}), open: async () => ({}), ${more}
};`;

async function put(name: string, text: string, mode = 0o600): Promise<string> {
  const file = path.join(directory, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, text);
  await chmod(file, mode);
  return file;
}

async function failure(use: string): Promise<RotatedError> {
  const error: unknown = await builtInProviders()
    .load(use, { directory })
    .then(
      () => 'no error',
      (thrown: unknown) => thrown,
    );
  expect(error).toBeInstanceOf(RotatedError);
  return error as RotatedError;
}

test('every built-in provider loads under its own name, without its SDK', async () => {
  const registry = builtInProviders();
  expect(registry.ids).toEqual(['exec', 'generated', 'operator', 'postgres', 'redis']);
  for (const id of registry.ids) {
    expect((await registry.load(id, { directory })).id).toBe(id);
  }
});

test('a provider beside the policy is loaded by its path', async () => {
  await put('my-provider.ts', `const version: number = 1;${module('')}export { version };`);
  const provider = await builtInProviders().load('./my-provider.ts', { directory });
  expect(provider.id).toBe('mine');
});

test('a provider is loaded by package name from the policy, by exports or by main', async () => {
  const packages = {
    '@scope/with-exports': { exports: { '.': { types: './x.d.ts', import: './lib/entry.js' } } },
    'with-main': { main: 'lib/entry.js' },
  };
  for (const [name, manifest] of Object.entries(packages)) {
    const at = `node_modules/${name}`;
    await put(`${at}/package.json`, JSON.stringify({ name, type: 'module', ...manifest }));
    await put(`${at}/lib/entry.js`, module());
    const provider = await builtInProviders().load(name, { directory });
    expect(provider.id).toBe('mine');
  }
});

test('a name that nobody has suggests the nearest', async () => {
  const error = await failure('postgress');
  expect(error.code).toBe('provider-unknown');
  expect(error.next).toBe('Did you mean postgres?');
  expect((await failure('something-else')).next).toContain('exec, generated, operator');
  expect((await failure('./missing.ts')).message).toContain(path.join(directory, 'missing.ts'));
  expect((await failure('toString')).code).toBe('provider-unknown');
});

test('a module that is no provider says what it lacks', async () => {
  const modules: Record<string, string> = {
    'no default export': 'export const x = 1;',
    'version 2': module('apiVersion: 2'),
    'lacks open': module('open: 1'),
    'lacks id': module('', 'Not Kebab'),
    SyntaxError: 'export default {{{ canary',
  };
  for (const [what, text] of Object.entries(modules)) {
    const name = `./${what.replaceAll(' ', '-')}.mjs`;
    await put(name, text);
    const error = await failure(name);
    expect(error.code).toBe('provider-broken');
    expect(error.message).toContain(what);
    expect(error.message).not.toContain('canary');
  }
});

test('a built-in entry that calls itself something else is broken', async () => {
  const registry = createRegistry({ other: () => import('../../providers/generated/index.ts') });
  await expect(registry.load('other', { directory })).rejects.toMatchObject({
    code: 'provider-broken',
  });
});

test('a provider that others can write, or whose folder they can, is refused and never run', async () => {
  const ran = 'globalThis.rotatedTestRan = true; ';
  await put('open.mjs', ran + module(), 0o666);
  expect((await failure('./open.mjs')).code).toBe('policy-unsafe');
  await put('folder/closed.mjs', ran + module());
  await chmod(path.join(directory, 'folder'), 0o777);
  expect((await failure('./folder/closed.mjs')).code).toBe('policy-unsafe');
  await symlink(path.join(directory, 'open.mjs'), path.join(directory, 'link.mjs'));
  expect((await failure('./link.mjs')).code).toBe('policy-unsafe');
  expect('rotatedTestRan' in globalThis).toBe(false);
});

test('a sticky folder is as good as one of our own', async () => {
  const file = await put('sticky/x.mjs', module());
  await chmod(path.dirname(file), 0o1777);
  expect(await assertOnlyOursToWrite(file)).toBe(file);
});

test('all mistakes in options come at once, with their places', () => {
  const provider = {
    options: z.strictObject({ a: z.string(), b: z.object({ c: z.number() }) }),
    traits: () => ({}),
  } as unknown as Provider;
  const parsed = parseOptions(provider, { a: 1, b: { c: 'x' }, d: 1 });
  expect(parsed.ok ? [] : parsed.problems.map(({ path }) => path)).toEqual([['a'], ['b', 'c'], []]);
});

test('the nearest name is one that could be meant', () => {
  expect(nearestName('Postgers', ['postgres', 'redis'])).toBe('postgres');
  expect(nearestName('exce', ['exec', 'redis'])).toBe('exec');
  expect(nearestName('kafka', ['exec', 'redis'])).toBe(null);
});
