/** `npm run -s leak -- --json`: drives canaries through every failure path, then searches all that was printed, written or shown. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startIssuer } from '../support/issuer/server.ts';
import { runCheck } from '../support/check.ts';
import { createCanaries } from './canaries.ts';
import { foundControls, plantControls } from './controls.ts';
import { startEchoes } from './echoes.ts';
import { createEvidence } from './evidence.ts';
import { driveGate, serverVariables } from './gate.ts';
import { driveInside } from './inside.ts';
import { childWords } from './policies.ts';
import { watchProcesses } from './processes.ts';
import { daemonOnly, driveDeployment, passedOn } from './scenario.ts';
import { createScanner, type Hit } from './scanner.ts';

interface Result {
  readonly ok: boolean;
  readonly canaries: number;
  readonly positiveControls: number;
  readonly positiveControlsFound: number;
  /** How many failure paths were taken. */
  readonly paths: number;
  /** Files, streams and processes. */
  readonly filesScanned: number;
  readonly hits: readonly Hit[];
}

/** Who put a value where, as the policies and whoever started the programs say. */
const declaredVariables = [
  { variable: 'LEAK_VERIFY', command: childWords('verify') },
  { variable: passedOn, command: childWords('provider') },
  { variable: passedOn, command: 'bin/rotated.js' },
  { variable: daemonOnly, command: 'bin/rotated.js' },
  { variable: 'ROTATED_KEY', command: 'bin/rotated.js' },
  ...serverVariables,
];
/** It was typed there: by a person, not by us. */
const typedArguments = ['typed as an argument'];

await runCheck<Result>({
  name: 'leak',
  run: async ({ seed, progress }) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'leak-'));
    try {
      return await check(folder, seed, progress);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  text: ({ ok, ...result }) =>
    `${ok ? 'ok' : 'FAILED'}: ${result.canaries} canaries on ${result.paths} paths, ${result.filesScanned} files and streams searched, ${result.hits.length} hits, ${result.positiveControlsFound} of ${result.positiveControls} planted leaks found`,
});

async function check(
  folder: string,
  seed: number,
  progress: (line: string) => void,
): Promise<Result> {
  const canaries = createCanaries(seed);
  const evidence = createEvidence();
  const taken: string[] = [];
  const missed: string[] = [];
  using watch = watchProcesses(declaredVariables);
  await using issuer = await startIssuer({ directory: path.join(folder, 'issuer') });
  await using echoes = await startEchoes();
  const world = {
    folder: path.join(folder, 'deployment'),
    canaries,
    evidence,
    watch,
    issuer,
    echoes,
    progress,
    taken: (what: string, isTaken: boolean) => {
      (isTaken ? taken : missed).push(what);
      if (!isTaken) progress(`leak: this path was not taken: ${what}`);
    },
  };
  await driveDeployment(world);
  progress('leak: the machine in this process');
  await driveInside(world);
  const unredacted = await driveGate({ ...world, folder: path.join(folder, 'behind the gate') });
  const controls = [
    ...(await plantControls(path.join(folder, 'controls'), canaries, evidence, watch)),
    ...unredacted,
  ];
  for (const { where, text } of watch.samples())
    evidence.text(where, text, where.startsWith('the arguments') ? typedArguments : []);

  progress(`leak: ${evidence.items.length} files and streams`);
  const scan = createScanner(canaries.all);
  const all = evidence.items.flatMap(({ where, bytes, declared }) => scan(where, bytes, declared));
  const planted = new Set(controls.map(({ source }) => source));
  const hits = all.filter((hit) => !planted.has(hit.canary));
  for (const hit of hits) progress(`leak: ${hit.canary} as ${hit.form} in ${hit.where}`);
  const found = foundControls(controls, all);
  return {
    ok: hits.length === 0 && missed.length === 0 && found.length === controls.length,
    canaries: canaries.all.length - controls.length,
    positiveControls: controls.length,
    positiveControlsFound: found.length,
    paths: taken.length,
    filesScanned: evidence.items.length,
    hits,
  };
}
