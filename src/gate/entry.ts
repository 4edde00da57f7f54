/** One server as a client's config describes it: what is launched, and where in it values go. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { RotatedError } from '../errors.ts';
import type { Secret } from '../secret/secret.ts';

/**
 * What is launched. Each string may hold values: `{{reference}}`, or `{{reference|url}}` where it stands in a URL; an
 * environment variable or a header may also be a reference as a whole.
 */
export type Launch =
  | {
      readonly kind: 'process';
      readonly command: string;
      readonly args: readonly string[];
      /** Absolute. */
      readonly cwd: string;
      /** All that the process gets besides `minimalEnvironment`. */
      readonly env: Readonly<Record<string, string>>;
      /** Written before the process starts; mode 0600. */
      readonly files: readonly ValueFile[];
    }
  | {
      readonly kind: 'remote';
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
    };

export interface ValueFile {
  /** Absolute. */
  readonly path: string;
  /** With `{{reference}}`s in it. */
  readonly content: string;
  /** The server reads it again by itself: the file is written anew and the process goes on. */
  readonly reread: boolean;
}

export interface Entry {
  readonly name: string;
  readonly launch: Launch;
}

const wholeReference = /^(?:local|vault|awssm|op):\/\/[^\s{}|]+$/;
const placeholder = /\{\{\s*((?:local|vault|awssm|op):\/\/[^\s{}|]+)\s*(?:\|\s*(url)\s*)?\}\}/g;

/** `KEY_REF: local://…` in a client's config means `KEY: <the value>`. */
const referenceSuffix = '_REF';

export function isReference(text: string): boolean {
  return wholeReference.test(text);
}

/** A client's environment with `KEY_REF` written as `KEY`. Throws `usage` where both are there. */
export function environmentOf(
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) continue;
    const isRef = name.endsWith(referenceSuffix) && isReference(value);
    const target = isRef ? name.slice(0, -referenceSuffix.length) : name;
    const other = isRef ? env[target] : undefined;
    if (other !== undefined && other !== '') {
      throw new RotatedError('usage', `Both ${target} and ${name} are set.`, {
        next: `Remove ${target} from the entry: its value comes from ${value}.`,
      });
    }
    if (isRef || !Object.hasOwn(out, name)) out[target] = value;
  }
  return out;
}

/** Every reference of the entry, once, as written. */
export function referencesOf({ launch }: Entry): readonly string[] {
  const texts = textsOf(launch);
  const found = texts.flatMap(({ text, whole }) =>
    whole && isReference(text)
      ? [text]
      : [...text.matchAll(placeholder)].map((match) => match[1] as string),
  );
  return [...new Set(found)];
}

/** What a person should know of where values go. */
export function warningsOf({ launch }: Entry): readonly string[] {
  if (launch.kind !== 'process') return [];
  return [launch.command, ...launch.args].some((word) => word.search(placeholder) !== -1)
    ? [
        'A value stands in the arguments of the server, where other accounts of this machine can read it.',
      ]
    : [];
}

/**
 * Names what is run, so that a grant holds for it alone: command and arguments as written, or the address. Where one of
 * them is a file in the working directory, that directory counts as well: a clone of another project is another program.
 */
export function entryHash({ launch }: Entry): string {
  const words =
    launch.kind === 'remote'
      ? ['remote', launch.url]
      : ['process', launch.command, ...launch.args, ...localTo(launch)];
  return createHash('sha256').update(JSON.stringify(words)).digest('base64url');
}

function localTo(launch: Extract<Launch, { kind: 'process' }>): readonly string[] {
  const isLocal = [launch.command, ...launch.args].some(
    (word) =>
      word !== '' &&
      !path.isAbsolute(word) &&
      !word.startsWith('-') &&
      existsSync(path.join(launch.cwd, word)),
  );
  return isLocal ? [`in ${launch.cwd}`] : [];
}

/** The entry with its values in it. Throws `not-found` where one is missing. Plaintext: never log or print it. */
export function renderLaunch(launch: Launch, values: ReadonlyMap<string, Secret>): Launch {
  const fill = (text: string) => fillIn(text, values);
  const fillWhole = (text: string) =>
    isReference(text) ? valueOf(text, values).reveal() : fillIn(text, values);
  if (launch.kind === 'remote') {
    return { ...launch, url: fill(launch.url), headers: mapValues(launch.headers, fillWhole) };
  }
  return {
    ...launch,
    command: fill(launch.command),
    args: launch.args.map(fill),
    env: mapValues(launch.env, fillWhole),
    files: launch.files.map((file) => ({ ...file, content: fillWhole(file.content) })),
  };
}

/** The references whose change needs no new process: they stand in files that the server reads again by itself. */
export function rereadOnly(entry: Entry): ReadonlySet<string> {
  const { launch } = entry;
  if (launch.kind !== 'process') return new Set();
  const reread = launch.files.filter((file) => file.reread);
  const others = referencesOf({
    ...entry,
    launch: { ...launch, files: launch.files.filter((file) => !file.reread) },
  });
  const inFiles = referencesOf({
    ...entry,
    launch: { ...launch, args: [], env: {}, files: reread },
  });
  return new Set(inFiles.filter((reference) => !others.includes(reference)));
}

function textsOf(launch: Launch): readonly { readonly text: string; readonly whole: boolean }[] {
  const part = (text: string) => ({ text, whole: false });
  const either = (text: string) => ({ text, whole: true });
  return launch.kind === 'remote'
    ? [part(launch.url), ...Object.values(launch.headers).map(either)]
    : [
        part(launch.command),
        ...launch.args.map(part),
        ...Object.values(launch.env).map(either),
        ...launch.files.map((file) => either(file.content)),
      ];
}

function fillIn(text: string, values: ReadonlyMap<string, Secret>): string {
  return text.replaceAll(placeholder, (_, reference: string, filter: string | undefined) => {
    const value = valueOf(reference, values).reveal();
    return filter === 'url' ? encodeURIComponent(value) : value;
  });
}

function valueOf(reference: string, values: ReadonlyMap<string, Secret>): Secret {
  const value = values.get(reference);
  if (value !== undefined) return value;
  throw new RotatedError('not-found', `Nothing stands behind ${reference}.`, {
    next: 'Check the reference: rotate status shows the secrets there are.',
  });
}

function mapValues(
  record: Readonly<Record<string, string>>,
  change: (text: string) => string,
): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([name, text]) => [name, change(text)]));
}
