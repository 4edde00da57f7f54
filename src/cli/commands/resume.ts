/** The command `rotate resume`: a paused schedule or a parked rotation goes on. */
import { oneSecretCommand } from '../one-secret.ts';

export const { configure, run } = oneSecretCommand(
  'resume',
  (service, secret, ask) => service.resume(secret, ask),
  'retired',
);
