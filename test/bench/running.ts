/** A deployment inside this process that owns its state and whose schedules sleep: rotations begin when a benchmark asks. */
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { Ask } from '../../src/rotation/service.ts';
import { fileKey } from '../../src/secret/key-sources.ts';
import { type Deployment, openDeployment, type Overrides } from '../../src/wiring/deployment.ts';
import { takeOwnership } from '../../src/wiring/owner.ts';
import type { Places } from './scene.ts';

export interface Running extends AsyncDisposable {
  readonly deployment: Deployment;
  /** Aborted at the end. */
  readonly signal: AbortSignal;
}

export const ask: Ask = {
  actor: { id: 'bench', channel: 'command', proven: true },
  reason: 'benchmark',
};
export const everything = { names: [], tags: [], providers: [], consumers: [], all: true };
export const silent = { info: () => {}, warn: () => {}, error: () => {} };

export async function openRunning(places: Places, overrides: Overrides): Promise<Running> {
  const clock = systemClock();
  const random = systemRandom();
  const stop = new AbortController();
  const deployment = await openDeployment({
    state: places.state,
    policies: places.policies,
    key: fileKey(places.key, { random, create: true }),
    log: silent,
    clock,
    random,
    overrides,
  });
  const { journal, machine } = deployment;
  const owner = await takeOwnership({
    journal,
    clock,
    log: silent,
    what: 'bench',
    signal: stop.signal,
  });
  machine.own(owner.fence);
  const mistakes = await deployment.usePolicies(ask);
  if (mistakes.length > 0) throw new Error(mistakes.join('\n'));
  const rows = await journal.secrets();
  // New secrets are due at once; here each begins when it is asked to.
  const asleep = rows.map(({ version, ...row }) => ({
    expectVersion: version,
    row: { ...row, dueAt: null },
  }));
  await journal.commit({ fence: owner.fence, secrets: asleep });
  return {
    deployment,
    signal: stop.signal,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await owner.release();
      await deployment[Symbol.asyncDispose]();
    },
  };
}
