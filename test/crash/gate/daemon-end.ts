/** The daemon's end of the feed in a crash case: the real gate, points where it writes and answers, and waits that make a story repeatable. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Backend } from '../../../src/backend/backend.ts';
import { systemClock } from '../../../src/clock.ts';
import type { Consumer } from '../../../src/consumer/consumer.ts';
import type { GateFeed } from '../../../src/consumer/gate.ts';
import type { PrivateServer } from '../../../src/control/socket-server.ts';
import { isRotatedError } from '../../../src/errors.ts';
import type { Journal } from '../../../src/journal/journal.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import { createRedactor } from '../../../src/secret/redactor.ts';
import { createGate } from '../../../src/wiring/gate.ts';
import { readItem } from '../../../src/wiring/values.ts';
import { gateServer, type Job, secretName } from '../protocol.ts';
import type { GateControl, Told } from './control.ts';

export interface DaemonEnd {
  readonly feed: GateFeed;
  /** Listens, and waits until every instance is connected. */
  open(fence: number, policy: Policy): Promise<void>;
  /** The same consumer, which comes back only when the instances have done all they can. */
  settled(consumer: Consumer): Consumer;
  close(): Promise<void>;
}

export interface DaemonEndOptions {
  readonly job: Job;
  readonly gates: GateControl;
  readonly journal: Journal;
  readonly backend: () => Backend;
  mark(point: string): Promise<void>;
}

/** Rounds of a wait for instances, a millisecond each and more. */
const roundsMost = 10_000;

export function createDaemonEnd({
  job,
  gates,
  journal,
  backend,
  mark,
}: DaemonEndOptions): DaemonEnd {
  // Before a start there is nothing to interrupt: the instances only come up.
  const progress = { isOpen: job.kind !== 'start', writes: 0, fence: 0 };
  const at = async (point: string): Promise<void> => {
    if (progress.isOpen) await mark(point);
  };
  const gate = createGate({
    journal: {
      grants: () => journal.grants(),
      instances: (secret) => journal.instances(secret),
      commit: async (change) => {
        progress.writes += 1;
        try {
          await at('before:commit:instance');
          await journal.commit(change);
          await at('after:commit:instance');
        } finally {
          progress.writes -= 1;
        }
      },
    },
    // Lines are real, and so is their silence: the clock that jumps is not for them.
    clock: systemClock(),
    log: { info: () => {}, warn: () => {}, error: () => {} },
    redactor: createRedactor(),
    readCurrent: async (_scheme, item, signal) => {
      const found = await readItem(backend(), item, 'current', signal);
      await at('after:answer');
      return found;
    },
  });
  let server: PrivateServer | null = null;

  /** Until the hub knows what each instance has told, and nobody has anything left to say. */
  async function settle(): Promise<void> {
    let wereThere = false;
    for (let round = 0; round < roundsMost; round++) {
      // A daemon that was overtaken has no instances any more, and none will come.
      if (!(await ownsState())) return;
      const told = (await gates.settle(job.principal)).filter(({ isAway }) => !isAway);
      const names = new Set(told.map(({ instance }) => instance));
      const here = known();
      const areThere =
        [...names].every((one) => here.has(one)) && [...here.keys()].every((one) => names.has(one));
      // What they have told to this daemon: they were connected to this one when they were asked.
      if (wereThere && areThere && told.every(isKnown) && progress.writes === 0) return;
      wereThere = areThere;
      await delay(1);
    }
    throw new Error('the instances and the daemon do not come to terms');
  }

  async function ownsState(): Promise<boolean> {
    try {
      await journal.assertFence(progress.fence);
      return true;
    } catch (error) {
      if (isRotatedError(error, 'fence-lost')) return false;
      throw error;
    }
  }

  const known = () => new Map(gate.instancesNow(secretName, []).map((one) => [one.instance, one]));
  const isKnown = ({ instance, state, generations }: Told) => {
    const one = known().get(instance);
    return one?.state === state && one.generation === (generations[secretName] ?? null);
  };

  return {
    feed: gate.feed,
    async open(fence, policy) {
      progress.fence = fence;
      gate.own(fence);
      await gate.usePolicies(new Map([[secretName, policy]]));
      server = await gate.serve(join(job.directory, 'state'), fence);
      if (job.takeOver) await gates.silence(job.principal);
      if (!job.scenario.first) await gates.open(job.principal);
      await settle();
      progress.isOpen = true;
    },
    settled: (consumer) => {
      if (consumer.id !== `gate:${gateServer}`) return consumer;
      return {
        ...consumer,
        reload: async (changes, signal) => {
          await consumer.reload(changes, signal);
          await settle();
        },
        report: async (secret, signal, seen) => {
          await gates.asked(job.principal);
          await settle();
          return consumer.report(secret, signal, seen);
        },
      };
    },
    close: async () => {
      await server?.close();
    },
  };
}
