/** What the tests of an import share: plans without a backend, and what an entry means once its values are filled in. */
import { entryOf } from '../../cli/wrap.ts';
import { type Entry, type Launch, renderLaunch } from '../../gate/entry.ts';
import type { Fields, Secret } from '../../secret/secret.ts';
import { type ConfigFile, readConfig } from '../config-file.ts';
import type { KnownPolicy } from '../bundles.ts';
import { type Plan, planImport, type PlanOptions } from '../plan.ts';
import { applyEdits } from '../rewrite.ts';

export const program = {
  node: '/opt/node/bin/node',
  script: '/opt/rotated/bin/rotate.js',
  options: [],
};

export interface Held {
  readonly items: Map<string, Fields>;
  look: PlanOptions['look'];
}

/** A backend as far as an import asks it. */
export function holding(items: Map<string, Fields> = new Map()): Held {
  return {
    items,
    look: async (item, fields) => {
      const held = items.get(item);
      if (held === undefined) return 'new';
      const isSame = Object.entries(fields).every(([name, value]) => held[name]?.equals(value));
      return isSame ? 'same' : 'taken';
    },
  };
}

export function config(file: string, text: string | Uint8Array, home = '/home/anna'): ConfigFile {
  return readConfig({ file, bytes: Buffer.from(text), home });
}

export async function planned(
  configs: readonly ConfigFile[],
  held: Held = holding(),
  policies: readonly KnownPolicy[] = [],
): Promise<Plan> {
  return planImport({ program, searchPath: '', configs, policies, look: held.look });
}

export function textsAfter(plan: Plan): readonly string[] {
  return plan.files.map(({ config: { mark, text }, edits }) => mark + applyEdits(text, edits));
}

/** By reference, as a gate would resolve them. */
export function valuesOf(plan: Plan): ReadonlyMap<string, Secret> {
  return new Map(
    plan.items.flatMap(({ item, fields }) =>
      Object.entries(fields).map(([field, value]) => [`local://${item}#${field}`, value] as const),
    ),
  );
}

export interface EntryJson {
  readonly command?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly url?: string;
  readonly serverUrl?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What `wrap` makes of an entry, as the client starts it. */
export function wrapped(entry: EntryJson, directory = '/home/anna'): Entry {
  const [, , ...words] = entry.args ?? [];
  return entryOf(words, entry.env ?? {}, directory);
}

/** What is started for an entry, values and all: to be compared with what stood there before. */
export function meaning(entry: EntryJson, values: ReadonlyMap<string, Secret>): Launch {
  return renderLaunch(wrapped(entry).launch, values);
}
