/** The command `rotate schema`: the JSON Schema of policy files, for editors. */
import type { Command } from 'commander';
import type { Call } from '../command.ts';
import type { Exit } from '../exit.ts';

export function configure(command: Command): void {
  command.addHelpText(
    'after',
    `
Example: rotate schema > schedules/.policy.schema.json
Then the first line of a policy file: # yaml-language-server: $schema=.policy.schema.json
`,
  );
}

export async function run({ io }: Call): Promise<Exit> {
  const { policyJsonSchemaText } = await import('../../policy/json-schema.ts');
  io.out(policyJsonSchemaText());
  return 'ok';
}
