/** Which servers and secrets there are behind the entries of several configs, and what each is called. */
import type { Fields, Secret } from '../secret/secret.ts';
import { type ConfigFile, type ServerNode, stringAt, valueAt } from './config-file.ts';
import { urlKeys } from './find.ts';
import { type Issuer, issuerByPlace } from './issuers.ts';
import { wrappedBy } from './launch.ts';
import type { Findings, FoundKey, Spot } from './model.ts';
import { freeName, slug } from './names.ts';
import { upperSnake } from './shapes.ts';

/** What is there already. */
export interface Kept {
  /** Asks the backend what `keep` would do. */
  readonly look: (item: string, fields: Fields) => Promise<'new' | 'same' | 'taken'>;
  /** What is kept fresh. */
  readonly policies: readonly KnownPolicy[];
}

export interface KnownPolicy {
  readonly name: string;
  readonly file: string;
  /** `generated`, `operator`, … */
  readonly provider: string;
  /** `local://mcp/github`: its item, without the field. */
  readonly item: string;
  /** Of the item; null where it holds all of them. */
  readonly fields: readonly string[] | null;
}

/** One server as one or several files describe it, with the same keys in each. */
export interface Bundle {
  readonly label: string;
  /** Its name for the gate, where it has one already. */
  readonly known: string | null;
  readonly entries: { readonly config: ConfigFile; readonly server: ServerNode }[];
  readonly keys: {
    readonly field: string;
    readonly key: FoundKey;
    readonly issuer: Issuer | null;
  }[];
}

/** The same name with the same keys is the same server, whichever client starts it. */
export function addToBundle(
  bundles: Bundle[],
  config: ConfigFile,
  server: ServerNode,
  { spots }: Findings,
  fieldOf: Map<FoundKey, string>,
): void {
  const own = slug(server.label);
  const known = wrappedBy(server.node)?.name ?? null;
  const found = spots.flatMap((spot) => spot.keys.map((key) => ({ spot, key })));
  const holds = ({ keys }: Bundle, { value }: FoundKey) =>
    keys.find(({ key }) => key.value.equals(value));
  const fits = (bundle: Bundle) =>
    slug(bundle.label) === own &&
    bundle.known === known &&
    found.every(
      ({ key }) =>
        holds(bundle, key) !== undefined || !bundle.keys.some(({ field }) => field === key.field),
    );
  let bundle = bundles.find(fits);
  if (bundle === undefined) {
    bundle = { label: server.label, known, entries: [], keys: [] };
    bundles.push(bundle);
  }
  const { entries, keys } = bundle;
  entries.push({ config, server });
  for (const { spot, key } of found) {
    const twin = holds(bundle, key);
    const isTaken = (name: string) => keys.some(({ field }) => field === name);
    const field = twin?.field ?? freeName(key.field, isTaken, '_');
    fieldOf.set(key, field);
    if (twin === undefined) keys.push({ field, key, issuer: issuerFor(key, spot, server) });
  }
}

