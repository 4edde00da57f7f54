/** The shipped examples work as they stand, and the shipped JSON Schema is the one that the parser has. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { builtInProviders } from '../providers/index.ts';
import type { PolicyContext } from '../src/policy/context.ts';
import { expectedAt } from '../src/policy/expected.ts';
import { policyJsonSchema, policyJsonSchemaText } from '../src/policy/json-schema.ts';
import { loadPolicies } from '../src/policy/load.ts';
import { parsePolicyText } from '../src/policy/parse.ts';
import { providerExample } from '../src/policy/provider-examples.ts';
import { renderProblem } from '../src/policy/render.ts';
import { createScheduler } from '../src/schedule/due.ts';

const root = path.resolve(import.meta.dirname, '..');
const folder = path.join(root, 'schedules');
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.yaml'))
  .sort();

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

describe('the shipped examples', () => {
  test('load together without a mistake', async () => {
    const { policies, problems } = await loadPolicies(folder, context);
    expect(problems.map((problem) => renderProblem(problem))).toEqual([]);
    expect(policies.length).toBeGreaterThanOrEqual(files.length);
  });

  test('use every issuer that ships', async () => {
    const { policies } = await loadPolicies(folder, context);
    expect([...new Set(policies.map(({ provider }) => provider.use))].sort()).toEqual(
      [...context.providers].sort(),
    );
  });

  test('fire within a year, each in its window', async () => {
    const { policies } = await loadPolicies(folder, context);
    const scheduler = createScheduler();
    const now = Date.UTC(2026, 10, 23);
    for (const { name, schedule } of policies) {
      const state = { now, firedAt: null, currentSince: now, expiresAt: null, knownSince: now };
      const due = scheduler.nextDue(schedule, state, name);
      expect(due, name).not.toBeNull();
      expect((due ?? 0) - now, name).toBeLessThanOrEqual(366 * 86_400_000);
      expect(scheduler.mayBegin(schedule, due ?? 0), name).toBe(true);
    }
  });

  for (const file of files) {
    test(`${file} points editors at the schema, says who it is for, and the schema accepts it`, () => {
      const text = readFileSync(path.join(folder, file), 'utf8');
      expect(text).toMatch(
        /^# yaml-language-server: \$schema=\.\.\/schema\/policy\.schema\.json\n#\n# For /,
      );
      const validate = new Ajv({ strict: false }).compile(policyJsonSchema());
      expect(validate(parse(text)), JSON.stringify(validate.errors)).toBe(true);
    });
  }
});

test('schema/policy.schema.json is what the parser emits (vitest -u writes it)', async () => {
  await expect(policyJsonSchemaText()).toMatchFileSnapshot(
    path.join(root, 'schema', 'policy.schema.json'),
  );
});

test('the examples in messages about providers are right', () => {
  for (const use of context.providers) {
    const { problems } = parsePolicyText(
      `secrets:\n  it:\n    ${providerExample(use)}\n    backend: local://a\n    every: 30d`,
      'it.yaml',
      context,
    );
    expect(problems.map((problem) => renderProblem(problem))).toEqual([]);
  }
});

test('the examples in other messages are right where they would be pasted', () => {
  const places: Readonly<Record<string, readonly string[]>> = {
    '': [
      'provider',
      'backend',
      'schedule',
      'every',
      'grace',
      'quiet',
      'tags',
      'group',
      'verify',
      'consumers',
      'adoption',
      'failure',
      'emergency',
      'escrow',
    ],
    schedule: [
      'cron',
      'every',
      'timezone',
      'splay',
      'window',
      'freeze',
      'missed',
      'ageMin',
      'ageMax',
    ],
    adoption: ['timeout', 'then'],
    failure: ['attempts', 'pauseAfter'],
    emergency: ['mode', 'deadline'],
  };
  let count = 0;
  for (const [part, keys] of Object.entries(places)) {
    for (const key of keys) {
      const { example } = expectedAt(['secrets', 'it', ...(part === '' ? [] : [part]), key]);
      const least: Record<string, string> = {
        provider: 'provider: { use: generated, kind: random }',
        backend: 'backend: local://a',
        every: 'every: 300d',
      };
      if (part === '') {
        least[key] = example;
        if (key === 'schedule') delete least['every'];
        if (key === 'verify') least['backend'] = 'backend: local://a';
      } else {
        const isTrigger = ['cron', 'every'].includes(key);
        least[part] =
          part === 'schedule'
            ? `schedule: { ${isTrigger ? '' : 'every: 300d, '}${example} }`
            : `${part}: { ${example} }`;
        if (part === 'schedule') delete least['every'];
      }
      const text = `secrets:\n  it:\n${Object.values(least)
        .map((line) => `    ${line}\n`)
        .join('')}`;
      const { problems } = parsePolicyText(text, 'it.yaml', context);
      expect(
        problems.map((problem) => renderProblem(problem)),
        text,
      ).toEqual([]);
      count++;
    }
  }
  expect(count).toBeGreaterThan(25);
});
