/** What a server's references stand for: which item and field, whose secret it is, and whether it is an admin credential. */
import { RotatedError } from '../errors.ts';
import type { Json, Policy } from '../policy/policy.ts';
import { formatReference, type ParsedReference, parseReference } from '../policy/reference.ts';

export interface Meaning {
  /** Canonical text. */
  readonly reference: string;
  readonly scheme: string;
  readonly item: string;
  readonly field: string | null;
  /** The policies that keep it fresh: one, or several where the whole of a shared item is meant. */
  readonly secrets: readonly Policy[];
  /** It mints, signs or opens other things: never for a server. */
  readonly isAdmin: boolean;
}

export interface ReferenceIndex {
  readonly policies: ReadonlyMap<string, Policy>;
  /** Throws `policy-invalid` where the text is no reference; what is wrong, never the text. */
  meaningOf(text: string): Meaning;
  /** Names of the secrets that any of them stands for; what cannot be read stands for none. */
  secretsOf(references: readonly string[]): readonly string[];
}

export function indexReferences(policies: ReadonlyMap<string, Policy>): ReferenceIndex {
  const byItem = Map.groupBy(policies.values(), ({ backend }) =>
    itemKey(backend.scheme, backend.item),
  );
  const admins = new Set([...policies.values()].flatMap(adminItems));

  function meaning(reference: ParsedReference): Meaning {
    const { scheme, item, field } = reference;
    const key = itemKey(scheme, item);
    const owners = byItem.get(key) ?? [];
    return {
      reference: formatReference(reference),
      scheme,
      item,
      field,
      secrets: field === null ? owners : owners.filter((one) => owns(one, field)),
      isAdmin: admins.has(key),
    };
  }

  return {
    policies,
    meaningOf(text) {
      const parsed = parseReference(text);
      if ('reference' in parsed) return meaning(parsed.reference);
      throw new RotatedError('policy-invalid', `A reference cannot be read: ${parsed.wrong}.`, {
        next: 'Write it like local://mcp/search#api_key.',
      });
    },
    secretsOf: (references) =>
      references.flatMap((text) => {
        const reference = parsedOrNull(text);
        return reference === null ? [] : meaning(reference).secrets.map(({ name }) => name);
      }),
  };
}

/** A grant for a whole item covers its fields. */
export function covers(granted: string, meaning: Meaning): boolean {
  return granted === meaning.reference || granted === itemKey(meaning.scheme, meaning.item);
}

function owns({ backend }: Policy, field: string): boolean {
  return backend.fields === null || Object.hasOwn(backend.fields, field);
}

/** Everything that a policy itself authenticates with: the issuer's admin, keys of hooks, references among the options. */
function adminItems({ provider, consumers }: Policy): readonly string[] {
  const keys = consumers.flatMap((one) => [
    one.kind === 'http' ? one.key : null,
    one.report?.kind === 'http' ? one.report.key : null,
  ]);
  return [provider.admin, ...keys, ...stringsIn(provider.options)].flatMap((text) => {
    const reference = text === null ? null : parsedOrNull(text);
    return reference === null ? [] : [itemKey(reference.scheme, reference.item)];
  });
}

function stringsIn(value: Json): readonly string[] {
  if (typeof value === 'string') return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap((one: Json) => stringsIn(one));
}

function parsedOrNull(text: string): ParsedReference | null {
  const parsed = parseReference(text);
  return 'wrong' in parsed ? null : parsed.reference;
}

function itemKey(scheme: string, item: string): string {
  return `${scheme}://${item}`;
}
