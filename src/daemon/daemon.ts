/** The service: owns a state directory, serves its socket and health port, follows its policies, stops so that all can resume. */
import type { Clock, Random } from '../clock.ts';
import { reachControl } from '../control/client.ts';
import { type ControlServer, serveControl } from '../control/server.ts';
import { controlSocketPath, socketFolderOwner } from '../control/socket-path.ts';
import type { PrivateServer } from '../control/socket-server.ts';
import { asRotatedError, isRotatedError, RotatedError } from '../errors.ts';
import type { Log } from '../rotation/ports.ts';
import type { Ask } from '../rotation/service.ts';
import { createRedactor } from '../secret/redactor.ts';
import { programVersion } from '../version.ts';
import { hasState } from '../wiring/has-state.ts';
import { type Deployment, openDeployment } from '../wiring/deployment.ts';
import { leaseTtlMs, type OwnOptions, type Ownership, takeOwnership } from '../wiring/owner.ts';
import { keySourceOf, type Places, recordPlaces } from '../wiring/places.ts';
import type { Front } from '../gate/http/front.ts';
import type { GatePlace } from './gate-front.ts';
import type { HealthServer } from './health.ts';
import { createLog, type LogLevel } from './logs.ts';
import type { Metrics } from './metrics.ts';

export interface DaemonOptions {
  readonly places: Places;
  /** `HOST:PORT` of health and metrics; null: nothing listens. */
  readonly listen: string | null;
  /** MCP servers that are served over HTTP by this process; null: none. */
  readonly gate?: GatePlace | null;
  readonly level: LogLevel;
  readonly pretty: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  /** The account this runs as, for audit lines. */
  readonly account: string;
  /** Finished log lines. */
  write(line: string): void;
  /** Aborted to stop: orderly, resumable. */
  readonly stop: AbortSignal;
  /** Called with what to do when somebody asks for the policies to be read again (SIGHUP). */
  onReload(reload: () => void): void;
  /** Called when it is up: for whoever started it. */
  readonly onReady?: (ready: {
    readonly health: string | null;
    readonly socket: string;
    readonly gate: string | null;
  }) => void;
}

/** How long calls in flight may take to end at a stop. Each is aborted at once; a child process gets two seconds of these. */
const stopWithinMs = 5_000;

/** How long the audit sinks may take for the last lines and a checkpoint; what they miss waits in the journal. */
const lastLinesWithinMs = 3_000;

/** Returns when stopped in order. Throws what kept it from starting, or ended it: `fence-lost`, a full disk. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { places, clock, random, write } = options;
  const redactor = createRedactor();
  const log = await createLog({ level: options.level, pretty: options.pretty, redactor, write });
  for (const warning of places.warnings)
    log.warn({ warning }, 'about the places of this deployment');
  await refuseSecond(places.state);

  const around = { env: options.env, directory: options.directory };
  await using deployment = await openDeployment({
    state: places.state,
    policies: places.policies,
    key: keySourceOf(places.key, around, random, !hasState(places.state)),
    auditSinks: places.auditSinks,
    log,
    clock,
    random,
    redactor,
  });
  for (const warning of deployment.warnings) log.warn({ warning }, 'about the key');
  let metrics: Metrics | null = null;
  const owner = await takeOwnershipUntil(options.stop, {
    journal: deployment.journal,
    clock,
    log,
    what: 'rotated',
    signal: options.stop,
    onWait: ({ pid, what }) =>
      log.warn({ pid, what }, 'waiting for the lease of a process that does not answer'),
    onRenewed: () => metrics?.heartbeat(),
  });
  if (owner === null) return;
  if (owner.takenFrom !== null) log.warn({ ...owner.takenFrom }, 'took the state directory over');
  try {
    const actor: Ask['actor'] = { id: options.account, channel: 'daemon', proven: true };
    const audit = await deployment.shipAudit(owner.fence, actor);
    owner.lost.addEventListener('abort', () => void audit.drop(), { once: true });
    const sinks = (await audit.states()).map(({ name }) => name);
    if (sinks.length > 0) log.info({ sinks }, 'audit lines also go to sinks');
    try {
      if (options.listen !== null) {
        const { createMetrics } = await import('./metrics.ts');
        metrics = createMetrics({
          service: deployment.machine,
          auditSinks: () => audit.states(),
          clock,
          version: programVersion(),
        });
        metrics.heartbeat();
        deployment.machine.subscribe((rotation) => metrics?.step(rotation));
      }
      await serve(options, deployment, owner, log, metrics);
    } finally {
      await audit.finish(lastLinesWithinMs);
    }
  } catch (error) {
    log.error(facts(error), 'ended');
    throw error;
  } finally {
    await owner.release();
  }
  log.info({}, 'stopped');
}

/** null where it was stopped while it waited. */
async function takeOwnershipUntil(
  stop: AbortSignal,
  options: OwnOptions,
): Promise<Ownership | null> {
  try {
    return await takeOwnership(options);
  } catch (error) {
    if (stop.aborted && !isRotatedError(error)) return null;
    throw error;
  }
}

