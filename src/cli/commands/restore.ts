/** The command `rotate restore`: a lost item comes back from its sealed copy. */
import { oneSecretCommand } from '../one-secret.ts';

export const { configure, run } = oneSecretCommand(
  'restore',
  (service, secret, ask) => service.restore(secret, ask),
  null,
);