function issuerFor(key: FoundKey, spot: Spot, { node }: ServerNode): Issuer | null {
  if (key.issuer !== null) return key.issuer;
  const target = urlKeys.map((one) => stringAt(node, one)).find((one) => one !== undefined);
  const inText = spot.text.includes('://') ? spot.text.trim() : null;
  // mcp-remote and its like take the URL as an argument.
  const words = (valueAt(node, 'args')?.children ?? []).map((word) => String(word.value));
  const remote = words.find((word) => /^https?:\/\//.test(word)) ?? null;
  return issuerByPlace(upperSnake(spot.name), inText ?? target ?? remote);
}

/** Where a key of a bundle goes. */
export interface Home {
  readonly field: string;
  readonly item: string;
  readonly itemField: string;
  /** The name of the policy that keeps it fresh. */
  readonly secret: string;
  /** Null where it is this import's to write. */
  readonly known: KnownPolicy | null;
  readonly issuer: Issuer | null;
  readonly key: FoundKey;
  /** Another server of this import brought it. */
  readonly isShared: boolean;
}

export interface Named {
  readonly bundle: Bundle;
  readonly name: string;
  readonly homes: readonly Home[];
}

/** More items of one name are a loop, not a wish. */
const sameNameMost = 100;

export async function nameAll(
  bundles: readonly Bundle[],
  options: Kept,
): Promise<readonly Named[]> {
  const named: Named[] = [];
  const policyNames = new Set(options.policies.map(({ name }) => name));
  const serverNames = new Set<string>();
  for (const bundle of bundles) {
    // One value that two servers use is one secret: replacing it for one alone would end it for the other.
    const shared = (value: Secret) =>
      named.flatMap(({ homes }) => homes).find(({ key }) => key.value.equals(value));
    const kept = await keptAlready(bundle, options);
    const own = bundle.keys.filter(
      ({ field, key }) => shared(key.value) === undefined && !kept.has(field),
    );
    const itemName = await freeItem(bundle, own, serverNames, options);
    const name = bundle.known ?? itemName;
    serverNames.add(name).add(itemName);
    const item = `mcp/${itemName}`;
    const isKnown = (field: string) =>
      options.policies.find(
        (one) => one.item === `local://${item}` && (one.fields?.includes(field) ?? true),
      ) ?? null;
    const groups = groupsOf(own);
    const homes = bundle.keys.map(({ field, key, issuer }): Home => {
      const twin = shared(key.value);
      if (twin !== undefined) return { ...twin, field, isShared: true };
      const before = kept.get(field);
      if (before !== undefined) return { ...before, field, issuer, key };
      const known = isKnown(field);
      const group = groups.find((fields) => fields.includes(field)) ?? [field];
      const wanted = groups.length === 1 ? itemName : secretName(itemName, group, issuer);
      const secret = known?.name ?? wanted;
      return { field, item, itemField: field, secret, known, issuer, key, isShared: false };
    });
    named.push({ bundle, name, homes: uniqueNames(homes, policyNames) });
  }
  return named;
}

/** Asked about each key of a config; a deployment with more imported secrets than this finds the others not shared. */
const lookedAtMost = 200;

/** By field: where an earlier import put the same value, for whichever server. */
async function keptAlready(
  bundle: Bundle,
  { look, policies }: Kept,
): Promise<ReadonlyMap<string, Omit<Home, 'field' | 'issuer' | 'key'>>> {
  const kept = new Map<string, Omit<Home, 'field' | 'issuer' | 'key'>>();
  const prefix = 'local://';
  const places = policies.flatMap((known) =>
    known.item.startsWith(prefix)
      ? (known.fields ?? []).map((itemField) => ({ known, itemField }))
      : [],
  );
  for (const { field, key } of bundle.keys) {
    for (const { known, itemField } of places.slice(0, lookedAtMost)) {
      const item = known.item.slice(prefix.length);
      if ((await look(item, { [itemField]: key.value })) !== 'same') continue;
      kept.set(field, { item, itemField, secret: known.name, known, isShared: false });
      break;
    }
  }
  return kept;
}

/** Secrets get names that no policy has; two fields of one secret keep one name. */
function uniqueNames(homes: readonly Home[], taken: Set<string>): readonly Home[] {
  const given = new Map<string, string>();
  const result = homes.map((home) => {
    if (home.known !== null || home.isShared) return home;
    const key = `${home.item} ${home.secret}`;
    const name = given.get(key) ?? freeName(home.secret, (one) => taken.has(one));
    given.set(key, name);
    return { ...home, secret: name };
  });
  for (const name of given.values()) taken.add(name);
  return result;
}

async function freeItem(
  bundle: Bundle,
  own: Bundle['keys'],
  taken: ReadonlySet<string>,
  { look }: Kept,
): Promise<string> {
  const refused = new Set(taken);
  const fields = Object.fromEntries(own.map(({ field, key }) => [field, key.value]));
  for (let tried = 0; tried < sameNameMost; tried++) {
    const name = freeName(slug(bundle.label), (one) => refused.has(one));
    if (own.length === 0 || (await look(`mcp/${name}`, fields)) !== 'taken') return name;
    refused.add(name);
  }
  return freeName(slug(bundle.label), (one) => refused.has(one));
}

/** Keys of one issuer that work only together are one secret. */
function groupsOf(keys: Bundle['keys']): readonly (readonly string[])[] {
  const together = new Map<string, string[]>();
  const groups: string[][] = [];
  for (const { field, issuer } of keys) {
    const group = issuer?.together === true ? together.get(issuer.id) : undefined;
    if (group !== undefined) {
      group.push(field);
      continue;
    }
    const fresh = [field];
    groups.push(fresh);
    if (issuer?.together === true) together.set(issuer.id, fresh);
  }
  return groups;
}

/** `shop` and `STRIPE_SECRET_KEY` → `shop-stripe-secret-key`. */
function secretName(server: string, fields: readonly string[], issuer: Issuer | null): string {
  const last = fields.length > 1 ? (issuer?.id ?? 'keys') : slug(fields[0] ?? 'key');
  return last.startsWith(`${server}-`) ? last : `${server}-${last}`.slice(0, 60).replace(/-+$/, '');
}
