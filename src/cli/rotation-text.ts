/** One rotation in full, for people. */
import type { RotationView } from '../rotation/service.ts';
import { duration, instant } from './print.ts';

export function rotationText(one: RotationView): string {
  const dead = Object.entries(one.deadAt).map(
    ([secret, at]) => `  old credential of ${secret} proven dead at ${instant(at)}`,
  );
  return `${[
    `rotation ${one.id} of ${one.secrets.join(', ')} (${one.kind}${one.mode === null ? '' : `, ${one.mode}`})`,
    `  asked by ${one.actor.id}${one.actor.proven ? '' : ' (claimed)'} via ${one.actor.channel}${one.reason === null ? '' : `: ${one.reason}`}`,
    ...one.phases.map(({ phase, at }) => `  ${instant(at)} ${phase}`),
    ...dead,
    ...(one.overlapMs === null ? [] : [`  both were valid for ${duration(one.overlapMs)}`]),
    ...(one.waitsFor === null ? [] : [`  waits for: ${one.waitsFor}`]),
    ...(one.parked === null
      ? []
      : [`  waits for a person: ${one.parked.message}`, `  Next: ${one.parked.next}`]),
    ...(one.lastError === null
      ? []
      : [
          `  ${one.lastError.code === asked ? 'because' : 'last error'}: ${whyText(one.lastError)}`,
        ]),
    ...one.unconfirmedConsumers.map((consumer) => `  not confirmed by ${consumer}`),
  ].join('\n')}\n`;
}

/** The code of an end that somebody wanted: no error. */
const asked = 'asked';

export function whyText({ code, message }: NonNullable<RotationView['lastError']>): string {
  return code === asked ? message : `${message} (${code})`;
}
