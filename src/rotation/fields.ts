/** Which fields of an item are this secret's, and what the provider calls them. */
import type { OwnerNote } from '../backend/backend.ts';
import { RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { Fields, Secret } from '../secret/secret.ts';

/** Provider's fields → item's fields. */
export function toItem(policy: Policy, fields: Fields): Fields {
  const mapping = policy.backend.fields;
  if (mapping === null) return fields;
  const result: Record<string, Secret> = {};
  for (const [itemField, providerField] of Object.entries(mapping)) {
    const value = fields[providerField];
    if (value === undefined) {
      throw new RotatedError(
        'provider-options',
        `The provider ${policy.provider.use} gives no field named ${providerField}.`,
        {
          secret: policy.name,
          next: `Under backend.fields, map to one of: ${Object.keys(fields).join(', ')}.`,
        },
      );
    }
    result[itemField] = value;
  }
  return result;
}

/**
 * Item's fields → provider's fields; null where the item holds none of this secret's. Fields of the credential that the
 * item does not keep are missing from the result.
 */
export function fromItem(
  policy: Policy,
  fields: Fields,
  note: OwnerNote | undefined,
): Fields | null {
  const mapping = policy.backend.fields;
  const own: [string, Secret][] = [];
  for (const [itemField, value] of Object.entries(fields)) {
    const providerField = mapping === null ? itemField : mapping[itemField];
    const isOwn = mapping !== null || note === undefined || note.fields.includes(itemField);
    if (providerField !== undefined && isOwn) own.push([providerField, value]);
  }
  return own.length === 0 ? null : Object.fromEntries(own);
}

/** The same credential as far as the item keeps it: fields that only the issuer's answer had are left out. */
export function asKept(policy: Policy, fields: Fields): Fields {
  const kept = fromItem(policy, toItem(policy, fields), undefined);
  return kept ?? {};
}
