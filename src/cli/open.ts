/** How a command opens a deployment by itself: to look at it, or to act on it. */
import type { Log } from '../rotation/ports.ts';
import { hasState } from '../wiring/has-state.ts';
import { type Deployment, openDeployment } from '../wiring/deployment.ts';
import { noState, passingKey } from '../wiring/passing-key.ts';
import { keySourceOf, type Places } from '../wiring/places.ts';
import type { Call } from './command.ts';

/** Beside an owner, or before there is any state: then with a key that lives for this look alone. */
export async function openToLook(call: Call, places: Places): Promise<Deployment> {
  const { io } = call;
  const around = { env: io.env, directory: io.directory };
  const first = !hasState(places.state);
  const key = keySourceOf(places.key, around, io.random, false);
  const log = stderrLog(call);
  if (!first) {
    return openDeployment({
      state: places.state,
      policies: places.policies,
      key,
      auditSinks: places.auditSinks,
      log,
      clock: io.clock,
      random: io.random,
      readOnly: true,
    });
  }
  return openDeployment({
    state: noState(),
    policies: places.policies,
    key: await passingKey(key, io.random),
    log,
    clock: io.clock,
    random: io.random,
  });
}

/** Only with --verbose: a command's output is its answer. */
export function stderrLog({ io, options }: Call): Log {
  const print = (level: string) => (fields: Record<string, unknown>, message: string) => {
    if (options.verbose === true) io.err(`${JSON.stringify({ level, message, ...fields })}\n`);
  };
  return { info: print('info'), warn: print('warn'), error: print('error') };
}

/**
 * As its next owner: finishes what is unfinished and pays debts, but begins nothing by schedule, since whoever stopped the
 * daemon may have had a reason. A first state may make its key; one that has sealed anything needs the key it was
 * sealed with.
 */
export function openToAct(call: Call, places: Places): Promise<Deployment> {
  const { io } = call;
  const around = { env: io.env, directory: io.directory };
  return openDeployment({
    state: places.state,
    policies: places.policies,
    key: keySourceOf(places.key, around, io.random, !hasState(places.state)),
    auditSinks: places.auditSinks,
    log: stderrLog(call),
    clock: io.clock,
    random: io.random,
    overrides: {
      wrapJournal: (journal) => ({
        ...journal,
        dueSecrets: async () => [],
        nextDueAt: async () => null,
      }),
    },
  });
}
