/** How a command reaches the machine: through the daemon's socket, by itself where no daemon runs, or past one that hangs. */
import { reachControl, type Reached } from '../control/client.ts';
import { controlSocketPath, socketFolderOwner } from '../control/socket-path.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import type { WholeService } from '../hub/service.ts';
import type { Ask } from '../rotation/service.ts';
import type { Deployment } from '../wiring/deployment.ts';
import type { Ownership } from '../wiring/owner.ts';
import { findPlaces, type Places, recordPlaces } from '../wiring/places.ts';
import { askOf, type Call } from './command.ts';
import { plural } from './print.ts';

export interface Session {
  readonly service: WholeService;
  /** What a person should know of how it was reached; null where a daemon answered. */
  readonly note: string | null;
}

/** `look` changes nothing and needs no ownership; `imagine` needs no state either. */
export type Need = 'imagine' | 'look' | 'act';

export function placesOf({ io, options }: Call): Places {
  const auditSink = options['auditSink'] as readonly string[] | undefined;
  return findPlaces({ ...options, auditSink }, { env: io.env, directory: io.directory });
}

export async function withService<T>(
  call: Call,
  need: Need,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const places = placesOf(call);
  const reached = await reach(places.state);
  switch (reached.kind) {
    case 'connected':
      try {
        return await work({ service: reached.client.service, note: null });
      } finally {
        reached.client.close();
      }
    case 'denied':
      throw new RotatedError('refused', `${places.state} belongs to another account.`, {
        next: 'Run this as the account of the daemon, or as root.',
      });
    case 'other-version':
      throw new RotatedError(
        'unsupported',
        `The daemon (process ${reached.hello.pid}) is version ${reached.hello.rotated}, which this rotate does not speak to.`,
        { next: 'Restart the daemon, so that both are of one version.' },
      );
    case 'silent':
    case 'absent':
      for (const warning of places.warnings) call.io.err(`${warning}\n`);
      if (need === 'act') return actDirectly(call, places, reached.kind, work);
      if (need === 'look') await requireState(places);
      return lookDirectly(call, places, reached.kind, work);
    default:
      return reached satisfies never;
  }
}

/** `absent` where the socket's folder is not there, or not the owner's. */
export async function reach(state: string): Promise<Reached> {
  const socket = controlSocketPath(state);
  socketFolderOwner(state, socket);
  return reachControl(socket);
}

async function requireState({ state }: Places): Promise<void> {
  const { hasState } = await import('../wiring/has-state.ts');
  if (hasState(state)) return;
  throw new RotatedError('state-missing', `There is no state in ${state}.`, {
    next: 'Name the right one with --state; or begin: rotate init, then rotated.',
  });
}

type Unreached = 'silent' | 'absent';

async function lookDirectly<T>(
  call: Call,
  places: Places,
  why: Unreached,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const { openToLook } = await import('./open.ts');
  await using deployment = await openToLook(call, places);
  const { policies } = await deployment.readPolicies();
  deployment.machine.showPolicies(policies);
  const lease = await deployment.journal.currentLease();
  const holder = lease === null ? '' : ` (process ${lease.holder.pid})`;
  const note =
    why === 'silent'
      ? `The daemon${holder} does not answer: this was read from ${places.state}.`
      : null;
  // Awaited here: the deployment closes when this returns.
  return await work({ service: deployment.machine, note });
}

async function actDirectly<T>(
  call: Call,
  places: Places,
  why: Unreached,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const { openToAct } = await import('./open.ts');
  await using deployment = await openToAct(call, places);
  const owner = await own(call, deployment, why);
  try {
    const { machine } = deployment;
    machine.own(owner.fence);
    recordPlaces(places);
    const audit = await deployment.shipAudit(owner.fence, askOf(call).actor);
    try {
      for (const warning of await deployment.usePolicies(policyAsk(call))) {
        call.io.err(`${warning}\n`);
      }
      // Servers that run have to hear of what this command changes, as they would from the daemon.
      const feed = await deployment.gate.serve(places.state, owner.fence);
      try {
        return await whileServing(call, deployment, owner, () =>
          work({ service: machine, note: noteOf(owner, why) }),
        );
      } finally {
        await feed.close();
      }
    } finally {
      await endShipping(call, audit, owner);
    }
  } finally {
    await owner.release();
  }
}

