/** The shape of a policy file as JSON Schema, for editors. */
import { z } from 'zod';
import { fileShape } from './shape.ts';

/** Draft 7: what the YAML language servers of editors read. The parser checks more than any schema can say. */
export function policyJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(fileShape, {
    target: 'draft-7',
    io: 'input',
    unrepresentable: 'throw',
    reused: 'ref',
  });
  return {
    ...schema,
    title: 'Rotation policies',
    description: 'One file of the policy folder of rotated.',
  };
}

/** As it stands in `schema/policy.schema.json`. */
export function policyJsonSchemaText(): string {
  return `${JSON.stringify(policyJsonSchema(), null, 2)}\n`;
}
