/** The text of one policy file → its policies, hooks and mistakes: pure, all mistakes at once. */
import path from 'node:path';
import { buildPolicy } from './build.ts';
import {
  type BuildTools,
  createScheduleMemo,
  type Report,
  resolveCommand,
  type ScheduleMemo,
} from './build-parts.ts';
import { commandOf, pickOne } from './build-consumer.ts';
import type { PolicyContext } from './context.ts';
import { createCronTable, type CronTable } from '../schedule/cron-table.ts';
import { type Path, type PolicyDocument, readDocument } from './document.ts';
import { expectedAt } from './expected.ts';
import { type Mistake, toMistakes, valueAt } from './issues.ts';
import { knownKeysAt } from './known-keys.ts';
import { linkFiles } from './link.ts';
import { findPlaintext, looksSecret, type PlaintextFind } from './plaintext.ts';
import type { NotifyName, ParsedFile, PlacedNotifier } from './parsed.ts';
import type { Policy, PolicyProblem } from './policy.ts';
import { providerExample } from './provider-examples.ts';
import { scrub, seenAt } from './seen.ts';
import { fileShape, keyPatterns, type NotifierInput, type SecretInput } from './shape.ts';

export interface ParsedText {
  /** Those without a mistake. */
  readonly policies: readonly Policy[];
  readonly notifiers: readonly PlacedNotifier[];
  readonly problems: readonly PolicyProblem[];
}

/** What parsing many files shares. */
export interface ParseTools {
  readonly crons: CronTable;
  readonly memo: ScheduleMemo;
}

export function createParseTools(): ParseTools {
  return { crons: createCronTable(), memo: createScheduleMemo() };
}

/**
 * `file` is named in messages, and its folder is where relative paths count from. Hooks named under `notify` have to
 * stand in the same text; `loadPolicies` knows those of the whole folder.
 */
export function parsePolicyText(text: string, file: string, context: PolicyContext): ParsedText {
  const { parsed, problems } = parseFile(readDocument(text), file, context, createParseTools());
  if (parsed === null) return { policies: [], notifiers: [], problems };
  const linked = linkFiles([parsed]);
  return {
    policies: linked.policies,
    notifiers: parsed.notifiers,
    problems: inOrder([...problems, ...linked.problems]),
  };
}

/** `parsed` is null where the text cannot be read as YAML. */
export function parseFile(
  { document, mistakes }: ReturnType<typeof readDocument>,
  file: string,
  context: PolicyContext,
  tools: ParseTools,
): { readonly parsed: ParsedFile | null; readonly problems: readonly PolicyProblem[] } {
  const syntax = mistakes.map(
    ({ code, message, example, line, column }): PolicyProblem => ({
      code,
      file,
      line,
      column,
      path: '',
      message,
      seen: null,
      example,
    }),
  );
  if (document === null) {
    return { parsed: null, problems: syntax };
  }
  const reader = new FileReader(document, file, context, tools);
  return { parsed: reader.read(), problems: inOrder([...syntax, ...reader.problems()]) };
}

/** The names after `use:` in a text, for whoever has to load providers before they can be asked. */
export function providersNamedIn(value: unknown): readonly string[] {
  const secrets = valueAt(value, ['secrets']);
  if (typeof secrets !== 'object' || secrets === null) return [];
  const uses = Object.values(secrets).map((secret: unknown) => {
    const provider = valueAt(secret, ['provider']);
    return typeof provider === 'string' ? provider : valueAt(provider, ['use']);
  });
  return [...new Set(uses.filter((use) => typeof use === 'string'))];
}

class FileReader {
  readonly #document: PolicyDocument;
  readonly #file: string;
  readonly #context: PolicyContext;
  readonly #tools: ParseTools;
  readonly #mistakes: Mistake[] = [];
  readonly #plaintext: readonly PlaintextFind[];

