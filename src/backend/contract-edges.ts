/** The backends' contract for removal, limits, and what an error may say. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { VersionId } from './backend.ts';
import {
  type BackendSubject,
  fields,
  note,
  onFreshItem,
  promote,
  put,
  refuses,
  signal,
  stage,
  values,
  type Work,
} from './contract-support.ts';

export function edgesContract(subject: BackendSubject): void {
  const onFresh = (work: Work) => onFreshItem(subject, work);

  describe(`${subject.name}: removal`, () => {
    test(
      'a discard drops own pending, is done once, and the version number is not used again',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await stage(backend, item, 't2', { PASSWORD: 'two' }, first);
        await backend.discard(item, 't2', signal);
        await backend.discard(item, 't2', signal);
        await backend.discard(item, 't1', signal);
        expect(await values(backend, item)).toEqual({ PASSWORD: 'one' });
        await refuses(backend.read(item, { version: second }, signal), 'not-found');
        await refuses(promote(backend, item, 't2', second, first), 'conflict');
        expect(await stage(backend, item, 't3', { PASSWORD: 'three' }, first)).not.toBe(second);
      }),
    );

    test(
      'discarding the first version ever leaves an absent item',
      onFresh(async (backend, item) => {
        await stage(backend, item, 't1', { PASSWORD: 'one' }, null);
        await backend.discard(item, 't1', signal);
        expect(await backend.describe(item, signal)).toEqual({
          pending: null,
          current: null,
          previous: null,
        });
        await put(backend, item, 't2', { PASSWORD: 'two' }, null);
      }),
    );

    test(
      'the previous version is retired only if it is still the one meant',
      onFresh(async (backend, item) => {
        const first = await put(backend, item, 't1', { PASSWORD: 'one' }, null);
        const second = await put(backend, item, 't2', { PASSWORD: 'two' }, first);
        await backend.retirePrevious(item, second, signal);
        expect((await backend.describe(item, signal)).previous?.version).toBe(first);
        await backend.retirePrevious(item, first, signal);
        await backend.retirePrevious(item, first, signal);
        expect((await backend.describe(item, signal)).previous).toBeNull();
        await refuses(backend.read(item, { version: first }, signal), 'not-found');
      }),
    );

    test(
      'after a purge nothing but current and pending can be read',
      onFresh(async (backend, item) => {
        const versions: VersionId[] = [];
        for (let index = 0; index < 4; index++) {
          versions.push(
            await put(
              backend,
              item,
              `t${index}`,
              { PASSWORD: `v${index}` },
              versions.at(-1) ?? null,
            ),
          );
        }
        await stage(backend, item, 'next', { PASSWORD: 'next' }, versions.at(-1) ?? null);
        await backend.purge(item, signal);
        await backend.purge(item, signal);
        for (const version of versions.slice(0, -1)) {
          await refuses(backend.read(item, { version }, signal), 'not-found');
        }
        expect(await values(backend, item, 'pending')).toEqual({ PASSWORD: 'next' });
        expect(await values(backend, item)).toEqual({ PASSWORD: 'v3' });
      }),
    );
  });

  describe(`${subject.name}: limits and answers`, () => {
    test(
      'what does not exist is not-found, and removing it succeeds',
      onFresh(async (backend, item) => {
        for (const at of [
          'current',
          'pending',
          'previous',
          { version: '1' },
          { version: 'nonsense' },
        ] as const) {
          await refuses(backend.read(item, at, signal), 'not-found');
        }
        await backend.discard(item, 't', signal);
        await backend.retirePrevious(item, '1', signal);
        await backend.purge(item, signal);
      }),
    );

    test(
      'an item beyond the size limit is refused whole',
      onFresh(async (backend, item) => {
        const most = backend.capabilities.bytesMax;
        const first = await put(backend, item, 't1', { A: 'x'.repeat(most - 100) }, null, 'alpha');
        await refuses(
          stage(backend, item, 't2', { B: 'y'.repeat(200) }, first, 'beta'),
          'too-large',
        );
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'values of every kind come back as they were',
      onFresh(async (backend, item) => {
        const kinds = {
          EMPTY: '',
          LINES: 'a\nb\r\n',
          WIDE: 'pässwörd 🔑 \u2028',
          QUOTES: `"'\\$\u0000`,
          __proto__x: 'p',
        };
        await put(backend, item, 't1', kinds, null);
        expect(await values(backend, item)).toEqual(kinds);
      }),
    );

    test(
      'preflight finds a usable item ready and changes nothing',
      onFresh(async (backend, item) => {
        for (const finding of await backend.preflight(item, signal))
          expect(finding.level).not.toBe('red');
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'an aborted call ends with a timeout and writes nothing',
      onFresh(async (backend, item) => {
        const aborted = AbortSignal.abort(new DOMException('deadline', 'TimeoutError'));
        const write = { txn: 't1', expectCurrent: null };
        await refuses(
          backend.stage(item, fields({ A: 'x' }), [note('db', 1)], write, aborted),
          'timeout',
        );
        await refuses(backend.describe(item, aborted), 'timeout');
        expect((await backend.describe(item, signal)).pending).toBeNull();
      }),
    );

    test(
      'no error, in any form, carries a value',
      onFresh(async (backend, item, under) => {
        const canary = 'canary-7f3a9c51e2';
        const first = await put(backend, item, 't1', { PASSWORD: canary }, null);
        const failing = [
          stage(backend, item, 't1', { PASSWORD: `${canary}-other` }, null),
          stage(backend, item, 't2', { PASSWORD: canary }, null),
          stage(backend, item, 't3', { PASSWORD: canary.repeat(20_000) }, first),
          backend.rollback(
            item,
            fields({ PASSWORD: canary }),
            [note('db', 2)],
            { txn: 't4', expectCurrent: 'x' },
            signal,
          ),
          promote(backend, item, 't1', '77', first),
          backend.read(item, 'previous', signal),
        ];
        for (const attempt of failing) {
          const error: unknown = await attempt.then(
            () => expect.unreachable('the call should fail'),
            (reason: unknown) => reason,
          );
          const shown = [inspect(error, { depth: 9 }), JSON.stringify(error), String(error)].join(
            '\n',
          );
          expect(shown).not.toContain(canary);
        }
        expect(await under.leaks?.(canary)).not.toBe(true);
      }),
    );
  });
}
