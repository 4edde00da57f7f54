/** Which issuers are built in: the only list of them. A module loads when a policy uses it, its SDK when a session opens. */
import { createRegistry, type ProviderEntries, type Registry } from '../src/provider/registry.ts';

export const providerEntries: ProviderEntries = {
  exec: () => import('./exec/index.ts'),
  generated: () => import('./generated/index.ts'),
  operator: () => import('./operator/index.ts'),
  postgres: () => import('./postgres/index.ts'),
  redis: () => import('./redis/index.ts'),
};

export function builtInProviders(): Registry {
  return createRegistry(providerEntries);
}
