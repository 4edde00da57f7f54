/** Cursors, rounds and tasks go to the process that handed them out, and what is unfinished is counted to it. */
import { describe, expect, test } from 'vitest';
import { frameOf, type Message, readMessage } from '../message.ts';
import { createAffinity } from './affinity.ts';
import type { Running } from './running.ts';

const running = (name: string) => ({ name }) as unknown as Running;
const [blue, green] = [running('blue'), running('green')];
const read = (body: object) => readMessage(frameOf(body)) as Message;
const answer = (result: object) => read({ id: 1, result });
const request = (method: string, params: object = {}) => read({ id: 2, method, params });
const meta = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' };

describe('a cursor', () => {
  test('goes to whoever handed it out, as often as it is used', () => {
    const affinity = createAffinity();
    affinity.learn(blue, answer({ tools: [], nextCursor: 'page 2' }));
    affinity.learn(green, answer({ tools: [], nextCursor: 'page 3' }));
    for (const method of ['tools/list', 'resources/list', 'tools/list']) {
      const asked = request(method, { cursor: 'page 2', _meta: meta });
      expect(affinity.ownerOf(asked)).toBe(blue);
      affinity.used(asked);
    }
    expect(affinity.ownerOf(request('tools/list', { cursor: 'page 3' }))).toBe(green);
    expect(affinity.open(blue)).toBe(0);
  });

  test('that nobody handed out, or that is none, goes anywhere', () => {
    const affinity = createAffinity();
    expect(affinity.ownerOf(request('tools/list', { cursor: 'x' }))).toBeNull();
    affinity.learn(blue, answer({ nextCursor: 7 }));
    affinity.learn(blue, answer({ nextCursor: null }));
    for (const params of [{}, { cursor: 7 }, { cursor: null }, { cursor: 'x' }]) {
      expect(affinity.ownerOf(request('tools/list', params))).toBeNull();
    }
  });

  test('of the same text belongs to whoever handed it out last', () => {
    const affinity = createAffinity();
    affinity.learn(blue, answer({ nextCursor: '2' }));
    affinity.learn(green, answer({ nextCursor: '2' }));
    expect(affinity.ownerOf(request('tools/list', { cursor: '2' }))).toBe(green);
  });
});

describe('a round', () => {
  const round = (requestState: string) => answer({ resultType: 'input_required', requestState });
  const retry = (requestState: string) => request('tools/call', { name: 'x', requestState });

  test('goes back to whoever began it, and is open until the client has come back', () => {
    const affinity = createAffinity();
    affinity.learn(blue, round('s1'));
    affinity.learn(blue, round('s2'));
    affinity.learn(green, round('s3'));
    expect([affinity.open(blue), affinity.open(green)]).toEqual([2, 1]);
    // Looking does not use it up: a call may be held, and asked about again.
    expect(affinity.ownerOf(retry('s1'))).toBe(blue);
    expect(affinity.ownerOf(retry('s1'))).toBe(blue);
    affinity.used(retry('s1'));
    expect(affinity.ownerOf(retry('s1'))).toBeNull();
    expect([affinity.open(blue), affinity.open(green)]).toEqual([1, 1]);
  });

  test('of any text is told from cursors and tasks of the same text', () => {
    const affinity = createAffinity();
    affinity.learn(blue, round('1'));
    affinity.learn(green, answer({ nextCursor: '1' }));
    expect(affinity.ownerOf(retry('1'))).toBe(blue);
    expect(affinity.ownerOf(request('tools/list', { cursor: '1' }))).toBe(green);
    expect(affinity.ownerOf(request('tasks/get', { taskId: '1' }))).toBeNull();
  });

  test('is told from another whose state is long or full of escapes', () => {
    const affinity = createAffinity();
    const long = `"\\\u00e9\n${'x'.repeat(100_000)}`;
    affinity.learn(blue, round(long));
    affinity.learn(green, round(`${long}x`));
    expect(affinity.ownerOf(retry(long))).toBe(blue);
    expect(affinity.ownerOf(retry(`${long}x`))).toBe(green);
  });
});

