/** The checks of a credential as written → `VerifySpec`s, and the fields that their placeholders may name. */
import { commandOf, pickOne } from './build-consumer.ts';
import { asList, type BuildTools, isMap, positive, resolveCommand } from './build-parts.ts';
import type { Path } from './document.ts';
import { nearest } from './nearest.ts';
import type { Json, VerifySpec } from './policy.ts';
import { keyPatterns, type SecretInput, type VerifyInput } from './shape.ts';

const httpTimeoutMs = 10_000;
const execTimeoutMs = 30_000;
const mcpTimeoutMs = 30_000;
const methodsWithoutBody = ['GET', 'HEAD'];

/** What the gate consumers of this policy launch, by server, with `${field}`s for the values of its own item. */
export type GateCommands = ReadonlyMap<string, [string, ...string[]]>;

/** @param fields the item's fields; null where only the provider knows them. */
export function buildVerify(
  input: SecretInput['verify'],
  at: Path,
  fields: readonly string[] | null,
  servers: GateCommands,
  tools: BuildTools,
): readonly (VerifySpec | null)[] {
  if (input === undefined) return [{ kind: 'provider' }];
  const list = asList<VerifyInput>(input, at);
  if (list.length === 0) {
    tools.report(
      at,
      'bad-value',
      'No check is named, so nothing would prove that a new credential works.',
    );
  }
  return list.map(([one, place]) =>
    tools.isSound(place) || isMap(one) ? buildCheck(one, place, fields, servers, tools) : null,
  );
}

function buildCheck(
  input: VerifyInput,
  at: Path,
  fields: readonly string[] | null,
  servers: GateCommands,
  tools: BuildTools,
): VerifySpec | null {
  if (input === 'provider') return { kind: 'provider' };
  const kind = pickOne(input, ['provider', 'http', 'exec', 'mcp'], at, tools);
  if (kind !== null && !tools.isSound([...at, kind])) return null;
  switch (kind) {
    case null:
      return null;
    case 'provider':
      return { kind };
    case 'http':
      return input.http === undefined ? null : buildHttp(input.http, [...at, kind], fields, tools);
    case 'exec':
      return input.exec === undefined ? null : buildExec(input.exec, [...at, kind], fields, tools);
    case 'mcp':
      return input.mcp === undefined
        ? null
        : buildMcp(input.mcp, [...at, kind], fields, servers, tools);
    default:
      return kind satisfies never;
  }
}

type HttpInput = NonNullable<Exclude<VerifyInput, 'provider'>['http']>;
type ExecInput = NonNullable<Exclude<VerifyInput, 'provider'>['exec']>;

function buildHttp(
  input: HttpInput,
  at: Path,
  fields: readonly string[] | null,
  tools: BuildTools,
): VerifySpec {
  const written: Exclude<HttpInput, string> = typeof input === 'string' ? { url: input } : input;
  const { url, headers = {}, body, expect, timeout } = written;
  const method = written.method ?? (body === undefined ? 'GET' : 'POST');
  for (const [name, value] of Object.entries(headers)) {
    const place = [...at, 'headers', name];
    if (keyPatterns['header']?.test(name) !== true) {
      tools.report(place, 'bad-name', 'This is no name of a header.', { at: 'key' });
    }
    if (/[\r\n]/.test(value)) tools.report(place, 'bad-value', 'A header is one line.');
    checkPlaceholders(value, place, fields, tools);
  }
  if (body !== undefined) {
    checkPlaceholders(body, [...at, 'body'], fields, tools);
    if (methodsWithoutBody.includes(method)) {
      tools.report([...at, 'body'], 'conflict', `A ${method} request has no body.`, {
        at: 'key',
        example: 'method: POST',
      });
    }
  }
  return {
    kind: 'http',
    call: { url, method, headers, body: body ?? null },
    expectStatus: expect === undefined ? [200] : asList(expect, at).map(([status]) => status),
    timeoutMs: positive(timeout, httpTimeoutMs, [...at, 'timeout'], tools),
  };
}