async function own(call: Call, deployment: Deployment, why: Unreached): Promise<Ownership> {
  const [{ leaseTtlMs, takeOwnership }, { stderrLog }] = await Promise.all([
    import('../wiring/owner.ts'),
    import('./open.ts'),
  ]);
  const { io } = call;
  try {
    return await takeOwnership({
      journal: deployment.journal,
      clock: io.clock,
      log: stderrLog(call),
      what: io.program,
      signal: io.signal,
      onWait: ({ pid, what }) =>
        io.err(
          `${what} (process ${pid}) does not answer: waiting up to ${Math.round(leaseTtlMs / 1_000)} s for its lease to end, then taking over.\n`,
        ),
    });
  } catch (error) {
    if (why !== 'silent' || !isRotatedError(error, 'state-busy')) throw error;
    throw new RotatedError('daemon-silent', `${error.message} It does not answer, yet it lives.`, {
      next: `Look at its log. If it hangs, end it: kill -9 the process, and run this again.`,
      cause: error,
    });
  }
}

/** The work, beside the machine's own loop; whichever fails first ends both. Leaves every rotation resumable. */
async function whileServing<T>(
  { io }: Call,
  { machine }: Deployment,
  owner: Ownership,
  work: () => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  // An interrupted command first says where it stands; the machine goes on until it has.
  const serving = machine.serve(AbortSignal.any([stop.signal, owner.lost]));
  const failed = serving.then(
    () => new Promise<never>(() => {}),
    (error: unknown) => Promise.reject(asRotatedError(error, 'unknown')),
  );
  const taken = new Promise<never>((_resolve, reject) => {
    owner.lost.addEventListener('abort', () => reject(owner.lost.reason as Error), { once: true });
  });
  try {
    return await Promise.race([work(), failed, taken]);
  } finally {
    stop.abort(new DOMException('The command ends.', 'AbortError'));
    await serving.catch(() => undefined);
    if (io.signal.aborted) io.err('Interrupted. What was begun goes on when rotated runs.\n');
  }
}

/** Whoever waits for a command should not wait long for a sink that is down: its lines stay in the journal. */
const lastLinesWithinMs = 2_000;

async function endShipping(
  { io }: Call,
  audit: Awaited<ReturnType<Deployment['shipAudit']>>,
  owner: Ownership,
): Promise<void> {
  if (owner.lost.aborted) return audit.drop();
  await audit.finish(lastLinesWithinMs);
  for (const { name, behind, failing } of await audit.states()) {
    if (behind === 0) continue;
    const why = failing === null ? '' : ` ${failing.error.message}`;
    io.err(
      `${plural(behind, 'audit line')} not at ${name} yet: tried again when rotated runs.${why}\n`,
    );
  }
}

function noteOf(owner: Ownership, why: Unreached): string {
  if (owner.takenFrom !== null) {
    const { pid, what } = owner.takenFrom;
    return `${what} (process ${pid}) did not answer: this command took its state directory over. It stops by itself if it wakes up; restart it.`;
  }
  return why === 'silent'
    ? 'The daemon did not answer, and its lease had ended: this command does the work itself. Restart the daemon.'
    : 'No daemon runs: this command does the work itself; what still waits after it goes on when rotated runs.';
}

/** Edits found by a command are the policy files' doing, seen by whoever runs it. */
function policyAsk(call: Call): Ask {
  const { actor } = askOf(call);
  return { actor: { ...actor, channel: 'policy' }, reason: null };
}
