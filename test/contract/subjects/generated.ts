/** The `generated` provider under contract, one subject for each kind: no issuer, so no faults of one. */
import type { ContractSubject, DeclaredSkip } from '../../../src/provider/contract.ts';
import generated from '../../../providers/generated/index.ts';
import type { Fields } from '../../../src/provider/provider.ts';
import { boxed, contextOf } from './world.ts';

export const generatedKinds = ['ed25519', 'jwt', 'hmac', 'random'] as const;

const noIssuer = 'there is no issuer: the value is made here and known to its verifiers';
const skips: readonly DeclaredSkip[] = [
  'preparing changes nothing outside',
  'at the limit a mint is refused and changes nothing',
  'a list shows what was minted, and not what was revoked',
  "a credential's id is found by its value",
  'a revoked credential is refused, its neighbour is not',
  'a revoke ends open sessions',
  'a disabled credential is refused until it is enabled',
  'a person is told what to do, and nothing has changed',
  'a credential that is refused at first verifies within the settle time',
  'missing rights show before the mint',
  'a mint without the right is denied and changes nothing',
  'hostile answers are refused',
  'an abort is honoured promptly',
  'a call that nobody answers ends at its deadline',
  'an issuer that cannot be reached is an error, not a verdict',
].map((name) => ({ name, reason: noIssuer }));

export function generatedSubject(kind: (typeof generatedKinds)[number]): ContractSubject {
  const options = { kind };
  return {
    // The richest kind stands for the provider.
    name: kind === 'ed25519' ? 'generated' : `generated-${kind}`,
    server: 'none',
    version: process.version,
    provider: generated,
    skips,
    async world() {
      return {
        options,
        context: contextOf(`contract-${kind}`, null),
        wrong: (fields) => damaged(kind, fields),
        loseAnswer: async () => null,
        sibling: async () => ({ options, context: contextOf(`contract-${kind}-2`, null) }),
        async [Symbol.asyncDispose]() {},
      };
    },
    async [Symbol.asyncDispose]() {},
  };
}

/** What a copy that lost its end, or half of a pair, would be. */
function damaged(kind: (typeof generatedKinds)[number], fields: Fields): Fields {
  const text = (name: string): string => fields[name]?.reveal() ?? '';
  if (kind === 'random' || kind === 'hmac') {
    return { ...fields, ...boxed({ value: text('value').slice(0, -2) }) };
  }
  const jwk = JSON.parse(text('publicJwk')) as { x: string };
  const other = { ...jwk, x: `${jwk.x.startsWith('A') ? 'B' : 'A'}${jwk.x.slice(1)}` };
  return { ...fields, ...boxed({ publicJwk: JSON.stringify(other) }) };
}
