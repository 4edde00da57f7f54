/** How the word after `use:` becomes a provider: a built-in id, a file beside the policy, or an installed package. */
import { readFile } from 'node:fs/promises';
import { findPackageJSON } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { RotatedError } from '../errors.ts';
import { assertOnlyOursToWrite } from './ownership.ts';
import { type Provider, providerApiVersion, type Traits } from './provider.ts';

/** id → the module whose default export is the provider. Lazy, so that an issuer nobody uses costs nothing. */
export type ProviderEntries = Readonly<Record<string, () => Promise<unknown>>>;

export interface LoadPlace {
  /** The policy file's folder: `./my-provider.ts` and package names are looked up from here. */
  readonly directory: string;
}

export interface Registry {
  /** The built-in ids, sorted. */
  readonly ids: readonly string[];
  /**
   * `use` is a built-in id, a path that begins with `./`, `../` or `/`, or the name of an installed package.
   * Throws `provider-unknown` (with the nearest name), `provider-broken`, `policy-unsafe`.
   */
  load(use: string, place: LoadPlace): Promise<Provider>;
}

export function createRegistry(entries: ProviderEntries): Registry {
  const ids = Object.keys(entries).sort();
  return {
    ids,
    async load(use, place) {
      const entry = Object.hasOwn(entries, use) ? entries[use] : undefined;
      if (entry === undefined) return loadProvider(use, place, ids);
      const provider = asProvider(await entry(), use);
      if (provider.id === use) return provider;
      throw broken(use, `it calls itself ${JSON.stringify(provider.id)}`);
    },
  };
}

/** A provider from outside: by path or by package name. `known`: the names to suggest where there is no such thing. */
export async function loadProvider(
  use: string,
  place: LoadPlace,
  known: readonly string[] = [],
): Promise<Provider> {
  const file = isPath(use) ? path.resolve(place.directory, use) : await resolvePackage(use, place);
  if (file === null) throw unknown(use, place, known);
  let real: string;
  try {
    real = await assertOnlyOursToWrite(file);
  } catch (error) {
    if (error instanceof RotatedError) throw error;
    throw unknown(use, place, known);
  }
  return asProvider(await importModule(real, use), use);
}

export interface OptionsProblem {
  /** Keys from the provider's options down; empty for the options as a whole. */
  readonly path: readonly (string | number)[];
  readonly message: string;
}

export type ParsedOptions =
  | { readonly ok: true; readonly options: unknown; readonly traits: Traits }
  | { readonly ok: false; readonly problems: readonly OptionsProblem[] };

/** All mistakes at once; the caller knows the file and the line. */
export function parseOptions(provider: Provider, options: unknown): ParsedOptions {
  const result = provider.options.safeParse(options);
  if (result.success) {
    return { ok: true, options: result.data, traits: provider.traits(result.data) };
  }
  return {
    ok: false,
    problems: result.error.issues.map((issue) => ({
      path: issue.path.filter((part) => typeof part !== 'symbol'),
      message: issue.message,
    })),
  };
}

/** The same as an exception, for callers that have no place to point at. */
export function optionsOrThrow(
  provider: Provider,
  options: unknown,
  secret: string,
): { readonly options: unknown; readonly traits: Traits } {
  const parsed = parseOptions(provider, options);
  if (parsed.ok) return parsed;
  const list = parsed.problems.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join('.')}: ${message}`,
  );
  throw new RotatedError(
    'provider-options',
    `The options of provider ${provider.id} have mistakes: ${list.join('; ')}.`,
    { secret, next: `Correct them; providers/${provider.id}/README.md describes each.` },
  );
}

/** The name of `names` that `name` most likely meant; null where none is near. */
export function nearestName(name: string, names: readonly string[]): string | null {
  let best: string | null = null;
  // Two letters (one swap) may be wrong, or a third of a long name.
  let bestDistance = Math.max(3, Math.floor(name.length / 3) + 1);
  for (const candidate of names) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function isPath(use: string): boolean {
  return use.startsWith('./') || use.startsWith('../') || path.isAbsolute(use);
}

/** A package's entry, by the part of Node's rules that a provider package needs: `exports["."]` or `main`. */
async function resolvePackage(use: string, { directory }: LoadPlace): Promise<string | null> {
  if (!/^(@[a-z0-9][\w.-]*\/)?[a-z0-9][\w.-]*$/i.test(use)) return null;
  const base = pathToFileURL(path.join(directory, 'policy'));
  let manifest: string | undefined;
  try {
    manifest = findPackageJSON(use, base);
  } catch {
    // Thrown where no such package is installed.
    return null;
  }
  if (manifest === undefined) return null;
  let parsed: { exports?: unknown; main?: unknown };
  try {
    parsed = JSON.parse(await readFile(manifest, 'utf8')) as typeof parsed;
  } catch {
    throw broken(use, `its package.json cannot be read (${manifest})`);
  }
  const entry =
    entryOf(parsed.exports) ?? (typeof parsed.main === 'string' ? parsed.main : 'index.js');
  return path.resolve(path.dirname(manifest), entry);
}

function entryOf(exports: unknown): string | null {
  if (typeof exports === 'string') return exports;
  if (typeof exports !== 'object' || exports === null) return null;
  const conditions = exports as Record<string, unknown>;
  for (const key of ['.', 'node', 'import', 'default']) {
    const entry = Object.hasOwn(conditions, key) ? entryOf(conditions[key]) : null;
    if (entry !== null) return entry;
  }
  return null;
}

async function importModule(file: string, use: string): Promise<unknown> {
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    // Names and codes only: a syntax error quotes the source, which may hold anything.
    const kind = error instanceof Error ? error.name : typeof error;
    throw broken(use, `loading ${file} failed (${kind})`);
  }
}

/** The provider that a module holds, as `default` or as `provider`; `provider-broken` where it is none. */
export function asProvider(module: unknown, use: string): Provider {
  const holder = (module ?? {}) as { default?: unknown; provider?: unknown };
  const found = (holder.default ?? holder.provider) as Partial<Provider> | undefined;
  if (typeof found !== 'object' || found === null) {
    throw broken(use, 'it has no default export that is a provider');
  }
  if (found.apiVersion !== providerApiVersion) {
    throw broken(
      use,
      `it is written for version ${String(found.apiVersion)} of the interface, this program has version ${providerApiVersion}`,
    );
  }
  const missing = [
    ...(typeof found.id === 'string' && /^[a-z][a-z0-9-]*$/.test(found.id) ? [] : ['id']),
    ...(typeof found.options?.safeParse === 'function' ? [] : ['options']),
    ...(typeof found.traits === 'function' ? [] : ['traits']),
    ...(typeof found.open === 'function' ? [] : ['open']),
  ];
  if (missing.length > 0) throw broken(use, `it lacks ${missing.join(', ')}`);
  return found as Provider;
}

function broken(use: string, what: string): RotatedError {
  return new RotatedError('provider-broken', `The provider ${use} cannot be used: ${what}.`, {
    next: 'Correct the module; `npm run -s contract` in this project shows what a provider must do.',
  });
}

function unknown(use: string, { directory }: LoadPlace, known: readonly string[]): RotatedError {
  const nearest = nearestName(use, known);
  const where = isPath(use)
    ? `no file ${path.resolve(directory, use)}`
    : `nor a package of that name near ${directory}`;
  return new RotatedError('provider-unknown', `There is no provider ${use}, ${where}.`, {
    next:
      nearest === null
        ? `Use one of: ${known.join(', ') || 'none is built in'}; or a path that begins with ./`
        : `Did you mean ${nearest}?`,
  });
}
