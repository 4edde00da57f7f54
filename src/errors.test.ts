import { describe, expect, it } from 'vitest';
import { asRotatedError, RotatedError } from './errors.ts';

const secret = 'sk-live-4f9d8c7b6a5e';

describe('a foreign error', () => {
  it.each([
    ['its message', new Error(secret)],
    ['its name', Object.assign(new Error('x'), { name: secret })],
    ['its code', Object.assign(new Error('x'), { code: secret })],
    ['a code that reads like one', Object.assign(new Error('x'), { code: 'AKIA7XKQ2M5B4WZC' })],
    ['its cause', new Error('x', { cause: secret })],
    ['a thrown text', secret],
  ])('keeps nothing of what it may repeat: %s', (_, thrown) => {
    const error = asRotatedError(thrown, 'unknown', 'a');
    const printed =
      JSON.stringify(error) + String(error) + String(error.stack) + String(error.cause);
    expect(printed).not.toContain(secret);
    expect(printed).not.toContain('AKIA');
    expect(error).toMatchObject({ code: 'unexpected', effect: 'unknown', secret: 'a' });
  });

  it('that ended a call at its deadline is a timeout, and a system code is kept', () => {
    expect(asRotatedError(AbortSignal.abort().reason, 'none').code).toBe('timeout');
    const refused = Object.assign(new Error('connect 127.0.0.1:1'), { code: 'ECONNREFUSED' });
    expect(asRotatedError(refused, 'none').message).toContain('ECONNREFUSED');
  });

  it('of our own is passed through as it is', () => {
    const own = new RotatedError('denied', 'No.');
    expect(asRotatedError(own, 'unknown')).toBe(own);
  });
});
