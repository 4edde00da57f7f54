/** Credentials that are made here and known to a set of verifiers: random values, HMAC keys, signing key pairs. No issuer. */
import {
  defineProvider,
  type ProviderSession,
  providerApiVersion,
  RotatedError,
  type Traits,
} from '../../src/provider/provider.ts';
import { makeFields, problemOf } from './material.ts';
import { optionsSchema } from './options.ts';

const traits: Traits = {
  strategy: 'self-generated',
  crashClass: 'chosen',
  limits: { liveMax: Infinity, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
  revokeScope: 'key',
  capabilities: {
    list: false,
    disable: false,
    lastUsed: false,
    tag: false,
    idempotent: true,
    resolve: false,
    // It lives where the verifiers keep it, and only they could say that it is gone.
    proof: 'none',
  },
  leastPrivilege: 'None: no issuer is called and no admin credential is used.',
};

export default defineProvider({
  apiVersion: providerApiVersion,
  id: 'generated',
  options: optionsSchema,
  traits: () => traits,
  async open(options, { random, secret }): Promise<ProviderSession> {
    return {
      async check() {
        return [];
      },
      async prepare({ rotation }, signal) {
        signal.throwIfAborted();
        // Not a hash of the value: a ref stands in logs.
        const ref = `${options.kind}-${rotation}-${random.bytes(4).toString('hex')}`;
        return { ref, fields: makeFields(options, random) };
      },
      async mint({ prepared }, signal) {
        signal.throwIfAborted();
        if (prepared !== null) return prepared;
        throw new RotatedError(
          'unexpected',
          'A generated credential must be prepared before it is minted.',
          {
            effect: 'none',
            secret,
            next: 'Report this: the rotation machine left out a step.',
          },
        );
      },
      async verify({ fields }, signal) {
        signal.throwIfAborted();
        const reason = problemOf(options, fields);
        return reason === null ? { ok: true } : { ok: false, kind: 'rejected', reason };
      },
      async revoke(_ref, signal) {
        // Nobody to tell: the verifiers drop it when the rotation retires its generation.
        signal.throwIfAborted();
      },
      async [Symbol.asyncDispose]() {},
    };
  },
});