function buildExec(
  input: ExecInput,
  at: Path,
  fields: readonly string[] | null,
  tools: BuildTools,
): VerifySpec {
  const { env, timeout } = Array.isArray(input) ? {} : input;
  for (const [name, field] of Object.entries(env ?? {})) {
    if (keyPatterns['environment']?.test(name) !== true) {
      tools.report(
        [...at, 'env', name],
        'bad-name',
        'This is no name of an environment variable.',
        { at: 'key', example: 'env: { PGPASSWORD: password }' },
      );
    }
    checkField(field, [...at, 'env', name], fields, (known) => `env: { ${name}: ${known} }`, tools);
  }
  return {
    kind: 'exec',
    command: resolveCommand(commandOf(input), tools),
    env: env ?? null,
    timeoutMs: positive(timeout, execTimeoutMs, [...at, 'timeout'], tools),
  };
}

type McpInput = NonNullable<Exclude<VerifyInput, 'provider'>['mcp']>;

function buildMcp(
  input: McpInput,
  at: Path,
  fields: readonly string[] | null,
  servers: GateCommands,
  tools: BuildTools,
): VerifySpec | null {
  const { server, env, tool, timeout } = input;
  const command = input.command ?? (server === undefined ? undefined : servers.get(server));
  if (command === undefined) {
    const [place, message] =
      server === undefined
        ? [at, 'The key command is missing: what starts the server.']
        : [[...at, 'server'], `No gate consumer of this policy states the command of ${server}.`];
    const example = 'command: [npx, -y, some-search-mcp]';
    tools.report(place, server === undefined ? 'missing' : 'conflict', message, { example });
    return null;
  }
  for (const word of input.command ?? []) {
    checkPlaceholders(word, [...at, 'command'], fields, tools, 'url');
  }
  for (const [name, text] of Object.entries(env ?? {})) {
    const place = [...at, 'env', name];
    if (keyPatterns['environment']?.test(name) !== true) {
      tools.report(place, 'bad-name', 'This is no name of an environment variable.', {
        at: 'key',
        example: 'env: { SEARCH_API_KEY: "${value}" }',
      });
    }
    checkPlaceholders(text, place, fields, tools, 'url');
  }
  return {
    kind: 'mcp',
    command: resolveCommand(command, tools),
    env: env ?? null,
    tool,
    // YAML gives nothing but JSON.
    arguments: (input.arguments ?? {}) as { [key: string]: Json },
    ...(input.expect === undefined ? {} : { expect: input.expect }),
    timeoutMs: positive(timeout, mcpTimeoutMs, [...at, 'timeout'], tools),
  };
}

/** @param filter what may follow the field, as in `${field|url}`. */
function checkPlaceholders(
  text: string,
  at: Path,
  fields: readonly string[] | null,
  tools: BuildTools,
  filter: string | null = null,
): void {
  const left = text.replaceAll(/\$\{([^{}]*)\}/g, (_, inside: string) => {
    const isFiltered = filter !== null && inside.endsWith(`|${filter}`);
    const field = isFiltered ? inside.slice(0, -filter.length - 1) : inside;
    if (keyPatterns['field']?.test(field) === true)
      checkField(field, at, fields, (known) => `\${${known}}`, tools);
    else tools.report(at, 'bad-placeholder', 'Between "${" and "}" stands the name of one field.');
    return '';
  });
  if (left.includes('${')) {
    tools.report(at, 'bad-placeholder', 'A placeholder begins with "${" and never ends.');
  }
}

function checkField(
  field: string,
  at: Path,
  fields: readonly string[] | null,
  exampleOf: (field: string) => string,
  { report }: BuildTools,
): void {
  if (fields === null || fields.includes(field)) return;
  const near = nearest(field, fields);
  const hint = near === null ? `It has: ${fields.join(', ')}.` : `Did you mean ${near}?`;
  report(at, 'unknown-field', `The item has no field of this name. ${hint}`, {
    example: exampleOf(near ?? fields[0] ?? 'value'),
  });
}
