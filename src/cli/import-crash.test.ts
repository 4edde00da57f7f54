/** An import killed at each of its steps: the config is the old one or the new one, the key is never lost, and a second import ends it. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { person, type Person } from './testing/person.ts';

const keys = {
  GITHUB_TOKEN: 'ghp_CANARY7A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5',
  API_KEY: 'CANARY7-k3y-0123456',
};
const before = `{
  "mcpServers": {
    "github": { "command": "/usr/bin/npx", "env": { "GITHUB_TOKEN": "${keys.GITHUB_TOKEN}" } }, // one
    "search": { "command": "/usr/bin/npx", "env": { "API_KEY": "${keys.API_KEY}" } }
  }
}
`;

let anna: Person;
beforeEach(() => {
  anna = person('import-crash');
});
afterEach(() => anna.gone());

/** The steps in order, and whether the config is the new one by then. */
const points = [
  ['staged', false],
  ['kept', false],
  ['granted', false],
  ['policies', false],
  ['copied', false],
  ['written', false],
  ['compared', false],
  ['none: it ends by itself', true],
] as const;

describe('an import that is killed', () => {
  for (const [point, isNew] of points) {
    test(`at "${point}" leaves the ${isNew ? 'new' : 'old'} config, and can be run again`, async () => {
      const config = path.join(anna.home, '.claude.json');
      writeFileSync(config, before, { mode: 0o600 });
      const crasher = path.resolve(import.meta.dirname, '../import/testing/crasher.ts');
      const child = spawnSync(process.execPath, [crasher, anna.home, point], { encoding: 'utf8' });
      expect(child.stderr.replaceAll(/^\(.*\n/gm, '')).toBe('');
      expect(child.signal).toBe(isNew ? null : 'SIGKILL');
      const left = readFileSync(config, 'utf8');
      if (isNew) expect(left).not.toContain('CANARY7');
      else expect(left).toBe(before);

      const again = await anna.rotate(['import', config, '--yes']);
      expect(again.code).toBe(0);
      const text = readFileSync(config, 'utf8');
      expect(text).toContain('local://mcp/github#GITHUB_TOKEN');
      expect(text).toContain('local://mcp/search#API_KEY');
      expect((await anna.rotate(['--check'], { program: 'rotated' })).out).toContain(
        '2 policies in ',
      );
      expect(readdirSync(anna.home).filter((name) => name.endsWith('.tmp'))).toEqual([]);
      expect(anna.leaksOf(Object.values(keys))).toEqual([]);
      for (const [name, value] of [
        ['github', keys.GITHUB_TOKEN],
        ['search', keys.API_KEY],
      ] as const) {
        const read = await anna.rotate(['read', name, '--json', '--reveal']);
        expect(read.out).toContain(value);
      }
      expect((await anna.rotate(['import', config, '--undo'])).code).toBe(0);
      expect(readFileSync(config, 'utf8')).toBe(before);
    });
  }
});
