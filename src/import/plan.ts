/** All that an import will do, decided before anything is done: which keys become which secrets, and what each file becomes. */
import type { Fields, Secret } from '../secret/secret.ts';
import { addToBundle, type Bundle, type Home, type Kept, nameAll, type Named } from './bundles.ts';
import type { ConfigFile, ServerNode } from './config-file.ts';
import { findKeys } from './find.ts';
import type { Issuer } from './issuers.ts';
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
import { type Edit, rewrite, type Rewrite } from './rewrite.ts';
import { reasonToLeave } from './verdict.ts';

export interface PlanOptions extends LaunchSurroundings, Kept {
  readonly program: Program;
  readonly configs: readonly ConfigFile[];
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
