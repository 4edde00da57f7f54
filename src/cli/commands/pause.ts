/** The command `rotate pause`: the schedule of one secret stands still. */
import { oneSecretCommand } from '../one-secret.ts';

export const { configure, run } = oneSecretCommand(
  'pause',
  (service, secret, ask) => service.pause(secret, ask),
  null,
);
