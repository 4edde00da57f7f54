/** What an edit of a policy changed, for a rotation that is under way with the policy as it was. */
import type { Json, Policy } from './policy.ts';

export interface PolicyEdit {
  readonly kind: 'added' | 'removed' | 'edited' | 'same';
  /** Dotted paths of what differs: `graceMs`, `schedule.trigger.everyMs`, `consumers.1.path`. */
  readonly changes: readonly string[];
  /** Another backend, item or fields: refused while a rotation is active. */
  readonly backendChanged: boolean;
  /** Another provider, admin credential or options: refused while a rotation is active. */
  readonly providerChanged: boolean;
}

/** Where a policy stands in its file does not matter, and neither does the order of keys. */
export function policyEdit(before: Policy | null, after: Policy | null): PolicyEdit {
  if (before === null || after === null) {
    const kind = before === null ? (after === null ? 'same' : 'added') : 'removed';
    return { kind, changes: [], backendChanged: false, providerChanged: false };
  }
  const { source: _old, ...old } = before;
  const { source: _new, ...next } = after;
  // A policy is plain JSON: it comes from the journal's cache as well as from the parser.
  const changes = differences(old as unknown as Json, next as unknown as Json, '');
  const changed = (part: string) =>
    changes.some((path) => path === part || path.startsWith(`${part}.`));
  return {
    kind: changes.length === 0 ? 'same' : 'edited',
    changes,
    backendChanged: changed('backend'),
    // The folder is where a provider's own paths count from.
    providerChanged: changed('provider') || (changed('directory') && hasOwnPaths(after)),
  };
}

function differences(a: Json | undefined, b: Json | undefined, path: string): string[] {
  if (isContainer(a) && isContainer(b) && Array.isArray(a) === Array.isArray(b)) {
    const [left, right] = [a as Record<string, Json>, b as Record<string, Json>];
    const keys = [...new Set([...Object.keys(left), ...Object.keys(right)])].sort();
    return keys.flatMap((key) =>
      differences(left[key], right[key], path === '' ? key : `${path}.${key}`),
    );
  }
  return a === b ? [] : [path];
}

function isContainer(value: Json | undefined): boolean {
  return typeof value === 'object' && value !== null;
}

function hasOwnPaths(policy: Policy): boolean {
  return (
    /^\.|"\.\.?\//.test(policy.provider.use) ||
    /"\.\.?\//.test(JSON.stringify(policy.provider.options))
  );
}
