/** Broken policy files as golden cases: each mistake has its code, place and a correct example, and no secret is repeated. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, test } from 'vitest';
import { builtInProviders } from '../../providers/index.ts';
import type { PolicyContext } from '../../src/policy/context.ts';
import { readDocument } from '../../src/policy/document.ts';
import { policyJsonSchema } from '../../src/policy/json-schema.ts';
import { loadPolicies } from '../../src/policy/load.ts';
import { renderProblem } from '../../src/policy/render.ts';

const folder = path.join(import.meta.dirname, 'policies');
const cases = readdirSync(folder)
  .filter((name) => name.endsWith('.yaml'))
  .sort();

/** Written in the files where a careless person would have put a secret. */
const planted = ['hunter2secret', 'ghp_0123456789abcdefghijABCDEFGHIJ012345'];

/** What no JSON Schema can say, since it is not about the form of one value. */
const beyondSchema: Readonly<Record<string, string>> = {
  '01-empty.yaml': 'an empty file is null, and editors do not check it',
  '04-latin-1.yaml': 'the encoding of the file',
  '06-same-name-twice.yaml': 'the parser keeps the last of two keys',
  '11-unknown-provider.yaml': 'which providers exist is not in the schema',
  '16-backend-not-built.yaml': 'nor which backends',
  '17-cron.yaml': 'cron expressions are checked by croner',
  '18-cron-never.yaml': 'the calendar',
  '19-timezone.yaml': 'the list of time zones is the machine’s',
  '22-grace-too-long.yaml': 'compares two values',
  '23-ages-and-splay.yaml': 'compares two values',
  '35-items-taken-twice.yaml': 'compares two secrets',
  '36-self-admin.yaml': 'compares two references',
};

let context: PolicyContext;
beforeAll(async () => {
  const registry = builtInProviders();
  const loaded = await Promise.all(
    registry.ids.map((id) => registry.load(id, { directory: folder })),
  );
  const schemas = new Map(loaded.map(({ id, options }) => [id, options]));
  context = {
    backends: new Set(['local']),
    providers: registry.ids,
    providerSchema: (use) => schemas.get(use),
  };
});

test('there are at least thirty of them', () => {
  expect(cases.length).toBeGreaterThanOrEqual(30);
});

describe('each broken file', () => {
  for (const name of cases) {
    test(`${name} gives its mistakes, each with place and example`, async () => {
      const result = await loadPolicies(path.join(folder, name), context);
      const text = result.problems.map((problem) => renderProblem(problem)).join('\n');
      expect(result.problems.length, text).toBeGreaterThan(0);
      expect(result.policies).toEqual([]);
      const found = result.problems.map(({ code, line, column, path: at }) => ({
        code,
        line,
        column,
        path: at,
      }));
      const golden = path.join(folder, name.replace('.yaml', '.expected.json'));
      await expect(`${JSON.stringify(found, null, 2)}\n`, text).toMatchFileSnapshot(golden);
      for (const problem of result.problems) {
        const shown = renderProblem(problem);
        expect(shown).toContain(`${path.join(folder, name)}:${problem.line}:${problem.column}`);
        expect(problem.message.length).toBeGreaterThan(10);
        // A file that is no YAML has no place where an example would fit.
        if (problem.path !== '') expect(problem.example, shown).not.toBeNull();
        for (const secret of planted) expect(JSON.stringify(problem) + shown).not.toContain(secret);
      }
    });
  }
});

describe('the JSON Schema', () => {
  // Not by zod, which made it: another's reading of the same draft, as an editor has.
  const validate = new Ajv({ allErrors: true, strict: false }).compile(policyJsonSchema());

  for (const name of cases) {
    const { document } = readDocument(readFileSync(path.join(folder, name), 'utf8'));
    if (document === null) continue;
    const reason = beyondSchema[name];
    test(`${reason === undefined ? 'refuses' : 'cannot refuse'} ${name}${reason === undefined ? '' : `: ${reason}`}`, () => {
      expect(validate(document.value), JSON.stringify(validate.errors)).toBe(reason !== undefined);
    });
  }
});
