/** What every kind of consumer must do, as cases that run against a real target: processes, servers, files. */
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { isRotatedError, type RotatedError } from '../errors.ts';
import type { Change, Consumer } from './consumer.ts';

/** One reload as it reached the target. */
export interface SeenReload {
  /** null where the target is told without being told what (a signal). */
  readonly changes: readonly Change[] | null;
  /** Everything the target could see of it: arguments, environment, stdin, headers, body. */
  readonly everything: string;
}

export interface BuildOptions {
  readonly role?: 'user' | 'verifier';
  readonly report?: 'none' | 'some';
  /** Where a case waits for the deadline. Else long enough for a busy machine. */
  readonly timeoutMs?: number;
}

/** A consumer and the real target behind it, made anew for each case. */
export interface ConsumerSubject extends AsyncDisposable {
  /** Built from the same policy each time, but for what is said. */
  build(options?: BuildOptions): Consumer;
  /** Two changes that belong into one reload of this consumer. */
  readonly changes: readonly [Change, Change];
  /** A value of the secret. */
  readonly canary: string;
  /** Does the policy hand the values to this target? Else it must not see any. */
  readonly receivesValues: boolean;
  /** Waits until the target has seen so many reloads, then returns all that it saw. */
  seen(atLeast: number): Promise<readonly SeenReload[]>;
  /** Ends the target for good. */
  kill(): Promise<void>;
  /** From now on a reload takes longer than any deadline; null where telling takes no time. Resolves when set. */
  readonly hang: (() => Promise<void>) | null;
  /** What the target answers when asked to report; null where no text of its own is asked for. */
  readonly answer: ((text: string) => Promise<void>) | null;
}

/** hang: a target that takes its time. answer: a report that the target words. silence: one that can be built without a report. */
export type Need = 'hang' | 'answer' | 'silence';

export interface ContractCase {
  /** A claim. */
  readonly name: string;
  /** What a subject must be able to do for this case; who runs the contract declares which cannot, and why. */
  readonly needs?: Need;
  run(subject: ConsumerSubject): Promise<void>;
}

const patience = () => AbortSignal.timeout(30_000);

const good = JSON.stringify({
  instances: [
    { id: 'one', generation: 7, state: 'serving', since: 'further members are ignored' },
    { id: 'two', generation: null, state: 'idle' },
    { id: 'three', generation: 6, state: 'gone' },
    { id: 'four', generation: 6, state: 'unreachable' },
  ],
});

const many = Array.from({ length: 20_000 }, (_, at) => ({
  id: `i${at}`,
  generation: 1,
  state: 'serving',
}));
const one = { id: 'one', generation: 7, state: 'serving' };
/** Each holds `leak`, which no error may repeat. */
const hostile: Readonly<Record<string, (leak: string) => string>> = {
  'no JSON': (leak) => leak,
  'an empty answer': () => '',
  'a list': (leak) => JSON.stringify([one, leak]),
  null: () => 'null',
  'no instances': (leak) => JSON.stringify({ instance: leak }),
  'instances that are no list': (leak) => JSON.stringify({ instances: { leak } }),
  'an id that is a number': () => JSON.stringify({ instances: [{ ...one, id: 4 }] }),
  'an empty id': () => JSON.stringify({ instances: [{ ...one, id: '' }] }),
  'an id with a line break': (leak) =>
    JSON.stringify({ instances: [{ ...one, id: `a\n${leak}` }] }),
  'an endless id': (leak) => JSON.stringify({ instances: [{ ...one, id: leak.repeat(99) }] }),
  'a generation that is text': () => JSON.stringify({ instances: [{ ...one, generation: '7' }] }),
  'a negative generation': () => JSON.stringify({ instances: [{ ...one, generation: -1 }] }),
  'half a generation': () => JSON.stringify({ instances: [{ ...one, generation: 7.5 }] }),
  'a generation beyond counting': () =>
    JSON.stringify({ instances: [one] }).replace(':7', ':90071992547409939'),
  'no generation': () => JSON.stringify({ instances: [{ id: 'one', state: 'serving' }] }),
  'a state nobody knows': (leak) => JSON.stringify({ instances: [{ ...one, state: leak }] }),
  'an instance twice': () => JSON.stringify({ instances: [one, { ...one, generation: 6 }] }),
  'too many instances': () => JSON.stringify({ instances: many }),
  'more bytes than are read': (leak) => JSON.stringify({ instances: [], pad: leak.repeat(80_000) }),
};

