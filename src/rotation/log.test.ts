/** What the log says of a rotation. */
import { expect, test } from 'vitest';
import type { AuditEvent } from '../journal/journal.ts';
import { logWritten } from './log.ts';

const event = (more: Partial<AuditEvent>): AuditEvent => ({
  at: 1,
  actor: { id: 'anna', channel: 'socket', proven: true },
  action: 'rotation.promoted',
  secret: 'a',
  rotation: 'r1',
  reason: null,
  outcome: 'done',
  detail: { generation: 7 },
  ...more,
});

function logged(written: Parameters<typeof logWritten>[1]): unknown[] {
  const lines: unknown[] = [];
  const keep = (level: string) => (fields: object, message: string) =>
    lines.push({ level, message, ...fields });
  logWritten({ info: keep('info'), warn: keep('warn'), error: keep('error') }, written);
  return lines;
}

test('each audit line is a line of the log, with who and why', () => {
  expect(logged({ audit: [event({ reason: 'leaked' })] })).toEqual([
    {
      level: 'info',
      message: 'rotation.promoted',
      secret: 'a',
      rotation: 'r1',
      generation: 7,
      by: 'anna',
      reason: 'leaked',
    },
  ]);
});

test('a failure is a warning that says what happened', () => {
  const failed = event({
    action: 'rotation.minting.failed',
    outcome: 'failed',
    detail: { code: 'unavailable' },
  });
  const lastError = { code: 'unavailable', message: 'The issuer answers 503.' };
  expect(logged({ audit: [failed], rotations: [{ id: 'r1', data: { lastError } }] })).toMatchObject(
    [{ level: 'warn', code: 'unavailable', error: 'The issuer answers 503.' }],
  );
  expect(
    logged({ audit: [failed], debts: [{ id: 'd', rotation: 'r1', data: { lastError } }] }),
  ).toMatchObject([{ level: 'warn', error: 'The issuer answers 503.' }]);
});

test('ten thousand new policies are one line', () => {
  const audit = Array.from({ length: 500 }, () => event({ action: 'policy.added' }));
  expect(logged({ audit })).toEqual([
    { level: 'info', message: 'many audit lines at once', lines: 500, first: 'policy.added' },
  ]);
});
