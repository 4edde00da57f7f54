/** What the backend serves now for one secret, and who else it might be: the facts every dangerous step begins with. */
import type { ItemState, ItemVersion, OwnerNote, Stage, VersionId } from '../backend/backend.ts';
import { isRotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import type { Fields } from '../secret/secret.ts';
import type { Context } from './context.ts';
import { fromItem } from './fields.ts';

export interface Served {
  readonly version: VersionId;
  /** Under the provider's names. */
  readonly fields: Fields;
  /** Under the item's names, own fields only. */
  readonly itemFields: Fields;
  readonly note: OwnerNote | undefined;
  /** The version of the whole item, neighbours' fields included. */
  readonly item: ItemVersion;
}

/** null where the item, the stage, or this secret's fields in it do not exist. */
export async function readOwn(
  context: Context,
  policy: Policy,
  at: Stage | { readonly version: VersionId },
): Promise<Served | null> {
  let item: ItemVersion;
  try {
    item = await context.ports.backend(policy).read(policy.backend.item, at, context.signal);
  } catch (error) {
    if (isRotatedError(error, 'not-found')) return null;
    throw error;
  }
  const note = item.owners[policy.name];
  const fields = fromItem(policy, item.fields, note);
  if (fields === null) return null;
  const mapping = policy.backend.fields;
  const own = new Set(
    mapping === null ? (note?.fields ?? Object.keys(item.fields)) : Object.keys(mapping),
  );
  const itemFields = Object.fromEntries(
    Object.entries(item.fields).filter(([name]) => own.has(name)),
  );
  return { version: item.version, fields, itemFields, note, item };
}

export async function describe(context: Context, policy: Policy): Promise<ItemState> {
  return context.ports.backend(policy).describe(policy.backend.item, context.signal);
}
