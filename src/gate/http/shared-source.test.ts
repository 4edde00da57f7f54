import { describe, expect, test } from 'vitest';
import { shareSource } from './shared-source.ts';
import { createTestSource } from './testing/source.ts';

const signal = AbortSignal.timeout(60_000);
const one = { 'local://a': 'first-value' };

const serving = (generation: number, problem: string | null = null) =>
  ({
    state: 'serving',
    generations: { 'local://a': generation },
    problem: problem === null ? null : { code: 'swap-failed', message: problem },
  }) as const;

describe('sessions of one server', () => {
  test('are together as old as the oldest of them, and say so when one is left behind', async () => {
    const source = createTestSource(one);
    const shared = shareSource(source, {});
    const [a, b] = [shared.share(), shared.share()];
    for (const share of [a, b]) {
      await share.resolve(signal);
      share.report(serving(1));
    }
    source.change({ 'local://a': 'second-value' });
    a.report(serving(2));
    expect(source.status()).toEqual(serving(1));
    b.report(serving(1, 'it did not start'));
    expect(source.status()).toEqual(serving(1, 'it did not start'));
    b.report(serving(2));
    expect(source.status()).toEqual(serving(2));
  });

  test('count from the moment that one was given its values, before it says anything', async () => {
    const source = createTestSource(one);
    const shared = shareSource(source, {});
    const [old, starting] = [shared.share(), shared.share()];
    await old.resolve(signal);
    old.report(serving(1));
    await starting.resolve(signal);
    source.change({ 'local://a': 'second-value' });
    await old.resolve(signal);
    old.report(serving(2));
    // The other one is starting with the first value.
    expect(source.status()).toEqual(serving(1));
    starting.report(serving(2));
    expect(source.status()).toEqual(serving(2));
  });

  test('that are idle or gone hold nobody up', async () => {
    const source = createTestSource(one);
    const shared = shareSource(source, {});
    const [a, b] = [shared.share(), shared.share()];
    for (const share of [a, b]) {
      await share.resolve(signal);
      share.report(serving(1));
    }
    source.change({ 'local://a': 'second-value' });
    await a.resolve(signal);
    a.report(serving(2));
    b.report({ state: 'idle', generations: {}, problem: null });
    expect(source.status()).toEqual(serving(2));
    await a.close();
    expect(source.status()).toEqual({ ...serving(2), state: 'idle' });
    await shared.close();
    expect(source.isClosed()).toBe(true);
  });

  test('all hear of a change; what the entry says counts more than the policy', () => {
    const source = createTestSource(one, { drainMs: 1, warmMs: 2 });
    const shared = shareSource(source, { drainMs: 9 });
    const heard: string[] = [];
    for (const name of ['a', 'b']) {
      const share = shared.share();
      share.listen(({ urgent }) => void heard.push(`${name} ${urgent}`));
      expect(share.settings()).toMatchObject({ drainMs: 9, warmMs: 2 });
    }
    source.change(one, { urgent: true });
    expect(heard).toEqual(['a true', 'b true']);
  });
});
