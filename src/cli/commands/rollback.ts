/** The command `rotate rollback`: the predecessor becomes current again. */
import { oneSecretCommand } from '../one-secret.ts';

export const { configure, run } = oneSecretCommand(
  'rollback',
  (service, secret, ask) => service.rollback(secret, ask),
  'rolled-back',
);
