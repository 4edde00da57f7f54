/** Where else the keys may lie: copies that clients and editors make beside a config, and the history of git. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Secret } from '../secret/secret.ts';

/** Looked at beside one config; a folder with more of them is not made by a client. */
const siblingsMost = 100;

/** Files beside `real` that are named after it and hold one of the values. */
export function copiesBeside(
  real: string,
  values: readonly Secret[],
  bytesMax: number,
): readonly string[] {
  const folder = path.dirname(real);
  const base = path.basename(real);
  const stem = base.replace(/\.jsonc?$/, '').replace(/^\./, '');
  const names = readdirSync(folder).filter((name) => name !== base && name.includes(stem));
  return names.slice(0, siblingsMost).flatMap((name) => {
    const file = path.join(folder, name);
    try {
      const stats = statSync(file);
      if (!stats.isFile() || stats.size > bytesMax) return [];
      const bytes = readFileSync(file);
      return values.some((value) => bytes.includes(value.reveal())) ? [file] : [];
    } catch {
      return [];
    }
  });
}

/** The folder whose git history may hold the file as it was; null where there is none above it. */
export function gitAbove(real: string): string | null {
  for (let folder = path.dirname(real); ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, '.git'))) return folder;
    if (folder === path.dirname(folder)) return null;
  }
}
