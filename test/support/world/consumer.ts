/** A consumer inside the test: instances that load the backend's current value, or refuse to, and use it at the issuer. */
import type {
  Change,
  Consumer,
  InstanceReport,
  InstanceState,
} from '../../../src/consumer/consumer.ts';
import { RotatedError } from '../../../src/errors.ts';

export interface TestInstance {
  readonly id: string;
  generation: number | null;
  state: InstanceState;
  /** The value it serves. */
  value: string | null;
  /** Keeps what it has, whatever it is told. */
  stubborn: boolean;
}

export interface TestConsumer extends Consumer {
  readonly instances: Map<string, TestInstance>;
  /** Every reload it was told, in order. */
  readonly reloads: (readonly Change[])[];
  down: boolean;
  /** It cannot report at all. */
  mute: boolean;
  add(id: string): TestInstance;
}

export function testConsumer(
  id: string,
  role: Consumer['role'],
  load: (secret: string) => Promise<{ generation: number; value: string } | null>,
): TestConsumer {
  const instances = new Map<string, TestInstance>();
  const reloads: (readonly Change[])[] = [];
  const consumer: TestConsumer = {
    id,
    role,
    reports: true,
    instances,
    reloads,
    down: false,
    mute: false,
    add: (name) => {
      const instance: TestInstance = {
        id: name,
        generation: null,
        state: 'serving',
        value: null,
        stubborn: false,
      };
      instances.set(name, instance);
      return instance;
    },
    probe: async () => {
      if (consumer.down) throw new RotatedError('consumer-failed', `${id} is down.`);
    },
    reload: async (changes) => {
      if (consumer.down) throw new RotatedError('consumer-failed', `${id} is down.`);
      reloads.push(changes);
      for (const change of changes) {
        const loaded = await load(change.secret);
        for (const instance of instances.values()) {
          if (instance.stubborn || instance.state === 'gone') continue;
          if (role === 'verifier') instance.generation = change.generation;
          else if (loaded !== null)
            Object.assign(instance, { generation: loaded.generation, value: loaded.value });
        }
      }
    },
    report: async (): Promise<readonly InstanceReport[] | 'unknown'> => {
      if (consumer.mute) return 'unknown';
      if (consumer.down) throw new RotatedError('consumer-failed', `${id} is down.`);
      return [...instances.values()].map(({ id: instance, generation, state }) => ({
        instance,
        generation,
        state,
      }));
    },
  };
  return consumer;
}
