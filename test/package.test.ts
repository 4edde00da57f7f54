/** What would be published: built, packed, unpacked and used as somebody who installed it would. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { oldestNode } from '../bin/start.js';
import { commands } from '../src/cli/commands.ts';

const root = path.resolve(import.meta.dirname, '..');
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
  version: string;
  engines: { node: string };
  bin: Record<string, string>;
};

let folder = '';
/** The unpacked package, in a project's node_modules. */
let installed = '';
let files: readonly string[] = [];

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'package-'));
  execFileSync(process.execPath, ['scripts/build.ts'], { cwd: root, stdio: 'pipe' });
  const packed = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'ignore'],
      encoding: 'utf8',
    }),
  ) as [{ filename: string; files: { path: string }[] }];
  files = packed[0].files.map((file) => file.path);
  const modules = path.join(folder, 'node_modules');
  installed = path.join(modules, 'rotated');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', [
    'xzf',
    path.join(folder, packed[0].filename),
    '--strip-components=1',
    '-C',
    installed,
  ]);
  // Its dependencies, as npm would have put them beside it.
  symlinkSync(path.join(root, 'node_modules'), path.join(installed, 'node_modules'));
}, 120_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  test('holds programs, built code, types, docs and examples, and nothing else', () => {
    const kinds = new Set(files.map((file) => file.split('/')[0]));
    expect([...kinds]).toEqual(
      expect.arrayContaining(['CHANGELOG.md', 'bin', 'dist', 'docs', 'package.json', 'schedules']),
    );
    const unwanted = files.filter(
      (file) =>
        /\.test\.|\/fixtures\/|^(src|test|demo|scripts|node_modules|\.)/.test(file) ||
        (file.endsWith('.ts') && !file.endsWith('.d.ts')),
    );
    expect(unwanted).toEqual([]);
    for (const program of Object.values(manifest.bin)) expect(files).toContain(program);
  });

  test('runs from what was built: both names, every command', () => {
    for (const program of ['rotate', 'rotated']) {
      const run = spawnSync(process.execPath, [`${installed}/bin/${program}.js`, '--version'], {
        encoding: 'utf8',
      });
      expect(run.stderr).toBe('');
      expect(run.stdout).toBe(`${manifest.version}\n`);
    }
    const help = spawnSync(process.execPath, [`${installed}/bin/rotate.js`], { encoding: 'utf8' });
    for (const name of Object.keys(commands)) expect(help.stdout).toContain(`  ${name} `);
    const init = spawnSync(process.execPath, [`${installed}/bin/rotate.js`, 'init', '--json'], {
      cwd: folder,
      env: { HOME: folder, PATH: process.env['PATH'] ?? '' },
      encoding: 'utf8',
    });
    expect(JSON.parse(init.stdout)).toMatchObject({ ok: true });
  });

  test('its exports type-check and run for whoever writes a provider or a consumer', () => {
    writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }\n');
    writeFileSync(
      path.join(folder, 'plugin.ts'),
      `import { defineProvider, providerApiVersion, RotatedError, Secret } from 'rotated/provider';
import { createReloadHandler } from 'rotated/consumer';
import * as contract from 'rotated/provider/contract';
const secret: Secret = new Secret('x');
const error: Error = new RotatedError('refused', 'x');
console.log(JSON.stringify([providerApiVersion, typeof defineProvider, String(secret), error.name, typeof createReloadHandler, Object.keys(contract).length > 0]));
`,
    );
    writeFileSync(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          target: 'es2024',
          lib: ['es2024', 'esnext.disposable'],
          module: 'nodenext',
          types: ['node'],
          typeRoots: [path.join(root, 'node_modules/@types')],
        },
        files: ['plugin.ts'],
      }),
    );
    const types = spawnSync(path.join(root, 'node_modules/.bin/tsc'), ['-p', folder], {
      encoding: 'utf8',
    });
    expect(types.stdout).toBe('');
    const run = spawnSync(process.execPath, [path.join(folder, 'plugin.ts')], { encoding: 'utf8' });
    expect(run.stderr).toBe('');
    expect(JSON.parse(run.stdout)).toEqual([
      1,
      'function',
      '[secret]',
      'RotatedError',
      'function',
      true,
    ]);
  });
});

describe('a Node that is too old', () => {
  test('is the one that package.json names', () => {
    expect(manifest.engines.node).toBe(`>=${oldestNode.join('.')}`);
  });

  test('gets one clear message, and not a syntax error', () => {
    // The system's own Node, where it is another one; else a version number that lies.
    const lie =
      'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"18.0.0"})';
    const run = spawnSync(
      process.execPath,
      ['--import', lie, path.join(root, 'bin/rotate.js'), 'status'],
      { encoding: 'utf8' },
    );
    expect(run.status).toBe(1);
    expect(run.stdout).toBe('');
    expect(run.stderr).toMatch(
      /^rotate: this is Node 18\.0\.0, and Node 24\.15 or newer is needed/,
    );
    expect(run.stderr).toContain('Next: ');
  });

  test('can read the file that says so', () => {
    const text = ['start', 'rotate', 'rotated']
      .map((name) => readFileSync(path.join(root, 'bin', `${name}.js`), 'utf8'))
      .join('\n');
    // What Node 12 does not parse or know.
    expect(text).not.toMatch(/\?\?|\?\.\w|\bawait\b|'node:|\bstatic \{|#\w+\s*=|&&=|\|\|=/);
  });
});
