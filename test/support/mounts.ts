/** A mount namespace of one's own: whatever a check mounts ends with its process, however that ends. */
import { execFileSync, spawnSync } from 'node:child_process';

const marker = 'ROTATED_TEST_OWN_MOUNTS';

/**
 * Runs this very program again where mounting is possible and harmless, and exits with its code; returns true in that
 * second run. False where this account may not: then checks that need a mount are skipped with that reason.
 */
export function inOwnMounts(): boolean {
  if (process.env[marker] === '1') return true;
  if (process.platform !== 'linux') return false;
  const rights = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--map-root-user'];
  if (spawnSync('unshare', [...rights, 'true'], { stdio: 'ignore' }).status !== 0) return false;
  const again = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status } = spawnSync('unshare', [...rights, ...again], {
    stdio: 'inherit',
    env: { ...process.env, [marker]: '1' },
  });
  process.exit(status ?? 1);
}

export const noMounts = 'this account may not mount in a namespace of its own (unshare)';

export function mount(...args: readonly string[]): void {
  execFileSync('mount', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

export function umount(place: string): void {
  execFileSync('umount', [place], { stdio: ['ignore', 'ignore', 'inherit'] });
}
