/** Schedules as the machine asks for them, on a wall clock that never goes back. */
import type { Clock } from '../clock.ts';
import type { Journal } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { Ports } from '../rotation/ports.ts';
import { createScheduler } from '../schedule/due.ts';
import { scheduleClock } from '../schedule/schedule-clock.ts';

export type Scheduling = Pick<Ports, 'nextDue' | 'mayBegin' | 'nextRuns' | 'scheduleClock'>;

export async function createScheduling(
  journal: Pick<Journal, 'newestInstant'>,
  clock: Clock,
): Promise<Scheduling> {
  const scheduler = createScheduler();
  // Another owner may have journalled it in another boot: how long ago is unknown, so time stands still until it is reached.
  let newest = await journal.newestInstant();
  let readAtMs = clock.monotonicMs();

  function read() {
    const nowMs = clock.monotonicMs();
    const wallNow = clock.now();
    const held = scheduleClock({ newestInstantAt: newest, wallNow, elapsedMs: 0 });
    // A clock that was truly set back must not stop the schedules until it has caught up. A step of a second or two must
    // only be waited out: adding it to the elapsed time would put schedules ahead for ever, a little more at each step.
    const time = held.isSetBack
      ? scheduleClock({ newestInstantAt: newest, wallNow, elapsedMs: nowMs - readAtMs })
      : held;
    newest = time.now;
    readAtMs = nowMs;
    return time;
  }

  const seedOf = (policy: Policy) => policy.group ?? policy.name;
  return {
    nextDue: (policy, context) => scheduler.nextDue(policy.schedule, context, seedOf(policy)),
    mayBegin: (policy, now) => scheduler.mayBegin(policy.schedule, now),
    nextRuns: (policy, context, most) =>
      scheduler.nextRuns(policy.schedule, context, seedOf(policy), most),
    scheduleClock: { now: () => read().now, setBackMs: () => read().setBackMs },
  };
}