describe('a task', () => {
  test.each([
    ['as 2025-11-25 says', { task: { taskId: 't', status: 'working' } }],
    ['as the extension of 2026-07-28 says', { resultType: 'task', taskId: 't', status: 'working' }],
    ['without its status', { task: { taskId: 't' } }],
  ])('%s goes to whoever began it, and is open until it has ended', (_, created) => {
    const affinity = createAffinity();
    affinity.learn(blue, answer(created));
    for (const method of ['tasks/get', 'tasks/update', 'tasks/cancel', 'tasks/result']) {
      expect(affinity.ownerOf(request(method, { taskId: 't' }))).toBe(blue);
    }
    expect(affinity.ownerOf(request('tools/call', { taskId: 't' }))).toBeNull();
    expect(affinity.open(blue)).toBe(1);
    affinity.learn(blue, answer({ taskId: 't', status: 'input_required' }));
    expect(affinity.open(blue)).toBe(1);
    affinity.learn(blue, answer({ taskId: 't', status: 'completed' }));
    expect(affinity.open(blue)).toBe(0);
    // Its result may still be asked for.
    expect(affinity.ownerOf(request('tasks/result', { taskId: 't' }))).toBe(blue);
  });

  test.each(['completed', 'failed', 'cancelled'])(
    'has ended where a notification says %s',
    (status) => {
      const affinity = createAffinity();
      affinity.learn(blue, answer({ task: { taskId: 't', status: 'working' } }));
      affinity.learn(
        blue,
        read({ method: 'notifications/tasks/status', params: { taskId: 't', status: 'working' } }),
      );
      expect(affinity.open(blue)).toBe(1);
      affinity.learn(
        blue,
        read({ method: 'notifications/tasks/status', params: { taskId: 't', status } }),
      );
      expect(affinity.open(blue)).toBe(0);
    },
  );

  test('stays with whoever began it, though another process speaks of it', () => {
    const affinity = createAffinity();
    affinity.learn(blue, answer({ task: { taskId: 't', status: 'working' } }));
    affinity.learn(green, answer({ taskId: 't', status: 'working' }));
    expect(affinity.ownerOf(request('tasks/get', { taskId: 't' }))).toBe(blue);
  });

  test('begun anew under the same id belongs to whoever began it last', () => {
    const affinity = createAffinity();
    affinity.learn(blue, answer({ task: { taskId: 'task-1', status: 'working' } }));
    affinity.learn(green, answer({ task: { taskId: 'task-1', status: 'working' } }));
    expect(affinity.ownerOf(request('tasks/get', { taskId: 'task-1' }))).toBe(green);
  });
});

describe('what is remembered', () => {
  test('of a process goes with it', () => {
    const affinity = createAffinity();
    affinity.learn(blue, answer({ nextCursor: 'c', requestState: 'r', task: { taskId: 't' } }));
    affinity.learn(green, answer({ requestState: 'r2' }));
    affinity.forget(blue);
    expect(affinity.ownerOf(request('tools/list', { cursor: 'c' }))).toBeNull();
    expect(affinity.ownerOf(request('tasks/get', { taskId: 't' }))).toBeNull();
    expect([affinity.open(blue), affinity.open(green)]).toEqual([0, 1]);
  });

  test('is bounded: the oldest goes first', () => {
    const affinity = createAffinity();
    for (let count = 0; count < 10_001; count++)
      affinity.learn(blue, answer({ requestState: `${count}` }));
    expect(affinity.open(blue)).toBe(10_000);
    expect(affinity.ownerOf(request('tools/call', { requestState: '0' }))).toBeNull();
    expect(affinity.ownerOf(request('tools/call', { requestState: '1' }))).toBe(blue);
  });

  test('is looked for only where something may be handed out', () => {
    const affinity = createAffinity();
    const bytes = (result: object) => answer(result).bytes;
    expect(affinity.concerns(bytes({ nextCursor: 'a' }))).toBe(true);
    expect(affinity.concerns(bytes({ requestState: 'a' }))).toBe(true);
    expect(affinity.concerns(bytes({ task: { taskId: 'a' } }))).toBe(true);
    expect(affinity.concerns(bytes({ content: [{ text: 'the nextCursor' }] }))).toBe(false);
  });

  test('is nothing of an error', () => {
    const affinity = createAffinity();
    affinity.learn(
      blue,
      read({ id: 1, error: { code: 1, message: '', data: { requestState: 'a' } } }),
    );
    expect(affinity.open(blue)).toBe(0);
  });
});
