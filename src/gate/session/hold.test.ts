/** Held frames: what waits in each mode, in order, each once, and what the client takes back while it waits. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { frameOf, type Message } from '../message.ts';
import { createHold } from './hold.ts';

function open(belongs: (request: Message) => boolean = () => false) {
  const full: boolean[] = [];
  return { hold: createHold((isFull) => full.push(isFull), belongs), full };
}

const call = (id: number | string, more: object = {}) =>
  frameOf({ id, method: 'tools/call', ...more });
const cancel = (requestId: number | string) =>
  frameOf({ method: 'notifications/cancelled', params: { requestId } });
const answer = frameOf({ id: 9, result: {} });
const notice = frameOf({ method: 'notifications/initialized' });
const junk = Buffer.from('junk\n');

describe('a hold', () => {
  test('keeps nothing before it has begun, nor after its release', () => {
    const { hold } = open();
    expect(hold.keep(call(1))).toBe(false);
    hold.begin('all');
    expect(hold.keep(call(2))).toBe(true);
    expect(hold.isEmpty()).toBe(false);
    expect(hold.release()).toEqual([call(2)]);
    expect(hold.isEmpty()).toBe(true);
    expect(hold.keep(call(3))).toBe(false);
    expect(hold.release()).toEqual([]);
  });

  test('of everything keeps everything, in order, cancellations too', () => {
    const { hold } = open(() => true);
    hold.begin('all');
    const frames = [call(1), answer, junk, notice, cancel(1), call(2)];
    for (const frame of frames) expect(hold.keep(frame)).toBe(true);
    expect(hold.release()).toEqual(frames);
  });

  test('of calls keeps new requests alone', () => {
    const { hold } = open();
    hold.begin('calls');
    expect([call(1), answer, junk, notice, call('2')].map((frame) => hold.keep(frame))).toEqual([
      true,
      false,
      false,
      false,
      true,
    ]);
    expect(hold.release()).toEqual([call(1), call('2')]);
  });

  test('of calls lets those pass that the process being drained waits for', () => {
    const { hold } = open((request) => request.id === '2');
    hold.begin('calls');
    expect([1, 2, 3].map((id) => hold.keep(call(id)))).toEqual([true, false, true]);
    expect(hold.release()).toEqual([call(1), call(3)]);
  });

  test('of everything stays one, whatever is asked for after', () => {
    const { hold } = open();
    hold.begin('calls');
    hold.begin('all');
    hold.begin('calls');
    expect(hold.keep(notice)).toBe(true);
  });

  test('keeps its own copy: the memory that a frame came in is used again', () => {
    const { hold } = open();
    hold.begin('all');
    const chunk = Buffer.from(call(1));
    hold.keep(chunk);
    chunk.fill(0);
    expect(hold.release()).toEqual([call(1)]);
  });
});

describe('a cancellation, where calls are held,', () => {
  test('takes back the call that waits, and nobody hears of either', () => {
    const { hold } = open();
    hold.begin('calls');
    for (const id of [1, '1', 2]) hold.keep(call(id));
    expect(hold.keep(cancel(1))).toBe(true);
    expect(hold.release()).toEqual([call('1'), call(2)]);
  });

  test('of a call that does not wait goes on its way', () => {
    const { hold } = open();
    hold.begin('calls');
    hold.keep(call(1));
    expect(hold.keep(cancel(2))).toBe(false);
    expect(hold.keep(frameOf({ method: 'notifications/cancelled', params: {} }))).toBe(false);
    expect(hold.release()).toEqual([call(1)]);
  });
});

describe('a full hold', () => {
  const big = call(1, { params: { text: 'x'.repeat(9 << 20) } });

  test('says so as soon as it holds more than it should, and loses nothing', () => {
    const { hold, full } = open();
    hold.begin('all');
    hold.keep(big);
    expect(full).toEqual([]);
    hold.keep(big);
    expect(full).toEqual([true]);
    expect(hold.keep(call(3))).toBe(true);
    expect(hold.release()).toHaveLength(3);
  });

  test('is not full any more once what filled it was taken back', () => {
    const { hold, full } = open();
    hold.begin('calls');
    hold.keep(big);
    hold.keep(cancel(1));
    hold.keep(big);
    expect(full).toEqual([]);
  });

  test('is empty after its release, and fills anew', () => {
    const { hold, full } = open();
    for (let round = 0; round < 3; round++) {
      hold.begin('all');
      hold.keep(big);
      hold.release();
    }
    expect(full).not.toContain(true);
  });
});

test('whatever is kept and not taken back is released, once and in order', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('call' as const), id: fc.nat(5) }),
    fc.record({ kind: fc.constant('cancel' as const), id: fc.nat(5) }),
    fc.record({ kind: fc.constant('notice' as const), id: fc.nat(5) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const { hold } = open();
      hold.begin('calls');
      let expected: number[] = [];
      for (const { kind, id } of steps) {
        if (kind === 'call') {
          expect(hold.keep(call(id))).toBe(true);
          expected.push(id);
        } else if (kind === 'cancel') {
          expect(hold.keep(cancel(id))).toBe(expected.includes(id));
          expected = expected.filter((one) => one !== id);
        } else expect(hold.keep(notice)).toBe(false);
      }
      expect(hold.isEmpty()).toBe(expected.length === 0);
      expect(hold.release()).toEqual(expected.map((id) => call(id)));
    }),
  );
});
