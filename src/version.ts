/** This program's version, as package.json has it. */
import { readFileSync } from 'node:fs';

export function programVersion(): string {
  // Beside `src/` in a checkout, beside `dist/` in a package.
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const text = readFileSync(new URL(up, import.meta.url), 'utf8');
      const manifest = JSON.parse(text) as { name?: string; version?: string };
      if (manifest.name === 'rotated' && manifest.version !== undefined) return manifest.version;
    } catch {
      // Not at this height: look one further up.
    }
  }
  return 'unknown';
}
