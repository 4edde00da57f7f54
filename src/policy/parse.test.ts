/** The text of a policy file: short forms, defaults, positions, and that no secret is repeated. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { PolicyContext } from './context.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { nearest } from './nearest.ts';
import { parsePolicyText } from './parse.ts';
import type { Policy } from './policy.ts';
import { formatReference, parseReference } from './reference.ts';
import { renderProblem } from './render.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
console.info(`seed ${seed} (set SEED to repeat)`);

const context: PolicyContext = {
  backends: new Set(['local', 'vault', 'op']),
  providers: ['generated', 'operator'],
  providerSchema: (use) => {
    if (use === 'generated')
      return z.strictObject({ kind: z.enum(['random', 'hmac']).default('random') });
    return use === 'operator' ? z.looseObject({}) : undefined;
  },
};

function only(body: string, more = ''): Policy {
  const { policies, problems } = parsePolicyText(
    `secrets:\n  it:\n${indent(body)}\n${more}`,
    '/etc/rotated/it.yaml',
    context,
  );
  expect(problems.map((problem) => renderProblem(problem))).toEqual([]);
  const [policy] = policies;
  if (policy === undefined) throw new Error('no policy');
  return policy;
}

function problems(text: string) {
  return parsePolicyText(text, 'it.yaml', context).problems;
}

function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n');
}

const least = 'provider: generated\nbackend: local://mcp/it\nevery: 30d';

describe('short forms', () => {
  test('the least a policy needs has every default', () => {
    expect(only(least)).toMatchObject({
      name: 'it',
      source: { file: '/etc/rotated/it.yaml', line: 2, column: 3 },
      directory: '/etc/rotated',
      group: null,
      provider: { use: 'generated', admin: null, options: {} },
      backend: { scheme: 'local', item: 'mcp/it', fields: null },
      schedule: {
        trigger: { kind: 'every', everyMs: 30 * 86_400_000 },
        timezone: 'UTC',
        missed: 'once',
        splayMs: 0,
      },
      graceMs: 3_600_000,
      verify: [{ kind: 'provider' }],
      consumers: [],
      adoption: { timeoutMs: 900_000, then: 'wait' },
      failure: { attempts: 5, pauseAfter: 3 },
      emergency: { mode: 'continuity' },
      escrow: true,
      notify: [],
    });
  });

  test('every is the same at the secret and under schedule', () => {
    const long = only('provider: generated\nbackend: local://mcp/it\nschedule: { every: 30d }');
    expect(long.schedule).toEqual(only(least).schedule);
  });

  test('one entry stands where a list may', () => {
    const one = only(
      `${least}\nverify: provider\nconsumers: { exec: [reload] }\ntags: mcp\nnotify: hook`,
      'notifiers: { hook: { exec: [tell] } }',
    );
    const many = only(
      `${least}\nverify: [provider]\nconsumers: [{ exec: { command: [reload] } }]\ntags: [mcp]\nnotify: [hook]`,
      'notifiers: { hook: { exec: { command: [tell] } } }',
    );
    expect({ ...one, source: null }).toEqual({ ...many, source: null });
    expect(one.notify).toEqual([{ kind: 'exec', name: 'hook', command: ['tell'] }]);
  });

  test('a field after "#" is the only field of the provider', () => {
    expect(only(least.replace('mcp/it', 'mcp/it#API_KEY')).backend.fields).toEqual({
      API_KEY: 'value',
    });
    expect(only(least.replace('local://mcp/it', 'op://Servers/search/api_key')).backend).toEqual({
      scheme: 'op',
      item: 'Servers/search',
      fields: { api_key: 'value' },
    });
  });

  test('programs and paths that are relative count from the folder of the file, bare names do not', () => {
    const policy = only(
      `${least}\nverify: { exec: [./check, ./argument] }\nconsumers: [{ exec: [systemctl, reload] }, { file: { path: out.env, format: env } }]`,
    );
    expect(policy.verify).toMatchObject([{ command: ['/etc/rotated/check', './argument'] }]);
    expect(policy.consumers).toMatchObject([
      { command: ['systemctl', 'reload'] },
      { path: '/etc/rotated/out.env', mode: 0o600 },
    ]);
  });

  test('an anchor may share a part', () => {
    const text = `secrets:\n  a: { provider: generated, backend: local://a, schedule: &s { every: 7d } }\n  b: { provider: generated, backend: local://b, schedule: *s }`;
    const { policies, problems } = parsePolicyText(text, 'it.yaml', context);
    expect(problems).toEqual([]);
    expect(policies[1]?.schedule).toEqual(policies[0]?.schedule);
  });

  test('a policy is plain JSON', () => {
    const policy = only(
      `${least}\nconsumers: { signal: { signal: SIGHUP, match: [node, server.js], owner: 1000 } }`,
    );
    expect(JSON.parse(JSON.stringify(policy))).toEqual(policy);
    expect(policy.consumers).toMatchObject([{ owner: '1000' }]);
  });
});

describe('mistakes', () => {
  test('one broken secret does not take its neighbour along in a text', () => {
    const { policies, problems } = parsePolicyText(
      `secrets:\n  good: { provider: generated, backend: local://a, every: 7d }\n  bad: { provider: generated, backend: local://b, every: 7 }`,
      'it.yaml',
      context,
    );
    expect(policies.map(({ name }) => name)).toEqual(['good']);
    expect(problems.map(({ code, line, column }) => [code, line, column])).toEqual([
      ['bad-duration', 3, 58],
    ]);
  });

  test('mistakes of form do not hide mistakes of meaning in the same part', () => {
    const found = problems(
      'secrets:\n  it:\n    provider: { use: generated, admin: 3, kind: x }\n    backend: local://a\n    schedule: { cron: "0 0 31 2 *", timezone: Mars, splay: 5 }\n    consumers: [{ exec: reload, http: "http://x/", report: { file: 3 } }]',
    );
    expect(found.map(({ path }) => path)).toEqual([
      'secrets.it.provider.admin',
      'secrets.it.provider.kind',
      'secrets.it.schedule.cron',
      'secrets.it.schedule.timezone',
      'secrets.it.schedule.splay',
      'secrets.it.consumers.0.exec',
      'secrets.it.consumers.0.exec',
      'secrets.it.consumers.0.report.file',
    ]);
  });

  test.each([
    ['<<: *x', 'unknown-key'],
    ['__proto__: { a: 1 }', 'unknown-key'],
    ['constructor: 1', 'unknown-key'],
  ])('%s is an unknown key like any other', (line, code) => {
    const found = problems(
      `secrets:\n  it:\n    tags: &x [a]\n    provider: generated\n    backend: local://a\n    every: 7d\n    ${line}`,
    );
    expect(found.map((problem) => problem.code)).toContain(code);
  });

  test('YAML 1.1 is refused, since there 010 is 8 and 1:30 is 90', () => {
    expect(
      problems(
        `%YAML 1.1\n---\nsecrets: { it: { provider: generated, backend: local://a, every: 7d } }`,
      ).map(({ code }) => code),
    ).toEqual(['yaml-syntax']);
  });

  test('a text is rendered with place, path, message, what was seen and an example', () => {
    const [problem] = problems(
      'secrets:\n  it: { provider: generated, backend: local://a, every: 7d, grace: 1 }',
    );
    if (problem === undefined) throw new Error('no problem');
    expect(renderProblem(problem)).toBe(
      'it.yaml:2:68  secrets.it.grace  bad-duration\n  Here belongs a span of time with its unit, not a bare number.\n  seen:    1\n  example: grace: 24h',
    );
    expect(renderProblem(problem, { color: true })).toContain('\u001B[');
    expect(renderProblem(problem, { width: 40 }).split('\n')).toHaveLength(5);
  });
});

describe('secrets written out', () => {
  const forms = [
    'sk-ant-api03-abcdefghijklmnopqrstuv',
    'sk_live_abcdefghijklmnop',
    'ghp_abcdefghijklmnopqrstuvwxyz0123456789',
    'glpat-abcdefghijklmnopqrst',
    'xoxb-123456789012-abcdefghij',
    'AKIAIOSFODNN7EXAMPLE',
    'postgres://admin:s3cret-pass@db/main',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl',
  ];
  const places = [
    (value: string) => `tags: ["${value}"]`,
    (value: string) => `group: "${value}"`,
    (value: string) => `grace: "${value}"`,
    (value: string) => `escrow: "${value}"`,
    (value: string) => `unknown: { deep: ["${value}"] }`,
    (value: string) => `notify: "${value}"`,
    (value: string) => `emergency: { mode: "${value}" }`,
    (value: string) => `schedule: { cron: "${value}" }`,
    (value: string) => `verify: { http: { url: "https://x/", headers: { A: "${value}" } } }`,
    (value: string) => `consumers: { http: { url: "http://x/", key: "${value}" } }`,
    (value: string) => `consumers: { exec: [run, "${value}"] }`,
    (value: string) => `"${value}": 1`,
    (value: string) => `verify: { exec: { command: [x], env: { "${value}": a } } }`,
  ];

  test('are mistakes wherever they stand, and are in no message', () => {
    for (const value of forms) {
      for (const place of places) {
        const found = problems(
          `secrets:\n  it:\n    provider: generated\n    backend: local://a\n    every: 7d\n    ${place(value)}`,
        );
        expect(
          found.some(({ code }) => code === 'plaintext-secret'),
          place(value),
        ).toBe(true);
        expect(JSON.stringify(found) + found.map((one) => renderProblem(one)).join()).not.toContain(
          value,
        );
      }
    }
  });

  test('a value under a key that names a secret is one, whatever it looks like', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('password', 'api_key', 'API-KEY', 'clientSecret', 'token', 'private_key'),
        fc.stringMatching(/^[a-z]{4,12}[0-9!]{2,6}$/),
        (key, value) => {
          const found = problems(
            `secrets:\n  it:\n    provider: { use: operator, ${key}: "${value}" }\n    backend: local://a\n    every: 7d`,
          );
          expect(found.map(({ code }) => code)).toEqual(['plaintext-secret']);
          expect(JSON.stringify(found)).not.toContain(value);
        },
      ),
      { seed, numRuns: 100 },
    );
  });

  test("a provider's own words about its options are cleaned of them", () => {
    const { problems: found } = parsePolicyText(
      'secrets:\n  it: { provider: { use: generated, password: hunter2pass }, backend: local://a, every: 7d }',
      'it.yaml',
      {
        ...context,
        providerSchema: () =>
          z.looseObject({}).superRefine((value, { addIssue }) => {
            addIssue({ code: 'custom', message: `cannot use ${JSON.stringify(value)}` });
          }),
      },
    );
    expect(found.map(({ code }) => code).sort()).toEqual(['plaintext-secret', 'provider-option']);
    expect(JSON.stringify(found)).not.toContain('hunter2pass');
  });

  test('broken YAML around them is reported without them', () => {
    for (const text of [
      'password: *hunter2pass',
      'password: !hunter2pass x',
      'password: "hunter2pass',
      'password: [hunter2pass',
      'a: b: hunter2pass',
      '\thunter2pass: x',
      'password: @hunter2pass',
      '? [hunter2pass]\n: x',
      '- hunter2pass\nx: y',
    ]) {
      const found = problems(text);
      expect(found.length, text).toBeGreaterThan(0);
      expect(JSON.stringify(found), text).not.toContain('hunter2pass');
    }
  });

  test('references, placeholders, names of fields and secrets are none', () => {
    only(
      'provider: { use: operator, token: "vault://secret/x#token" }\nbackend: { ref: local://a, fields: { PASSWORD: password, API_KEY: token } }\nevery: 7d\nverify: [{ http: { url: "https://x/", headers: { Authorization: "Bearer ${API_KEY}" } } }, { exec: { command: [check, --password-file, /run/p], env: { TOKEN: API_KEY } } }]',
    );
    expect(
      problems(
        'secrets:\n  token: { provider: generated, backend: local://a, every: 7d }\n  password: { provider: generated, backend: local://b, every: 7d }',
      ),
    ).toEqual([]);
  });
});

describe('the words of a policy', () => {
  test('durations have units, the larger first', () => {
    expect(parseDuration('1h30m')).toBe(5_400_000);
    expect(parseDuration('30d')).toBe(2_592_000_000);
    expect(parseDuration('250ms')).toBe(250);
    for (const wrong of [
      '',
      '30',
      'd',
      '1.5h',
      '-1h',
      '1h 30m',
      '30m1h',
      '1h1h',
      '4000d',
      '1M',
      ' 1h',
    ]) {
      expect(parseDuration(wrong), wrong).toBeNull();
    }
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3_650 * 86_400_000 }), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms);
      }),
      { seed },
    );
  });

  test('references are canonical in all four schemes', () => {
    const canonical = (text: string) => {
      const parsed = parseReference(text);
      return 'wrong' in parsed ? parsed.wrong : formatReference(parsed.reference);
    };
    expect(canonical('local://mcp/it#a')).toBe('local://mcp/it#a');
    expect(canonical('vault://secret/mcp/search#api_key')).toBe(
      'vault://secret/mcp/search#api_key',
    );
    expect(canonical('awssm://prod/search')).toBe('awssm://prod/search');
    expect(canonical('op://My Vault/item/field')).toBe('op://My Vault/item#field');
    expect(canonical('op://My Vault/item#field')).toBe('op://My Vault/item#field');
    for (const wrong of [
      'local://',
      'local:///a',
      'local://a//b',
      'local://a/',
      'local://a#',
      'local://a#b#c',
      'local://a b',
      'vault://mount',
      'op://vault',
      'env://X',
      'file:///x',
      'x',
      'local://a/../b',
      'local://%2e%2e/a',
    ]) {
      expect(parseReference(wrong), wrong).toHaveProperty('wrong');
    }
    // What a person pasted instead of a reference is not repeated.
    expect(JSON.stringify(parseReference('s3cret-value'))).not.toContain('s3cret');
  });

  test('the nearest word is suggested only where it is near', () => {
    expect(nearest('postgers', ['postgres', 'redis'])).toBe('postgres');
    expect(nearest('graec', ['grace', 'group'])).toBe('grace');
    expect(nearest('memcached', ['postgres', 'redis'])).toBeNull();
  });
});

test('whatever the text, parsing ends with policies or placed mistakes', () => {
  const word = fc.constantFrom(
    'secrets',
    'it',
    'provider',
    'generated',
    'backend',
    'local://a',
    'every',
    '30d',
    'schedule',
    'cron',
    '"0 3 * * 0"',
    'verify',
    'consumers',
    'exec',
    '[',
    ']',
    '{',
    '}',
    ':',
    ': ',
    '\n',
    '\n  ',
    '\n    ',
    '- ',
    ',',
    '*a',
    '&a ',
    '!x ',
    '#',
    '"',
    "'",
    '|',
    '>',
    '\t',
    '\u0000',
    '%',
    '@',
    '<<',
  );
  fc.assert(
    fc.property(
      fc.array(word, { maxLength: 60 }).map((words) => words.join('')),
      (text) => {
        const { policies, problems: found } = parsePolicyText(text, 'it.yaml', context);
        expect(policies.length + found.length).toBeGreaterThan(0);
        for (const { line, column, message } of found) {
          expect(line).toBeGreaterThanOrEqual(1);
          expect(column).toBeGreaterThanOrEqual(1);
          expect(message).not.toBe('');
        }
      },
    ),
    { seed, numRuns: 3_000 },
  );
});
