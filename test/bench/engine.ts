/** `bench -- engine`: what the engine costs, held against the budgets of the design. Printed, never judged by its exit code. */
import { loadavg } from 'node:os';
import path from 'node:path';
import type { CheckContext } from '../support/check.ts';
import { buildPackage } from '../support/built-package.ts';
import { openScene } from './scene.ts';
import { measureService, type ServiceFigures } from './service.ts';
import { atLeast, atMost, type Budget, budgetText } from './stats.ts';
import { measureSteps, type StepFigures } from './steps.ts';

export interface EngineResult extends StepFigures, ServiceFigures {
  readonly budgets: readonly Budget[];
  /** Processes that wanted a core, on average over the last minute, before and after: above `cores` the times are not the engine's own. */
  readonly load: { readonly before: number; readonly after: number };
}

export async function runEngine({
  args,
  progress,
}: CheckContext): Promise<{ ok: boolean } & EngineResult> {
  const short = args.includes('--short');
  const before = loadavg()[0] ?? 0;
  await using scene = await openScene();
  const steps = await measureSteps(
    scene,
    short ? { rotations: 64, grouped: 256 } : { rotations: 256, grouped: 1_024 },
  );
  progress(
    `${steps.stepsPerSecond} steps/s, ${steps.stepsPerSecondGrouped} grouped; ${steps.fsyncsPerSecond} overwrites with sync/s; ratio ${steps.ratio} (SQLite's own commit: ${steps.ratioOfBareCommit})`,
  );
  const built = buildPackage(path.join(scene.root, 'package'));
  const service = await measureService(scene, built, {
    repeats: short ? 3 : 7,
    due: short ? 250 : 1_000,
    spreadMs: short ? 5_000 : 20_000,
    progress,
  });
  const { coldStartMs } = service;
  const budgets = [
    atMost('step against overwrite + fsync', 1.3, steps.ratio),
    atLeast('grouped steps per second', 1_000, steps.stepsPerSecondGrouped),
    atMost('cold start ms, 10 policies', 300, coldStartMs.n10),
    atMost('cold start ms, 10,000 unchanged', 1_500, coldStartMs.n10kUnchanged),
    atMost('cold start ms, 10,000 new', 6_000, coldStartMs.n10kNew),
    atMost('tick lag p99 ms, 10,000 policies', 1_000, service.tickLagP99Ms),
    atMost('memory MB, 10,000 policies', 300, service.rssMb),
    atMost('rotate status ms over bare node', 150, service.statusOverNodeMs),
  ];
  return { ok: true, ...steps, ...service, budgets, load: { before, after: loadavg()[0] ?? 0 } };
}

export function engineText(result: EngineResult): string {
  return [
    `one at a time: ${result.stepsPerSecond} steps/s (${result.ratio} × an overwrite with sync, SQLite's own commit ${result.ratioOfBareCommit} ×); grouped: ${result.stepsPerSecondGrouped} steps/s`,
    ...result.budgets.map(budgetText),
  ].join('\n');
}
