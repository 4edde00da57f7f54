/** What only shows when all files of a folder are known: names and items taken twice, hooks of other files. */
import { nearest } from './nearest.ts';
import type { NotifyName, ParsedFile, PlacedNotifier } from './parsed.ts';
import type { NotifySpec, Policy, PolicyProblem } from './policy.ts';

export interface Linked {
  readonly policies: readonly Policy[];
  readonly notifiers: readonly NotifySpec[];
  readonly problems: readonly PolicyProblem[];
}

/** In the order of the files: of two that take the same, the second has the mistake. */
export function linkFiles(
  files: readonly ParsedFile[],
  { missHooks }: { readonly missHooks: boolean } = { missHooks: true },
): Linked {
  const problems: PolicyProblem[] = [];
  const notifiers = linkNotifiers(files, problems);
  const broken = new Set(files.flatMap(({ brokenNotifiers }) => brokenNotifiers));
  const isMissed = (name: string) => missHooks && !notifiers.has(name) && !broken.has(name);
  for (const { file, notify } of files) {
    const missed = Object.values(notify)
      .flat()
      .filter(({ name }) => isMissed(name));
    problems.push(...missed.map((wanted) => unknownHook(file, wanted, notifiers.keys())));
  }
  const byName = new Map<string, Policy>();
  const byItem = new Map<string, Policy[]>();
  const byFile = new Map<string, Policy>();
  const bySetting = new Map<string, Setting>();
  for (const { policies, notify } of files) {
    for (const policy of policies) {
      const first = byName.get(policy.name);
      if (first !== undefined) {
        problems.push(duplicate('secret', policy.name, policy.source, first.source));
        continue;
      }
      const item = `${policy.backend.scheme}://${policy.backend.item}`;
      const others = byItem.get(item) ?? [];
      const rival = others.find((other) => sharesField(other, policy));
      if (rival !== undefined) {
        problems.push(itemTaken(item, policy, rival));
        continue;
      }
      const wanted = notify[policy.name] ?? [];
      const hooks = wanted.flatMap(({ name }) => notifiers.get(name)?.spec ?? []);
      // A hook that has a mistake of its own, or stands in a file that cannot be read, must not stop a rotation.
      if (wanted.some(({ name }) => isMissed(name))) continue;
      const taken = filesOf(policy).find((path) => byFile.has(path));
      const owner = taken === undefined ? undefined : byFile.get(taken);
      if (taken !== undefined && owner !== undefined) {
        problems.push(fileTaken(taken, policy, owner));
        continue;
      }
      const settings = settingsOf(policy);
      const contradicted = settings.find(({ key, value }) => {
        const before = bySetting.get(key);
        return before !== undefined && before.value !== value;
      });
      if (contradicted !== undefined) {
        problems.push(contradiction(contradicted, bySetting.get(contradicted.key) ?? contradicted));
        continue;
      }
      for (const one of settings) bySetting.set(one.key, bySetting.get(one.key) ?? one);
      for (const path of filesOf(policy)) byFile.set(path, policy);
      byName.set(policy.name, hooks.length === 0 ? policy : { ...policy, notify: hooks });
      byItem.set(item, [...others, policy]);
    }
  }
  return {
    policies: [...byName.values()],
    notifiers: [...notifiers.values()].map(({ spec }) => spec),
    problems,
  };
}

function linkNotifiers(
  files: readonly ParsedFile[],
  problems: PolicyProblem[],
): ReadonlyMap<string, PlacedNotifier> {
  const known = new Map<string, PlacedNotifier>();
  for (const notifier of files.flatMap((file) => file.notifiers)) {
    const first = known.get(notifier.spec.name);
    if (first === undefined) known.set(notifier.spec.name, notifier);
    else problems.push(duplicate('notifier', notifier.spec.name, notifier, first));
  }
  return known;
}

function unknownHook(file: string, wanted: NotifyName, known: Iterable<string>): PolicyProblem {
  const near = nearest(wanted.name, known);
  const hint = near === null ? '' : ` Did you mean ${near}?`;
  return {
    code: 'unknown-notifier',
    file,
    line: wanted.line,
    column: wanted.column,
    path: wanted.path,
    message: `No file of the folder defines this hook under notifiers.${hint}`,
    seen: JSON.stringify(wanted.name),
    example:
      near === null
        ? `notifiers: { ${wanted.name}: { http: "https://hooks.example.com/rotated" } }`
        : `notify: [${near}]`,
  };
}

interface Where {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

function duplicate(
  what: 'secret' | 'notifier',
  name: string,
  here: Where,
  first: Where,
): PolicyProblem {
  return {
    code: 'duplicate-name',
    file: here.file,
    line: here.line,
    column: here.column,
    path: `${what}s.${name}`,
    message: `The ${what} ${name} stands twice: here and at ${first.file}:${first.line}:${first.column}. The first one counts.`,
    seen: name,
    example: `${name.slice(0, 61)}-2:`,
  };
}

function sharesField(a: Policy, b: Policy): boolean {
  const [own, theirs] = [a.backend.fields, b.backend.fields];
  // Without names of fields the whole item is meant.
  if (own === null || theirs === null) return true;
  return Object.keys(own).some((field) => Object.hasOwn(theirs, field));
}

function filesOf({ consumers }: Policy): readonly string[] {
  return consumers.flatMap((one) => (one.kind === 'file' ? [one.path] : []));
}

/** One thing that a policy says of how a server is swapped. */
interface Setting {
  readonly key: string;
  readonly server: string;
  readonly name: string;
  readonly value: string;
  readonly policy: Policy;
}

function settingsOf(policy: Policy): readonly Setting[] {
  return policy.consumers.flatMap((one) =>
    one.kind !== 'gate'
      ? []
      : Object.entries(one.settings).map(([name, value]) => ({
          key: `${one.server} ${name}`,
          server: one.server,
          // As the policy writes it: the unit is ours.
          name: name.replace(/Ms$/, ''),
          value: JSON.stringify(value),
          policy,
        })),
  );
}

function contradiction({ policy, server, name }: Setting, before: Setting): PolicyProblem {
  const { file, line, column } = policy.source;
  const { source } = before.policy;
  return {
    code: 'conflict',
    file,
    line,
    column,
    path: `secrets.${policy.name}.consumers`,
    message: `The secret ${before.policy.name} at ${source.file}:${source.line}:${source.column} says another ${name} for the server ${server}: a server is swapped in one way.`,
    seen: name,
    example: `gate: ${server}`,
  };
}

function fileTaken(path: string, policy: Policy, owner: Policy): PolicyProblem {
  const { file, line, column } = policy.source;
  const at = `${owner.source.file}:${owner.source.line}:${owner.source.column}`;
  return {
    code: 'file-taken',
    file,
    line,
    column,
    path: `secrets.${policy.name}.consumers`,
    message: `The secret ${owner.name} at ${at} renders its values into the same file: a file holds one secret.`,
    seen: path,
    example: `file: { path: /run/${policy.name}.env, format: env }`,
  };
}

function itemTaken(item: string, policy: Policy, rival: Policy): PolicyProblem {
  const { file, line, column } = policy.source;
  const at = `${rival.source.file}:${rival.source.line}:${rival.source.column}`;
  return {
    code: 'item-taken',
    file,
    line,
    column,
    path: `secrets.${policy.name}.backend`,
    message: `The secret ${rival.name} at ${at} writes the same fields of ${item}: name different ones under fields.`,
    seen: item,
    example: `backend: { ref: ${item}, fields: { PGPASSWORD: password } }`,
  };
}
