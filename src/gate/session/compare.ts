/** Whether a new process may take over from the old one, and what its client has to be told: pure. */

/** What a server offers, by name, each with a text that changes when the thing does. */
export interface Offer {
  readonly tools: ReadonlyMap<string, string>;
  readonly prompts: ReadonlyMap<string, string>;
  readonly resources: ReadonlyMap<string, string>;
}

export type Listing = keyof Offer;
export const listings = ['tools', 'prompts', 'resources'] as const satisfies readonly Listing[];

export interface Identity {
  readonly protocolVersion: unknown;
  readonly capabilities: unknown;
  readonly serverInfo: unknown;
}

/** Why the new process must not take over; null where it may. */
export function identityProblem(
  before: Identity,
  after: Identity,
  version: 'refuse' | 'allow',
): string | null {
  if (canonical(before.protocolVersion) !== canonical(after.protocolVersion)) {
    return `it answers in another protocol version: ${shown(after.protocolVersion)} instead of ${shown(before.protocolVersion)}`;
  }
  const [was, is] = [memberOf(before.serverInfo, 'version'), memberOf(after.serverInfo, 'version')];
  if (version === 'refuse' && was !== undefined && canonical(was) !== canonical(is)) {
    return `it is version ${shown(is)} instead of ${shown(was)}: pin the version in the server's command, or say version: allow`;
  }
  const [missing] = missingCapabilities(before.capabilities, after.capabilities);
  return missing === undefined ? null : `it lacks the capability ${missing}`;
}

/** Dotted paths of what the first can do and the second cannot. */
export function missingCapabilities(before: unknown, after: unknown, path = ''): readonly string[] {
  if (before === undefined || before === null || before === false) return [];
  if (after === undefined || after === null || after === false) return [path];
  if (typeof before !== 'object') return [];
  return Object.entries(before).flatMap(([name, value]) =>
    missingCapabilities(value, memberOf(after, name), path === '' ? name : `${path}.${name}`),
  );
}

/** A tool that is gone would fail calls that were about to work. */
export function lostTools(before: ReadonlySet<string>, after: Offer): readonly string[] {
  return [...before].filter((name) => !after.tools.has(name));
}

export function changedListings(before: Offer, after: Offer): readonly Listing[] {
  return listings.filter((listing) => !sameMap(before[listing], after[listing]));
}

/** The same text for equal JSON values, whatever the order of their members. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}

export function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

function sameMap(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean {
  return a.size === b.size && [...a].every(([name, text]) => b.get(name) === text);
}

/** A version, short and on one line: a server may answer with anything. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (canonical(value) ?? 'none');
  return text.replaceAll(/[^\w.+-]/g, '?').slice(0, 40);
}
