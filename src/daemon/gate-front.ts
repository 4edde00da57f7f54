/** The gate inside the service: the same front as `rotated gate`, its servers' lines to the hub within this process. */
import path from 'node:path';
import { duplexPair } from 'node:stream';
import type { Clock, Random } from '../clock.ts';
import { sessionsFolder } from '../gate/http/files.ts';
import type { Front } from '../gate/http/front.ts';
import { openGate } from '../gate/http/gate.ts';
import { gateToken } from '../gate/http/token.ts';
import type { ServerEntry } from '../gate/servers-file.ts';
import { parseListen } from '../listen.ts';
import type { Log } from '../rotation/ports.ts';
import type { Deployment } from '../wiring/deployment.ts';

export interface GatePlace {
  readonly servers: readonly ServerEntry[];
  /** `HOST:PORT`. */
  readonly listen: string;
}

export interface Surroundings {
  readonly state: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export function openGateFront(
  { servers, listen }: GatePlace,
  gate: Deployment['gate'],
  { state, clock, random, log }: Surroundings,
): Promise<Front> {
  const { token } = gateToken(path.join(state, 'gate-token'), random);
  return openGate({
    servers,
    connect: () => async () => {
      const [shim, hub] = duplexPair();
      gate.accept(hub);
      return shim;
    },
    ...parseListen(listen),
    token,
    hosts: [],
    sessions: sessionsFolder(state),
    clock,
    random,
    log,
  });
}
