/** A correct `provider:` for each issuer that ships: for messages about wrong options. */

const examples: Readonly<Record<string, string>> = {
  generated: 'provider: { use: generated, kind: random, length: 32 }',
  postgres:
    'provider: { use: postgres, admin: local://admin/postgres, roles: [reports_a, reports_b], grant: reports_read }',
  redis: 'provider: { use: redis, admin: local://admin/redis, user: cache-reader }',
  exec: 'provider: { use: exec, command: [./issue-key], crashClass: token }',
  operator:
    'provider: { use: operator, instructions: "Create a key.", link: "https://api.example.com/keys" }',
};

/** Of a provider from outside only its name is known. */
export function providerExample(use: string): string {
  return (Object.hasOwn(examples, use) ? examples[use] : undefined) ?? `provider: { use: ${use} }`;
}
