/** `npm run -s demo -- --rotations 3 --json`: the same demo, so many rotations long, with numbers at the end. */
import { runCheck } from '../test/support/check.ts';
import { play } from './play.ts';
import { tell } from './story.ts';

interface DemoResult {
  readonly rotations: number;
  readonly calls: number;
  readonly failed: number;
  /** Of each rotation: calls under way when their server was replaced, and answered by the old one. */
  readonly inFlightAtReload: readonly number[];
  /** Rotations after which the issuer refused the login that had worked before. */
  readonly oldRefused: number;
  /** How long both logins were valid, milliseconds. */
  readonly overlapMs: readonly (number | null)[];
  /** In every rotation all gates reported the new generation, and all agents were answered for it. */
  readonly consumersAdopted: boolean;
  readonly auditIntact: boolean;
}

await runCheck<DemoResult>({
  name: 'demo',
  run: async ({ args, progress }) => {
    const wanted = rotationsOf(args);
    const stop = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => stop.abort(new Error(`stopped by ${signal}`)));
    }
    const { turns, counts, auditIntact } = await play({
      rotations: wanted,
      signal: stop.signal,
      onScene: (scene) => tell(scene).forEach(progress),
    });
    const oldRefused = turns.filter((turn) => turn.oldRefused).length;
    const consumersAdopted = turns.every((turn) => turn.adopted);
    return {
      ok:
        turns.length === wanted &&
        counts.calls > 0 &&
        counts.failed === 0 &&
        turns.every((turn) => turn.inFlightAtReload > 0 && turn.overlapMs !== null) &&
        oldRefused === wanted &&
        consumersAdopted &&
        auditIntact,
      rotations: turns.length,
      calls: counts.calls,
      failed: counts.failed,
      inFlightAtReload: turns.map((turn) => turn.inFlightAtReload),
      oldRefused,
      overlapMs: turns.map((turn) => turn.overlapMs),
      consumersAdopted,
      auditIntact,
    };
  },
  text: ({ ok, rotations, calls, failed, inFlightAtReload, oldRefused }) =>
    `demo: ${ok ? 'ok' : 'FAILED'}: ${rotations} rotations, ${calls} calls, ${failed} failed; ` +
    `in flight at each reload: ${inFlightAtReload.join(', ')}; old login refused ${oldRefused} times`,
});

function rotationsOf(args: readonly string[]): number {
  const at = args.indexOf('--rotations');
  const given = Number(at === -1 ? '3' : args[at + 1]);
  if (Number.isSafeInteger(given) && given > 0) return given;
  throw new Error('--rotations needs a whole number above 0');
}
