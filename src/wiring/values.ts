/** Values for those who may have them: references of policies, and what file consumers render. */
import type { Backend, ItemVersion, Stage } from '../backend/backend.ts';
import type { SecretReader } from '../consumer/consumer.ts';
import { isRotatedError, RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import { parseReference } from '../policy/reference.ts';
import type { Fields } from '../secret/secret.ts';

export interface Values {
  /** What stands in current behind `scheme://path[#field]`: one field where the reference names one. */
  resolveReference(reference: string, signal: AbortSignal): Promise<Fields>;
  readonly reader: SecretReader;
}

export function createValues(
  backendOf: (scheme: string) => Backend,
  policyOf: (secret: string) => Policy | null,
): Values {
  async function resolveReference(reference: string, signal: AbortSignal): Promise<Fields> {
    const parsed = parseReference(reference);
    if ('wrong' in parsed) {
      throw new RotatedError('policy-invalid', `A reference cannot be read: ${parsed.wrong}.`, {
        next: 'Write it like local://admin/postgres.',
      });
    }
    const { scheme, item, field } = parsed.reference;
    const found = await readItem(backendOf(scheme), item, 'current', signal);
    if (found === null) {
      throw new RotatedError('not-found', `${scheme}://${item} does not exist.`, {
        next: `Store it first: rotate supply, for the policy whose backend is ${scheme}://${item}.`,
      });
    }
    if (field === null) return found.fields;
    const value = Object.hasOwn(found.fields, field) ? found.fields[field] : undefined;
    if (value === undefined) {
      throw new RotatedError('not-found', `${scheme}://${item} has no field ${field}.`, {
        next: `Its fields: ${Object.keys(found.fields).join(', ')}.`,
      });
    }
    return { [field]: value };
  }

  async function generationAt(policy: Policy, stage: Stage, signal: AbortSignal) {
    const { backend } = policy;
    const found = await readItem(backendOf(backend.scheme), backend.item, stage, signal);
    if (found === null) return null;
    const note = found.owners[policy.name];
    const own =
      backend.fields === null
        ? (note?.fields ?? Object.keys(found.fields))
        : Object.keys(backend.fields);
    const fields = Object.fromEntries(
      Object.entries(found.fields).filter(([name]) => own.includes(name)),
    );
    // A value that stood there before the first rotation is generation 0.
    return Object.keys(fields).length === 0 ? null : { generation: note?.generation ?? 0, fields };
  }

  return {
    resolveReference,
    reader: {
      async read(secret, stage, signal) {
        const policy = policyOf(secret);
        if (policy === null) {
          throw new RotatedError('policy-unknown', `No policy is named ${secret}.`, { secret });
        }
        const current = await generationAt(policy, 'current', signal);
        const others: Record<typeof stage, Stage | null> = {
          pending: 'pending',
          current: 'previous',
          retired: null,
        };
        const beside = others[stage];
        const other = beside === null ? null : await generationAt(policy, beside, signal);
        return (
          [current, other]
            .filter((one) => one !== null)
            .sort((a, b) => a.generation - b.generation)
            // A neighbour's change of the same item leaves this secret's generation as it was: one entry is enough.
            .filter((one, index, all) => one.generation !== all[index - 1]?.generation)
        );
      },
    },
  };
}

/** null where there is no such item, or nothing at this stage of it. */
export async function readItem(
  backend: Backend,
  item: string,
  stage: Stage,
  signal: AbortSignal,
): Promise<ItemVersion | null> {
  try {
    return await backend.read(item, stage, signal);
  } catch (error) {
    if (isRotatedError(error, 'not-found')) return null;
    throw error;
  }
}
