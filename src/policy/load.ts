/** A folder of policy files → what should run now: good files, and of broken ones what they last were. */
import { createHash } from 'node:crypto';
import { readdirSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { PolicyContext } from './context.ts';
import { readDocument } from './document.ts';
import { linkFiles } from './link.ts';
import { createParseTools, parseFile, providersNamedIn } from './parse.ts';
import type { ParsedFile } from './parsed.ts';
import type { NotifySpec, Policy, PolicyProblem } from './policy.ts';
import { placed, readPolicyFile, systemCode } from './read-file.ts';
import { type Account, ownAccount, unsafeFolder } from './safety.ts';

/** Raise it when the same text would give another `Policy`: parsed files of older versions are parsed again. */
const parserVersion = 1;

export interface CachedFile {
  readonly digest: string;
  readonly value: string;
}

/** Parsed files by path. May lose entries at any time. */
export interface PolicyCache {
  get(key: string): Promise<CachedFile | null>;
  put(entries: readonly ({ readonly key: string } & CachedFile)[]): Promise<void>;
}

export interface LoadContext extends PolicyContext {
  /** Where a broken file's last good policies come from, too: without it a broken file gives none. */
  readonly cache?: PolicyCache | undefined;
  /** What else decides whether a file is right, for the cache: the program's version, the versions of providers by path. */
  readonly cacheTag?: string;
  /** Called before `providerSchema` for each name that is not in `providers`, so that it can be imported. */
  readonly loadProvider?: ((use: string, directory: string) => Promise<void>) | undefined;
  /** Whose rights count; the process's own where left out. */
  readonly account?: Account | null;
}

export interface LoadedFile {
  readonly file: string;
  /** good: as it stands. stale: broken, its last good policies are used. broken: gives none. */
  readonly state: 'good' | 'stale' | 'broken';
}

export interface LoadResult {
  /**
   * False where the folder itself cannot be read or trusted: then there is nothing here, and whoever has policies
   * running keeps them.
   */
  readonly complete: boolean;
  readonly policies: readonly Policy[];
  readonly notifiers: readonly NotifySpec[];
  readonly problems: readonly PolicyProblem[];
  readonly files: readonly LoadedFile[];
}

/** So many files are read between two turns of the event loop: about 5 ms. */
const filesPerTurn = 100;

/**
 * `target`: a folder (its *.yaml and *.yml, in the order of their names, without folders below), or one file. A file with
 * a mistake never stops another. Throws nothing: what is wrong is a problem with its place.
 */
export async function loadPolicies(target: string, context: LoadContext): Promise<LoadResult> {
  const account = context.account === undefined ? ownAccount() : context.account;
  const folder = openFolder(target, account);
  if ('problem' in folder) {
    return { complete: false, policies: [], notifiers: [], problems: [folder.problem], files: [] };
  }
  const reader = createReader(context, folder.root, account);
  const reads: FileRead[] = [];
  for (const [index, file] of folder.files.entries()) {
    if (index % filesPerTurn === filesPerTurn - 1) await nextTurn();
    reads.push(await reader(file));
  }
  return settle(reads, context);
}

/** One file, before the others are known. */
interface FileRead {
  readonly file: string;
  /** null where it could not be read at all, or is no YAML. */
  readonly fresh: ParsedFile | null;
  readonly lastGood: ParsedFile | null;
  readonly problems: readonly PolicyProblem[];
  /** To be kept once the whole folder fits together; null where it was cached, or is broken. */
  readonly entry: ({ readonly key: string } & CachedFile) | null;
}

function openFolder(
  target: string,
  account: Account | null,
):
  | { readonly files: readonly string[]; readonly root: string }
  | { readonly problem: PolicyProblem } {
  let isFolder = false;
  try {
    isFolder = statSync(target).isDirectory();
    const folder = isFolder ? target : path.dirname(target);
    const unsafe = unsafeFolder(folder, account);
    if (unsafe !== null) {
      const message = `The folder ${unsafe.place} ${unsafe.why}, who could make the daemon run any command.`;
      return { problem: placed(target, 'policy-unsafe', message, unsafe.mend) };
    }
    const root = realpathSync(folder);
    if (!isFolder) return { files: [target], root };
    // Editors keep their unfinished copies under names that begin with a dot.
    const names = readdirSync(target).filter((name) => /^[^.].*\.ya?ml$/.test(name));
    return { files: names.sort().map((name) => path.join(target, name)), root };
  } catch (error) {
    const code = systemCode(error);
    const message =
      code === 'ENOENT'
        ? 'There is no such file or folder.'
        : `The ${isFolder ? 'folder' : 'path'} cannot be read (${code}).`;
    return { problem: placed(target, 'unreadable', message) };
  }
}

function createReader(
  context: LoadContext,
  root: string,
  account: Account | null,
): (file: string) => Promise<FileRead> {
  const tools = createParseTools();
  const { cache } = context;
  const validation = JSON.stringify([
    parserVersion,
    context.cacheTag ?? '',
    [...context.backends].sort(),
    [...context.providers].sort(),
  ]);
  return async (file) => {
    const key = `policy:${path.resolve(file)}`;
    const cached = (await cache?.get(key)) ?? null;
    const read = readPolicyFile(file, root, account);
    if ('problem' in read) {
      return {
        file,
        fresh: null,
        lastGood: fromCache(cached),
        problems: [read.problem],
        entry: null,
      };
    }
    const digest = createHash('sha256')
      .update(validation)
      .update(`\0${file}\0${path.resolve(file)}\0`)
      .update(read.bytes)
      .digest('hex');
    if (cached?.digest === digest) {
      const fresh = fromCache(cached);
      if (fresh !== null) return { file, fresh, lastGood: fresh, problems: [], entry: null };
    }
    const yaml = readDocument(read.bytes.toString('utf8'));
    await loadProviders(yaml.document?.value, file, context);
    const { parsed, problems } = parseFile(yaml, file, context, tools);
    const value = JSON.stringify({ parserVersion, parsed });
    const entry = problems.length === 0 ? { key, digest, value } : null;
    return { file, fresh: parsed, lastGood: fromCache(cached), problems, entry };
  };
}

/** Takes the whole folder together. A file with any mistake is not half applied: it gives what it last gave, or nothing. */
async function settle(reads: readonly FileRead[], context: LoadContext): Promise<LoadResult> {
  const broken = new Set(
    reads.filter(({ problems }) => problems.length > 0).map(({ file }) => file),
  );
  // Hooks that a file of unknown content may define are not missed.
  const isBlind = reads.some(({ fresh, lastGood }) => fresh === null && lastGood === null);
  const link = (files: readonly ParsedFile[]) => linkFiles(files, { missHooks: !isBlind });
  // As they stand, for the mistakes; then as they can be used.
  const first = link(reads.map(({ file, fresh, lastGood }) => fresh ?? lastGood ?? nothing(file)));
  for (const { file } of first.problems) broken.add(file);
  const linked = broken.size === 0 ? first : link(reads.map((read) => used(read, broken)));
  const known = new Set(first.problems.map(placeOf));
  const problems = [
    ...reads.flatMap((read) => read.problems),
    ...first.problems,
    ...linked.problems.filter((one) => !known.has(placeOf(one)) && !broken.has(one.file)),
  ];
  const entries = reads.flatMap(({ file, entry }) =>
    entry === null || broken.has(file) ? [] : [entry],
  );
  if (entries.length > 0) await context.cache?.put(entries);
  const order = new Map(reads.map(({ file }, index) => [file, index]));
  return {
    complete: true,
    policies: linked.policies,
    notifiers: linked.notifiers,
    problems: problems.toSorted(
      (a, b) =>
        (order.get(a.file) ?? 0) - (order.get(b.file) ?? 0) ||
        a.line - b.line ||
        a.column - b.column,
    ),
    files: reads.map(({ file, lastGood }) => ({
      file,
      state: !broken.has(file) ? 'good' : lastGood === null ? 'broken' : 'stale',
    })),
  };
}

function used(read: FileRead, broken: ReadonlySet<string>): ParsedFile {
  const { file, fresh, lastGood } = read;
  if (!broken.has(file)) return fresh ?? nothing(file);
  // Its hooks stay known, so that the policies of other files which name them do not suffer.
  const { notifiers, brokenNotifiers } = fresh ?? nothing(file);
  return lastGood ?? { ...nothing(file), notifiers, brokenNotifiers };
}

function nothing(file: string): ParsedFile {
  return { file, policies: [], notify: {}, notifiers: [], brokenNotifiers: [] };
}

function placeOf(problem: PolicyProblem): string {
  return `${problem.file}:${problem.line}:${problem.column}:${problem.code}`;
}

async function loadProviders(value: unknown, file: string, context: LoadContext): Promise<void> {
  const { loadProvider, providers } = context;
  if (loadProvider === undefined) return;
  for (const use of providersNamedIn(value)) {
    if (!providers.includes(use)) await loadProvider(use, path.dirname(path.resolve(file)));
  }
}

function fromCache(cached: CachedFile | null): ParsedFile | null {
  if (cached === null) return null;
  try {
    const entry = JSON.parse(cached.value) as { parserVersion?: unknown; parsed?: ParsedFile };
    return entry.parserVersion === parserVersion ? (entry.parsed ?? null) : null;
  } catch {
    return null;
  }
}