  constructor(document: PolicyDocument, file: string, context: PolicyContext, tools: ParseTools) {
    this.#document = document;
    this.#file = file;
    this.#context = context;
    this.#tools = tools;
    this.#plaintext = findPlaintext(document.value);
  }

  read(): ParsedFile {
    const { value } = this.#document;
    const shape = fileShape.safeParse(value);
    if (!shape.success) {
      this.#mistakes.push(
        ...toMistakes(shape.error.issues, value, (at) => knownKeysAt(fileShape, at)),
      );
    }
    const structural = this.#mistakes.map((mistake) => mistake.path);
    const isSound = (at: Path): boolean =>
      !structural.some((path) => isWithin(path, at) || isWithin(at, path));
    const tools: BuildTools = {
      ...this.#tools,
      context: this.#context,
      report: this.#report,
      isSound,
      options: this.#checkOptions,
      directory: path.dirname(path.resolve(this.#file)),
    };
    if (isRecord(value) && value['secrets'] === undefined && value['notifiers'] === undefined) {
      const message = 'The file has neither secrets nor notifiers.';
      this.#report([], 'missing', message, { example: expectedAt(['secrets']).example });
    }
    const notifiers = this.#entries('notifiers').flatMap(([name, input]) =>
      isSound(['notifiers', name]) && !looksSecret(name)
        ? this.#notifier(name, input as NotifierInput, tools)
        : [],
    );
    const policies: Policy[] = [];
    const notify: Record<string, readonly NotifyName[]> = {};
    for (const [name, input] of this.#entries('secrets')) {
      if (!isRecord(input)) continue;
      const source = { file: this.#file, ...this.#document.place(['secrets', name], 'key') };
      // Parts of unknown form are never read: each is asked for with `isSound`.
      const policy = buildPolicy(name, input as SecretInput, source, tools);
      if (policy !== null) policies.push(policy);
      notify[name] = isSound(['secrets', name, 'notify'])
        ? this.#notifyNames(name, input as SecretInput)
        : [];
    }
    for (const { path } of this.#plaintext) {
      const example = plaintextExample(path);
      this.#report(
        path,
        'plaintext-secret',
        'This looks like a secret written out. A policy holds references only: move it to a backend, and rotate it, since this file was readable.',
        { example },
      );
    }
    const broken = new Set(
      this.#mistakes.filter(({ path }) => path[0] === 'secrets').map(({ path }) => path[1]),
    );
    const wholeIsBroken = this.#mistakes.some(
      ({ path }) => path.length < 2 && path[0] === 'secrets',
    );
    return {
      file: this.#file,
      policies: wholeIsBroken ? [] : policies.filter(({ name }) => !broken.has(name)),
      notify,
      notifiers,
      brokenNotifiers: this.#entries('notifiers', false)
        .map(([name]) => name)
        .filter((name) => !notifiers.some(({ spec }) => spec.name === name)),
    };
  }

  problems(): readonly PolicyProblem[] {
    const { value } = this.#document;
    const plaintext = this.#plaintext;
    const secretPaths = new Set(plaintext.map(({ path }) => path.join('\0')));
    const secrets = plaintext.map((find) => find.value);
    const problems = this.#mistakes
      // What else is wrong with a secret that must go is of no use.
      .filter(({ path, code }) => code === 'plaintext-secret' || !secretPaths.has(path.join('\0')))
      .map(({ path, at, code, message, example }): PolicyProblem => {
        return {
          code,
          file: this.#file,
          ...this.#document.place(path, at),
          path: scrub(path.join('.'), secrets),
          message: scrub(message, secrets),
          seen:
            code === 'plaintext-secret' || code === 'missing'
              ? null
              : at === 'key'
                ? seenKey(path, secrets)
                : seenAt(value, path, secrets),
          example: example ?? expectedAt(path).example,
        };
      });
    return [
      ...new Map(
        problems.map((one) => [
          `${one.line}:${one.column}:${one.code}:${one.path}:${one.message}`,
          one,
        ]),
      ).values(),
    ];
  }

  #entries(
    section: 'secrets' | 'notifiers',
    isFirst = true,
  ): readonly (readonly [string, unknown])[] {
    const map = valueAt(this.#document.value, [section]);
    if (!isRecord(map)) return [];
    for (const name of Object.keys(map)) {
      if (!isFirst || keyPatterns['name']?.test(name) === true) continue;
      const message =
        'A name has lower-case letters, digits and "-", starts with a letter or digit, and has at most 63 characters.';
      const example = name
        .toLowerCase()
        .replaceAll(/[^a-z0-9]+/g, '-')
        .replaceAll(/^-+|-+$/g, '')
        .slice(0, 63);
      this.#report([section, name], 'bad-name', message, {
        at: 'key',
        example: `${example === '' ? 'reports-db' : example}:`,
      });
    }
    return Object.entries(map);
  }

  #notifier(name: string, input: NotifierInput, tools: BuildTools): PlacedNotifier[] {
    const at = ['notifiers', name];
    const place = { file: this.#file, ...this.#document.place(at, 'key') };
    switch (pickOne(input, ['exec', 'http'], at, tools)) {
      case 'exec':
        if (input.exec === undefined) return [];
        return [
          {
            ...place,
            spec: { kind: 'exec', name, command: resolveCommand(commandOf(input.exec), tools) },
          },
        ];
      case 'http': {
        const url = typeof input.http === 'string' ? input.http : input.http?.url;
        return url === undefined ? [] : [{ ...place, spec: { kind: 'http', name, url } }];
      }
      default:
        return [];
    }
  }

  #notifyNames(secret: string, input: SecretInput): readonly NotifyName[] {
    const at = ['secrets', secret, 'notify'];
    const names = typeof input.notify === 'string' ? [input.notify] : (input.notify ?? []);
    // One that looks like a secret has its mistake, and is repeated by none that would say it is unknown.
    return names.flatMap((name, index) => {
      if (looksSecret(name)) return [];
      const place = Array.isArray(input.notify) ? [...at, index] : at;
      return [{ name, path: place.join('.'), ...this.#document.place(place) }];
    });
  }

  #report: Report = (path, code, message, more = {}) => {
    this.#mistakes.push({
      path,
      code,
      message,
      at: more.at ?? 'value',
      example: more.example ?? null,
    });
  };

  #checkOptions: BuildTools['options'] = (use, schema, options, at) => {
    const result = schema.safeParse(options);
    if (result.success) return;
    const known = (path: Path) => knownKeysAt(schema, path);
    for (const mistake of toMistakes(result.error.issues, options, known, 'provider-option')) {
      const example = providerExample(use);
      this.#mistakes.push({ ...mistake, path: [...at, ...mistake.path], example });
    }
  };
}

function inOrder(problems: readonly PolicyProblem[]): readonly PolicyProblem[] {
  return problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
}

function isWithin(path: Path, above: Path): boolean {
  return above.length <= path.length && above.every((part, index) => part === path[index]);
}

function seenKey(path: Path, secrets: readonly string[]): string | null {
  const key = path.at(-1);
  return typeof key === 'string' && /^[\w.-]{1,63}$/.test(key) ? scrub(key, secrets) : null;
}

/** How to say at this place where the secret is, instead of what it is. */
function plaintextExample(path: Path): string {
  const [, , part, ...rest] = path.filter((one) => typeof one === 'string');
  if (rest.includes('headers') || rest.includes('body')) {
    return 'headers: { Authorization: "Bearer ${api_key}" }';
  }
  if (part === 'verify') return 'exec: { command: [./check], env: { PGPASSWORD: password } }';
  if (part === 'provider' && rest[0] !== 'admin')
    return 'provider: { use: exec, command: [./issue-key], crashClass: token, admin: local://admin/search }';
  return part === 'backend' ? expectedAt(path).example : 'admin: local://admin/postgres';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
