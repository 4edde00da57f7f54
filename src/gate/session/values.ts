/** What a session knows of its values: which changed, which must not be seen, which generation is the oldest in use. */
import type { Secret } from '../../secret/secret.ts';
import type { Generations, Resolved } from '../source.ts';

/** A login's name or host is no secret, and hiding it by value would blank ordinary words out of answers. */
const plainField =
  /#(?:pg|mysql_?|redis_?|db_?)?(?:user|username|host|hostname|port|database|dbname)$/i;

export function changedReferences(before: Resolved, after: Resolved): readonly string[] {
  return [...after.values].flatMap(([reference, value]) => {
    const was = before.values.get(reference);
    return was?.equals(value) === true ? [] : [reference];
  });
}

export function hiddenValues(all: readonly (Resolved | null)[]): readonly Secret[] {
  return all.flatMap((resolved) =>
    [...(resolved?.values ?? [])].flatMap(([reference, value]) =>
      plainField.test(reference) ? [] : [value],
    ),
  );
}

/** By secret, the lowest of all. */
export function oldest(all: readonly Generations[]): Generations {
  const lowest: Record<string, number> = {};
  for (const generations of all) {
    for (const [secret, generation] of Object.entries(generations)) {
      lowest[secret] = Math.min(lowest[secret] ?? generation, generation);
    }
  }
  return lowest;
}
