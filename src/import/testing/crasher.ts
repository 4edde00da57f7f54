/** An import that is killed where it is told to be: a process of its own, so that nothing of it tidies up. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { systemClock, systemRandom } from '../../clock.ts';
import { fileKey } from '../../secret/key-sources.ts';
import { createSealer } from '../../secret/sealer.ts';
import { openDeployment } from '../../wiring/deployment.ts';
import { recordPlaces } from '../../wiring/places.ts';
import { takeOwnership } from '../../wiring/owner.ts';
import { applyPlan } from '../apply.ts';
import { configBytesMax, readConfig } from '../config-file.ts';
import { openCopies } from '../copies.ts';
import { knownPolicies } from '../known-policies.ts';
import { planImport } from '../plan.ts';
import { readWhole } from '../replace-file.ts';

const [home = '', point = ''] = process.argv.slice(2);
const stop = (at: string) => {
  if (at === point) process.kill(process.pid, 'SIGKILL');
};
const state = path.join(home, '.local', 'state', 'rotated');
const policies = path.join(home, '.config', 'rotated', 'schedules');
mkdirSync(policies, { recursive: true });
const [clock, random] = [systemClock(), systemRandom()];
const keyFile = path.join(home, '.config', 'rotated', 'key');
const key = fileKey(keyFile, { random, create: true });
const log = { info: () => {}, warn: () => {}, error: () => {} };
const deployment = await openDeployment({
  state,
  policies,
  key,
  log,
  clock,
  random,
  overrides: {
    wrapBackend: (backend) => ({
      ...backend,
      stage: async (...args) => {
        const version = await backend.stage(...args);
        stop('staged');
        return version;
      },
    }),
  },
});
const signal = new AbortController().signal;
const owner = await takeOwnership({
  journal: deployment.journal,
  clock,
  log,
  what: 'import',
  signal,
});
deployment.machine.own(owner.fence);
const ask = { actor: { id: 'test', channel: 'command', proven: true }, reason: null } as const;
const read = await readWhole(path.join(home, '.claude.json'), configBytesMax);
const plan = await planImport({
  program: { node: process.execPath, script: '/opt/rotated/bin/rotate.js', options: [] },
  searchPath: '',
  configs: [readConfig({ file: read.file, bytes: read.bytes, home })],
  policies: knownPolicies(policies),
  look: (item, fields) => deployment.machine.keep(item, fields, true, ask),
});
await applyPlan(plan, {
  keep: (item, fields) => deployment.machine.keep(item, fields, false, ask),
  grant: async (grant) => {
    await deployment.machine.allow(grant, ask);
  },
  copies: openCopies(state, createSealer(await key.load(), random), random),
  policies,
  random,
  now: () => clock.now(),
  files: new Map([[read.file, read]]),
  at: stop,
});
recordPlaces({
  state,
  policies,
  key: { kind: 'file', path: keyFile },
  auditSinks: [],
  warnings: [],
});
await owner.release();
await deployment[Symbol.asyncDispose]();
