/** All that an import will do, decided before anything is done: which keys become which secrets, and what each file becomes. */
import type { Fields, Secret } from '../secret/secret.ts';
import { type ConfigFile, stringAt, valueAt, type ServerNode } from './config-file.ts';
import { findKeys, urlKeys } from './find.ts';
import { issuerByPlace, type Issuer } from './issuers.ts';
import type { LaunchSurroundings, Program } from './launch.ts';
import {
  type Findings,
  type FoundKey,
  type ImportedField,
  type ImportedSecret,
  referenceTo,
  type Spot,
  type Verdict,
} from './model.ts';
import { freeName, slug } from './names.ts';
import { type Edit, rewrite, type Rewrite } from './rewrite.ts';
import { upperSnake } from './shapes.ts';
import { reasonToLeave } from './verdict.ts';

export interface PlanOptions extends LaunchSurroundings {
  readonly program: Program;
  readonly configs: readonly ConfigFile[];
  /** Asks the backend what `keep` would do. */
  readonly look: (item: string, fields: Fields) => Promise<'new' | 'same' | 'taken'>;
  /** What is kept fresh already. */
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

export interface Plan {
  readonly files: readonly FilePlan[];
  readonly servers: readonly ServerPlan[];
  /** In the order they are found; those that a policy keeps already are not among them. */
  readonly secrets: readonly ImportedSecret[];
  /** Each item with all that goes into it. */
  readonly items: readonly { readonly item: string; readonly fields: Fields }[];
}

export interface FilePlan {
  readonly config: ConfigFile;
  readonly entries: readonly EntryPlan[];
  /** None where nothing changes. */
  readonly edits: readonly Edit[];
}

export interface EntryPlan {
  readonly server: ServerNode;
  readonly verdict: Verdict;
  /** Its name for the gate; null where it is left alone. */
  readonly name: string | null;
  /** Where each key stood and how long it is, never what it is. */
  readonly keys: readonly {
    readonly spot: Spot;
    readonly key: FoundKey;
    readonly secret: string;
  }[];
  readonly rewrite: Rewrite | null;
}

export interface ServerPlan {
  readonly name: string;
  /** As clients call it. */
  readonly label: string;
  /** The files that name it. */
  readonly files: readonly string[];
  /** What its clients launch, where they all launch the same process and it is known as a whole. */
  readonly command: readonly string[] | null;
}

/** One server as one or several files describe it, with the same keys in each. */
interface Bundle {
  readonly label: string;
  readonly entries: { readonly config: ConfigFile; readonly server: ServerNode }[];
  readonly keys: {
    readonly field: string;
    readonly key: FoundKey;
    readonly issuer: Issuer | null;
  }[];
}

export async function planImport(options: PlanOptions): Promise<Plan> {
  const bundles: Bundle[] = [];
  const left = new Map<ServerNode, Verdict>();
  const findings = new Map<ServerNode, Findings>();
  const fieldOf = new Map<FoundKey, string>();
  for (const config of options.configs) {
    for (const server of config.servers) {
      const found = findKeys(server.node);
      findings.set(server, found);
      const verdict = reasonToLeave(server.node, found);
      if (verdict === null) addToBundle(bundles, config, server, found, fieldOf);
      else left.set(server, verdict);
    }
  }
  const named = await nameAll(bundles, options);
  const entries = new Map<ServerNode, EntryPlan>();
  const commands = new Map<string, (readonly string[] | null)[]>();
  for (const { bundle, name, homes } of named) {
    const verdict = verdictOf(homes);
    for (const { config, server } of bundle.entries) {
      const spots = findings.get(server)?.spots ?? [];
      const homeOf = (key: FoundKey) =>
        homes.find(({ field }) => field === fieldOf.get(key)) as Home;
      const done = rewrite(config.text, server, {
        ...options,
        name,
        spots,
        referenceOf: (key) => {
          const { item, itemField } = homeOf(key);
          return referenceTo(item, itemField);
        },
      });
      const keys = spots.flatMap((spot) =>
        spot.keys.map((key) => ({ spot, key, secret: homeOf(key).secret })),
      );
      entries.set(server, { server, verdict, name, keys, rewrite: done });
      const known = done.grant === null ? null : done.command;
      commands.set(name, [...(commands.get(name) ?? []), known]);
    }
  }
  return {
    files: options.configs.map((config) => filePlan(config, entries, left)),
    servers: named.map(({ bundle, name }) => ({
      name,
      label: bundle.label,
      files: [...new Set(bundle.entries.map(({ config }) => config.file))],
      command: soleCommand(commands.get(name) ?? []),
    })),
    secrets: secretsOf(named),
    items: itemsOf(named),
  };
}

function filePlan(
  config: ConfigFile,
  entries: ReadonlyMap<ServerNode, EntryPlan>,
  left: ReadonlyMap<ServerNode, Verdict>,
): FilePlan {
  const own = config.servers.map((server): EntryPlan => {
    const verdict = left.get(server);
    const entry = entries.get(server);
    if (entry !== undefined || verdict === undefined) return entry as EntryPlan;
    return { server, verdict, name: null, keys: [], rewrite: null };
  });
  return { config, entries: own, edits: own.flatMap((entry) => entry.rewrite?.edits ?? []) };
}

/** The same name with the same keys is the same server, whichever client starts it. */
function addToBundle(
  bundles: Bundle[],
  config: ConfigFile,
  server: ServerNode,
  { spots }: Findings,
  fieldOf: Map<FoundKey, string>,
): void {
  const own = slug(server.label);
  const found = spots.flatMap((spot) => spot.keys.map((key) => ({ spot, key })));
  const holds = ({ keys }: Bundle, { value }: FoundKey) =>
    keys.find(({ key }) => key.value.equals(value));
  const fits = (bundle: Bundle) =>
    slug(bundle.label) === own &&
    found.every(
      ({ key }) =>
        holds(bundle, key) !== undefined || !bundle.keys.some(({ field }) => field === key.field),
    );
  let bundle = bundles.find(fits);
  if (bundle === undefined) {
    bundle = { label: server.label, entries: [], keys: [] };
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
interface Home {
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

interface Named {
  readonly bundle: Bundle;
  readonly name: string;
  readonly homes: readonly Home[];
}

/** More items of one name are a loop, not a wish. */
const sameNameMost = 100;

async function nameAll(
  bundles: readonly Bundle[],
  options: PlanOptions,
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
    const name = await freeItem(bundle, own, serverNames, options);
    serverNames.add(name);
    const item = `mcp/${name}`;
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
      const wanted = groups.length === 1 ? name : secretName(name, group, issuer);
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
  { look, policies }: PlanOptions,
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
  { look }: PlanOptions,
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

function secretsOf(named: readonly Named[]): readonly ImportedSecret[] {
  const secrets = new Map<string, { home: Home; fields: ImportedField[]; servers: Set<string> }>();
  for (const { name, homes } of named) {
    for (const home of homes) {
      if (home.known !== null) continue;
      const { secret, itemField, key } = home;
      const entry = secrets.get(secret) ?? { home, fields: [], servers: new Set<string>() };
      if (!entry.fields.some(({ field }) => field === itemField)) {
        entry.fields.push({ field: itemField, value: key.value, length: key.length });
      }
      entry.servers.add(name);
      secrets.set(secret, entry);
    }
  }
  return [...secrets].map(([name, { home, fields, servers }]) => ({
    name,
    item: home.item,
    fields,
    issuer: home.issuer,
    servers: [...servers],
  }));
}

function itemsOf(named: readonly Named[]): Plan['items'] {
  const items = new Map<string, Record<string, Secret>>();
  for (const { homes } of named) {
    for (const { item, itemField, key } of homes) {
      items.set(item, { ...items.get(item), [itemField]: key.value });
    }
  }
  return [...items].map(([item, fields]) => ({ item, fields }));
}

function soleCommand(commands: readonly (readonly string[] | null)[]): readonly string[] | null {
  const [first, ...rest] = commands;
  const text = JSON.stringify(first);
  return first !== undefined && rest.every((one) => JSON.stringify(one) === text) ? first : null;
}

function verdictOf(homes: readonly Home[]): Verdict {
  const byHand = homes.filter(({ known }) => known === null || known.provider === 'operator');
  if (byHand.length === 0) {
    const names = [...new Set(homes.map(({ secret }) => secret))].join(', ');
    return { kind: 'automatic', left: null, reason: `The policy of ${names} makes its new keys.` };
  }
  const reasons = new Set(byHand.map(({ issuer }) => guidedReason(issuer)));
  return { kind: 'guided', left: null, reason: [...reasons].join(' ') };
}

function guidedReason(issuer: Issuer | null): string {
  if (issuer === null) {
    return 'Its issuer is not known: a person makes each new key, everything after that is automatic.';
  }
  if (issuer.hint !== null) {
    return `${issuer.title}: a person makes each new password; it would be automatic with ${issuer.hint}.`;
  }
  return `${issuer.title}: this version makes no keys there, so a person makes each new one; everything after that is automatic.`;
}
