/** How a place in a secrets backend is written: `local://mcp/reports-db#password`, and the other schemes alike. */
import { nearest } from './nearest.ts';

export interface ParsedReference {
  readonly scheme: Scheme;
  /** The backend's own path of the item, canonical: two ways to write one item give the same text. */
  readonly item: string;
  readonly field: string | null;
}

export const schemes = ['local', 'vault', 'awssm', 'op'] as const;
export type Scheme = (typeof schemes)[number];

export const fieldNamePattern = '^[A-Za-z_][A-Za-z0-9_.-]{0,63}$';
const fieldName = new RegExp(fieldNamePattern);

/** Path segments by scheme. 1Password's vaults and items may have blanks in their names. */
const segment: Readonly<Record<Scheme, RegExp>> = {
  local: /^[A-Za-z0-9._-]{1,128}$/,
  vault: /^[A-Za-z0-9._ -]{1,128}$/,
  // AWS: "The secret name can contain ASCII letters, numbers, and the following characters: /_+=.@-"
  awssm: /^[A-Za-z0-9_+=.@-]{1,256}$/,
  op: /^[A-Za-z0-9._ -]{1,128}$/,
};

/** The reference, or what is wrong with it. The message never repeats the text: it may be a pasted secret. */
export function parseReference(
  text: string,
): { readonly reference: ParsedReference } | { readonly wrong: string } {
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^#]*)(?:#(.*))?$/s.exec(text);
  if (match === null) {
    return { wrong: 'this is no reference: it has the form scheme://path or scheme://path#field' };
  }
  const [, rawScheme = '', rawPath = '', rawField] = match;
  const scheme = schemes.find((known) => known === rawScheme);
  if (scheme === undefined) return { wrong: unknownScheme(rawScheme) };
  const parts = rawPath.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    return { wrong: 'the path of a reference has no empty part, no "." and no ".."' };
  }
  if (parts.some((part) => !segment[scheme].test(part) || part.trim() !== part)) {
    return { wrong: `the path of a ${scheme} reference has a character that is not allowed there` };
  }
  if (rawField !== undefined && !fieldName.test(rawField)) {
    return { wrong: 'after "#" stands the name of one field: letters, digits, "_", "-" and "."' };
  }
  return scheme === 'op'
    ? onePassword(parts, rawField ?? null)
    : plain(scheme, parts, rawField ?? null);
}

/** The canonical text: equal for two references to the same place. */
export function formatReference(reference: ParsedReference): string {
  const field = reference.field === null ? '' : `#${reference.field}`;
  return `${reference.scheme}://${reference.item}${field}`;
}

function plain(scheme: Scheme, parts: readonly string[], field: string | null) {
  if (scheme === 'vault' && parts.length < 2) {
    return { wrong: 'a vault reference names the mount and a path below it' };
  }
  return { reference: { scheme, item: parts.join('/'), field } };
}

/** 1Password writes the field as the last part (`op://vault/item/field`, `op://vault/item/section/field`). */
function onePassword(parts: readonly string[], field: string | null) {
  if (parts.length < 2 || parts.length > 4 || (field !== null && parts.length > 2)) {
    return { wrong: 'an op reference is op://vault/item, with the field after "/" or "#"' };
  }
  const [vault = '', item = '', ...rest] = parts;
  const own = rest.length === 0 ? field : rest.join('.');
  if (own !== null && !fieldName.test(own)) {
    return { wrong: 'the field of an op reference has letters, digits, "_", "-" and "." only' };
  }
  return { reference: { scheme: 'op' as const, item: `${vault}/${item}`, field: own } };
}

function unknownScheme(scheme: string): string {
  if (scheme === 'env') {
    return 'an environment variable is no backend: it cannot be written, so nothing could be rotated there';
  }
  const near = nearest(scheme, schemes);
  const hint = near === null ? `one of ${schemes.join(', ')}` : `did you mean ${near}?`;
  // A scheme of a URL that was pasted whole could hold nothing secret, but its length is not ours to trust.
  return `"${scheme.slice(0, 20)}" is no scheme of a backend: ${hint}`;
}
