/** Builds the package: sources to `dist/` with types, then checks that what would be published can be used. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const tool = (name: string) => path.join(root, 'node_modules', '.bin', name);

function run(name: string, args: readonly string[]): void {
  // Progress belongs on stderr: whoever pipes this command reads stdout.
  execFileSync(tool(name), args, { cwd: root, stdio: ['ignore', 2, 2] });
}

// A file that no longer has a source would be published for ever.
rmSync(path.join(root, 'dist'), { recursive: true, force: true });
run('tsc', ['-p', 'tsconfig.build.json']);
for (const program of ['rotate', 'rotated']) {
  const file = path.join(root, 'bin', `${program}.js`);
  if (!existsSync(file)) throw new Error(`${file} is missing.`);
  chmodSync(file, 0o755);
}
run('publint', ['--strict']);
