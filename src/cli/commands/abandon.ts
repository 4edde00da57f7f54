/** The command `rotate abandon`: an unpromoted rotation ends, what it minted is revoked. */
import { oneSecretCommand } from '../one-secret.ts';

export const { configure, run } = oneSecretCommand(
  'abandon',
  (service, secret, ask) => service.abandon(secret, ask),
  'abandoned',
);
