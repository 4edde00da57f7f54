/** Providers at hand: loaded once, their options checked once for each policy, their sessions wrapped. */
import type { Clock, Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { Provider, Traits } from '../provider/provider.ts';
import { optionsOrThrow, type Registry } from '../provider/registry.ts';
import { wrapSession } from '../provider/wrapper.ts';
import type { OpenProvider } from '../rotation/ports.ts';
import type { Redactor } from '../secret/redactor.ts';
import type { Fields } from '../secret/secret.ts';

export interface LoadedProviders {
  /** Loads what `policies` use and is not at hand yet; what cannot be loaded is remembered and thrown by `of`. */
  load(uses: Iterable<ProviderUse>): Promise<void>;
  /** The module by its name, where it is at hand; for the parser. */
  at(use: string, directory: string): Provider | undefined;
  /** Throws where it could not be loaded, or its options have mistakes. */
  of(policy: Policy): OpenProvider;
}

export interface ProviderUse {
  readonly use: string;
  readonly directory: string;
}

export interface ProvidersOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: Random;
  readonly redactor: Redactor;
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  resolveReference(reference: string, signal: AbortSignal): Promise<Fields>;
}

type Loaded = { readonly provider: Provider } | { readonly error: unknown };

/** Policies whose options were checked: more than one deployment holds would only cost memory. */
const checkedMost = 20_000;

export function loadedProviders(options: ProvidersOptions): LoadedProviders {
  const { registry } = options;
  const loaded = new Map<string, Loaded>();
  const checked = new Map<string, { readonly options: unknown; readonly traits: Traits }>();

  /** A built-in is the same from everywhere; a path or package depends on the policy's folder. */
  const keyOf = ({ use, directory }: ProviderUse) =>
    registry.ids.includes(use) ? use : `${directory}\n${use}`;

  async function loadOne(each: ProviderUse): Promise<void> {
    const key = keyOf(each);
    const before = loaded.get(key);
    if (before !== undefined && 'provider' in before) return;
    try {
      loaded.set(key, { provider: await registry.load(each.use, { directory: each.directory }) });
    } catch (error) {
      loaded.set(key, { error });
    }
  }

  function providerOf(policy: Policy): Provider {
    const found = loaded.get(keyOf({ use: policy.provider.use, directory: policy.directory }));
    if (found === undefined) {
      throw new RotatedError(
        'provider-unknown',
        `The provider ${policy.provider.use} is not loaded.`,
        {
          secret: policy.name,
          next: `Check provider.use of ${policy.name}, then reload: rotate status names what is wrong.`,
        },
      );
    }
    if ('error' in found) throw found.error;
    return found.provider;
  }

  function checkedOf(policy: Policy, provider: Provider) {
    const key = `${keyOf({ use: policy.provider.use, directory: policy.directory })}\n${JSON.stringify(policy.provider.options)}`;
    const before = checked.get(key);
    if (before !== undefined) return before;
    const { options: parsed, traits } = optionsOrThrow(
      provider,
      policy.provider.options,
      policy.name,
    );
    if (checked.size >= checkedMost) checked.clear();
    const entry = { options: parsed, traits };
    checked.set(key, entry);
    return entry;
  }

  function of(policy: Policy): OpenProvider {
    const provider = providerOf(policy);
    const { options: parsed, traits } = checkedOf(policy, provider);
    const { admin, use } = policy.provider;
    return {
      traits,
      issuer: `${use} ${admin ?? JSON.stringify(policy.provider.options)}`,
      open: async () => {
        const session = await provider.open(parsed, {
          secret: policy.name,
          admin: (signal) => adminOf(policy, signal),
          clock: options.clock,
          random: options.random,
          directory: policy.directory,
        });
        return wrapSession(session, {
          secret: policy.name,
          deadlineMs: options.deadlineMs,
          redactor: options.redactor,
          clock: options.clock,
          signal: options.signal,
          traits,
        });
      },
    };
  }

  async function adminOf(policy: Policy, signal: AbortSignal): Promise<Fields> {
    const { admin, use } = policy.provider;
    if (admin === null) {
      throw new RotatedError('policy-invalid', `The provider ${use} needs an admin credential.`, {
        secret: policy.name,
        next: 'Name one: provider: { admin: local://admin/NAME, … }.',
      });
    }
    const fields = await options.resolveReference(admin, signal);
    options.redactor.add(fields);
    return fields;
  }

  return {
    load: async (uses) => {
      const wanted = new Map([...uses].map((each) => [keyOf(each), each]));
      await Promise.all([...wanted.values()].map(loadOne));
    },
    at: (use, directory) => {
      const found = loaded.get(keyOf({ use, directory }));
      return found !== undefined && 'provider' in found ? found.provider : undefined;
    },
    of,
  };
}