async function serve(
  options: DaemonOptions,
  deployment: Deployment,
  owner: Ownership,
  log: Log,
  metrics: Metrics | null,
): Promise<void> {
  const { places, clock, stop } = options;
  const { machine } = deployment;
  machine.own(owner.fence);
  recordPlaces(places);
  const policyAsk: Ask = {
    actor: { id: options.account, channel: 'policy', proven: true },
    reason: null,
  };
  const apply = async () => {
    const warnings = await deployment.usePolicies(policyAsk);
    for (const warning of warnings) log.warn({ warning }, 'about the policies');
    log.info({ policies: deployment.policyCount() }, 'policies in use');
  };
  await apply();

  const ending = AbortSignal.any([stop, owner.lost]);
  const control = await serveControl({
    service: machine,
    path: controlSocketPath(places.state),
    fence: owner.fence,
    version: programVersion(),
    account: options.account,
    log,
  });
  let health: HealthServer | null = null;
  let feed: PrivateServer | null = null;
  let front: Front | null = null;
  const following = new AbortController();
  try {
    feed = await deployment.gate.serve(places.state, owner.fence);
    if (options.listen !== null && metrics !== null) {
      const { serveHealth } = await import('./health.ts');
      health = await serveHealth(options.listen, {
        alive: () =>
          clock.monotonicMs() - owner.renewedAtMs() < leaseTtlMs
            ? null
            : 'the lease is not renewed',
        ready: () => (ending.aborted ? 'stopping' : null),
        metrics,
      });
    }
    if (options.gate != null) {
      const { openGateFront } = await import('./gate-front.ts');
      const around = { state: places.state, clock, random: options.random, log };
      front = await openGateFront(options.gate, deployment.gate, around);
    }
    options.onReload(() => void apply().catch((error: unknown) => logApplyFailure(log, error)));
    const watching = deployment.watchPolicies(
      () => apply().catch((error: unknown) => logApplyFailure(log, error)),
      following.signal,
    );
    log.info(
      {
        state: places.state,
        policies: places.policies,
        socket: control.path,
        health: health?.address ?? null,
        gate: front?.address ?? null,
        pid: process.pid,
        version: programVersion(),
      },
      'ready',
    );
    options.onReady?.({
      health: health?.address ?? null,
      socket: control.path,
      gate: front?.address ?? null,
    });
    await serveMachine(deployment, ending);
    following.abort();
    await watching;
    // Not an orderly end: say so, and with which error.
    if (owner.lost.aborted) throw asRotatedError(owner.lost.reason, 'none');
  } finally {
    following.abort();
    // Its servers say their goodbye over the feed.
    await front?.close();
    await Promise.all([closeAll(control, health, owner), feed?.close()]);
  }
}

/** The machine returns by itself once what is in flight has been aborted; a call that ignores this is left behind. */
async function serveMachine({ machine }: Deployment, ending: AbortSignal): Promise<void> {
  const serving = machine.serve(ending);
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<void>((resolve) => {
    ending.addEventListener(
      'abort',
      () => {
        timer = setTimeout(resolve, stopWithinMs);
      },
      { once: true },
    );
  });
  try {
    await Promise.race([serving, overdue]);
  } finally {
    clearTimeout(timer);
  }
}

async function closeAll(
  control: ControlServer,
  health: HealthServer | null,
  owner: Ownership,
): Promise<void> {
  // A directory that is no longer ours has a socket that is no longer ours: closing leaves it alone by its inode.
  await Promise.all([control.close(owner.lost.aborted ? 0 : 1_000), health?.close()]);
}

function logApplyFailure(log: Log, error: unknown): void {
  log.error(facts(error), 'policies could not be applied: those before stay in use');
}

/** An error as fields of a log line, whose own message is a constant. */
function facts(thrown: unknown): Record<string, unknown> {
  const { message, ...rest } = asRotatedError(thrown, 'unknown').toJSON();
  return { ...rest, error: message };
}

/** A daemon that answers is no hung one: there is nothing to wait for. */
async function refuseSecond(state: string): Promise<void> {
  const socket = controlSocketPath(state);
  if (socketFolderOwner(state, socket) === null) return;
  const reached = await reachControl(socket);
  if (reached.kind === 'connected') reached.client.close();
  if (reached.kind !== 'connected' && reached.kind !== 'other-version') return;
  const { pid } = reached.kind === 'connected' ? reached.client.hello : reached.hello;
  throw new RotatedError('state-busy', `rotated (process ${pid}) already serves ${state}.`, {
    next: `Ask it with rotate, name another --state, or stop it: kill ${pid}`,
  });
}