export const consumerContract: readonly ContractCase[] = [
  {
    name: 'the same policy gives the same id, another role another',
    async run(subject) {
      assert.equal(subject.build().id, subject.build({ report: 'none' }).id);
      assert.equal(subject.build().role, 'user');
      const verifier = subject.build({ role: 'verifier' });
      assert.equal(verifier.role, 'verifier');
      assert.notEqual(verifier.id, subject.build().id);
      assert.match(subject.build().id, /^[a-z]+:[\x20-\x7e]+$/);
    },
  },
  {
    name: 'a probe reaches the target and reloads nothing',
    async run(subject) {
      const consumer = subject.build();
      await consumer.probe(patience());
      await consumer.reload([subject.changes[1]], patience());
      assert.equal((await subject.seen(1)).length, 1);
    },
  },
  {
    name: 'a reload may be repeated',
    async run(subject) {
      const consumer = subject.build();
      for (const times of [1, 2, 3]) {
        await consumer.reload([subject.changes[1]], patience());
        assert.equal((await subject.seen(times)).length, times);
      }
    },
  },
  {
    name: 'several changes are one reload, told in full and in order',
    async run(subject) {
      const consumer = subject.build();
      await consumer.reload(subject.changes, patience());
      // A second one before the first was handled may be one signal to a process.
      await subject.seen(1);
      await consumer.reload([subject.changes[1]], patience());
      const seen = await subject.seen(2);
      assert.equal(seen.length, 2);
      if (seen[0]?.changes !== null) assert.deepEqual(seen[0]?.changes, subject.changes);
    },
  },
  {
    name: 'reloads at the same time all arrive',
    async run(subject) {
      const consumers = [subject.build(), subject.build()];
      // A second change before the first was handled may be one signal to a process: at least one arrives after the last.
      await Promise.all(
        consumers.map((each) => each.reload([subject.changes[1]], patience()).catch(onlyRetriable)),
      );
      assert.ok((await subject.seen(1)).length >= 1);
    },
  },
  {
    name: 'no change is no reload',
    async run(subject) {
      const consumer = subject.build();
      await consumer.reload([], patience());
      await consumer.reload([subject.changes[1]], patience());
      assert.equal((await subject.seen(1)).length, 1);
    },
  },
  {
    name: 'a caller that has stopped reloads nothing',
    async run(subject) {
      const consumer = subject.build();
      const stopped = AbortSignal.abort(new Error('stopped'));
      assert.equal((await failure(consumer.reload(subject.changes, stopped))).code, 'timeout');
      assert.equal((await failure(consumer.probe(stopped))).code, 'timeout');
      await consumer.reload([subject.changes[1]], patience());
      assert.equal((await subject.seen(1)).length, 1);
    },
  },
  {
    name: 'an abort ends a reload that hangs, and says that its effect is unknown',
    needs: 'hang',
    async run(subject) {
      assert.ok(subject.hang !== null);
      await subject.hang();
      const controller = new AbortController();
      const reload = failure(subject.build().reload(subject.changes, controller.signal));
      setImmediate(() => controller.abort(new Error('stopped')));
      const error = await reload;
      assert.equal(error.code, 'timeout');
      assert.notEqual(error.effect, 'applied');
    },
  },
  {
    name: 'a reload that hangs ends at its deadline',
    needs: 'hang',
    async run(subject) {
      assert.ok(subject.hang !== null);
      await subject.hang();
      const error = await failure(
        subject.build({ timeoutMs: 300 }).reload(subject.changes, patience()),
      );
      assert.equal(error.code, 'timeout');
      assert.notEqual(error.effect, 'applied');
    },
  },
  {
    name: 'a dead target is consumer-failed without effect, with its place and the next step',
    async run(subject) {
      await subject.kill();
      const consumer = subject.build();
      const error = await failure(consumer.reload(subject.changes, patience()));
      assert.equal(error.code, 'consumer-failed');
      assert.equal(error.effect, 'none');
      assert.notEqual(error.next, '');
      assert.match(error.message, /[/:]/);
      const probed = await failure(consumer.probe(patience()));
      assert.ok(['consumer-failed', 'not-found', 'denied'].includes(probed.code), probed.code);
    },
  },
  {
    name: 'no value reaches a target that the policy does not hand it to, nor any error',
    async run(subject) {
      const consumer = subject.build();
      await consumer.reload([subject.changes[1]], patience());
      const [seen] = await subject.seen(1);
      assert.ok(seen !== undefined && seen.everything.length > 0);
      // Both ways: that a file does hold the value shows that the search would find it.
      assert.equal(seen.everything.includes(subject.canary), subject.receivesValues);
      await subject.kill();
      const error = await failure(consumer.reload([subject.changes[1]], patience()));
      assertHolds(error, subject.canary, false);
      assert.ok(!consumer.id.includes(subject.canary));
    },
  },
  {
    name: 'without a report nothing is known, and that is said beforehand',
    needs: 'silence',
    async run(subject) {
      const consumer = subject.build({ report: 'none' });
      assert.equal(consumer.reports, false);
      assert.equal(await consumer.report(subject.changes[0].secret, patience()), 'unknown');
    },
  },
  {
    name: 'a report names each instance, its generation and its state',
    needs: 'answer',
    async run(subject) {
      assert.ok(subject.answer !== null);
      const consumer = subject.build();
      assert.equal(consumer.reports, true);
      await subject.answer(good);
      assert.deepEqual(await consumer.report(subject.changes[0].secret, patience()), [
        { instance: 'one', generation: 7, state: 'serving' },
        { instance: 'two', generation: null, state: 'idle' },
        { instance: 'three', generation: 6, state: 'gone' },
        { instance: 'four', generation: 6, state: 'unreachable' },
      ]);
      await subject.answer('{"instances":[]}');
      assert.deepEqual(await consumer.report(subject.changes[0].secret, patience()), []);
    },
  },
  {
    name: 'a report that cannot be understood in full is not believed in part, nor repeated in the error',
    needs: 'answer',
    async run(subject) {
      assert.ok(subject.answer !== null);
      const consumer = subject.build();
      for (const [what, make] of Object.entries(hostile)) {
        await subject.answer(make(subject.canary));
        const error = await failure(consumer.report(subject.changes[0].secret, patience()), what);
        assert.ok(
          ['invalid-answer', 'consumer-unsafe'].includes(error.code),
          `${what}: ${error.code}`,
        );
        assertHolds(error, subject.canary, false);
      }
    },
  },
  {
    name: 'a report that does not come is an error, not an empty list',
    async run(subject) {
      const consumer = subject.build();
      const stopped = failure(consumer.report(subject.changes[0].secret, AbortSignal.abort()));
      assert.equal((await stopped).code, 'timeout');
    },
  },
];

/** In a folder, one of two renders at once may find its temporary file cleared away by the other. */
function onlyRetriable(error: unknown): void {
  assert.ok(isRotatedError(error, 'consumer-failed'), inspect(error));
}

async function failure(work: Promise<unknown>, what = 'it'): Promise<RotatedError> {
  try {
    await work;
  } catch (error) {
    assert.ok(isRotatedError(error), `${what} threw ${inspect(error)}`);
    return error;
  }
  assert.fail(`${what} did not fail`);
}

function assertHolds(error: RotatedError, value: string, expected: boolean): void {
  const shown = [
    JSON.stringify(error),
    String(error.stack),
    inspect(error, { depth: 10, showHidden: true }),
  ];
  assert.equal(shown.join('\n').includes(value), expected);
}
