/** An import and its undo over configs nobody wrote: the identity on bytes, whatever they were. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemRandom } from '../clock.ts';
import { applyPlan } from '../import/apply.ts';
import { configBytesMax, readConfig } from '../import/config-file.ts';
import { openCopies } from '../import/copies.ts';
import { readWhole } from '../import/replace-file.ts';
import { layout, laidOut, servers } from '../import/testing/configs.ts';
import { planned } from '../import/testing/importing.ts';
import { fileKey } from '../secret/key-sources.ts';
import { createSealer } from '../secret/sealer.ts';
import { undoAll } from './import-undo.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
console.info(`seed ${seed} (set SEED to repeat)`);

const random = systemRandom();
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'import-undo-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('an import that is undone leaves every byte, and the mode, as they were', async () => {
  const key = fileKey(path.join(folder, 'key'), { random, create: true });
  const copies = openCopies(
    path.join(folder, 'state'),
    createSealer(await key.load(), random),
    random,
  );
  const service = {
    status: async () => ({ secrets: [], warnings: [], owner: null }),
  };
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(servers, layout, fc.constantFrom(0o600, 0o644), async (all, look, mode) => {
      const own = path.join(folder, String((runs += 1)));
      mkdirSync(own);
      const file = path.join(own, '.claude.json');
      const before = Buffer.from(laidOut({ a: 1, mcpServers: all, z: [] }, look));
      writeFileSync(file, before);
      chmodSync(file, mode);
      const read = await readWhole(file, configBytesMax);
      const plan = await planned([readConfig({ file, bytes: read.bytes, home: own })]);
      const applied = await applyPlan(plan, {
        keep: async () => 'new',
        grant: async () => {},
        copies,
        policies: own,
        random,
        now: () => runs,
        files: new Map([[file, read]]),
      });
      expect(applied.files).toEqual([{ file, changed: true, error: null }]);
      expect(readFileSync(file).includes('CANARY7')).toBe(false);
      const undone = await undoAll([file], copies, service, { io: { random }, force: false });
      expect(undone).toMatchObject([{ outcome: 'restored', error: null }]);
      expect(readFileSync(file).equals(before)).toBe(true);
      expect(statSync(file).mode & 0o777).toBe(mode);
    }),
    { seed, numRuns: 50 },
  );
});
