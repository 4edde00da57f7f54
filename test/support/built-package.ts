/** The package as a user has it: built JavaScript beside the same dependencies. The checkout's own sources start twice as slowly. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');

export interface BuiltPackage {
  readonly rotate: string;
  readonly rotated: string;
}

/** Into `folder`, so that nobody's `dist/` is touched. Throws where the sources do not compile. */
export function buildPackage(folder: string): BuiltPackage {
  mkdirSync(folder, { recursive: true });
  const tsc = path.join(root, 'node_modules/.bin/tsc');
  execFileSync(tsc, ['-p', 'tsconfig.build.json', '--outDir', path.join(folder, 'dist')], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  for (const part of ['bin', 'package.json']) {
    cpSync(path.join(root, part), path.join(folder, part), { recursive: true });
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  const bin = (name: string) => path.join(folder, 'bin', `${name}.js`);
  return { rotate: bin('rotate'), rotated: bin('rotated') };
}
