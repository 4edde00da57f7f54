/** An import as a whole, over configs nobody wrote: the same servers with the same values, no value left, and the way back to the byte. */
import fc from 'fast-check';
import { parse } from 'jsonc-parser';
import { describe, expect, test } from 'vitest';
import { entryHash, referencesOf } from '../gate/entry.ts';
import { Secret } from '../secret/secret.ts';
import { diffOf } from './diff.ts';
import { policyFiles } from './policy-text.ts';
import {
  config,
  type EntryJson,
  holding,
  meaning,
  planned,
  textsAfter,
  valuesOf,
  wrapped,
} from './testing/importing.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
console.info(`seed ${seed} (set SEED to repeat)`);

const file = '/home/anna/.claude.json';
const after = async (servers: Readonly<Record<string, unknown>>) => {
  const plan = await planned([config(file, JSON.stringify({ mcpServers: servers }, null, 2))]);
  const [text = ''] = textsAfter(plan);
  const { mcpServers } = JSON.parse(text) as { mcpServers: Record<string, EntryJson> };
  return { plan, text, servers: mcpServers };
};

/** Sixteen characters that occur nowhere else, behind whatever an issuer puts before its keys. */
const canary = fc
  .tuple(
    fc.constantFrom('sk-', 'ghp_', 'tvly-', 'xoxb-', 'pw-', ''),
    fc.string({
      unit: fc.constantFrom(...'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'.split('')),
      minLength: 28,
      maxLength: 40,
    }),
  )
  .map(([prefix, text]) => `${prefix}CANARY7${text}`);
const plain = fc.constantFrom('-y', '--verbose', '@scope/some-mcp', '/home/anna/Documents', '8080');

interface Made {
  readonly entry: EntryJson;
  readonly canaries: readonly string[];
}

const places: readonly ((value: string, others: readonly string[]) => Made)[] = [
  (value, args) => ({
    entry: { command: '/usr/bin/npx', args, env: { SERVICE_API_KEY: value, LOG_LEVEL: 'info' } },
    canaries: [value],
  }),
  (value, args) => ({
    entry: { command: '/usr/bin/npx', args: [...args, `--api-key=${value}`] },
    canaries: [value],
  }),
  (value, args) => ({
    entry: { command: '/usr/bin/npx', args: ['--token', value, ...args] },
    canaries: [value],
  }),
  (value, args) => ({
    entry: {
      command: '/usr/bin/npx',
      args: [...args, `postgresql://u:${encodeURIComponent(`${value}/ä@`)}@db/shop?ssl=1`],
    },
    canaries: [value],
  }),
  (value) => ({
    entry: {
      url: `https://mcp.example.com/mcp?region=eu&apiKey=${value}#top`,
      headers: { 'X-Team': 'shop' },
    },
    canaries: [value],
  }),
  (value) => ({
    entry: { url: 'https://mcp.example.com/mcp', headers: { Authorization: `Bearer ${value}` } },
    canaries: [value],
  }),
  (value, args) => ({
    entry: {
      command: '/usr/bin/npx',
      args: [
        ...args,
        'mcp-remote',
        'https://x.example.com/mcp',
        '--header',
        `Authorization: Bearer ${value}`,
      ],
    },
    canaries: [value],
  }),
  (value, args) => ({
    entry: {
      command: '/usr/bin/npx',
      args,
      env: { CONFIG: JSON.stringify({ retries: 3, auth: { token: value }, url: 'https://x' }) },
    },
    canaries: [value],
  }),
];

const made = fc
  .tuple(fc.constantFrom(...places), canary, fc.array(plain, { maxLength: 3 }))
  .map(([place, value, others]) => place(value, others));
const servers = fc.dictionary(
  fc.string({ unit: fc.constantFrom(...'abcXYZ09 _./-'.split('')), minLength: 1, maxLength: 12 }),
  made,
  { minKeys: 1, maxKeys: 5, noNullPrototype: true },
);
const layout = fc.record({
  indent: fc.constantFrom('', '  ', '\t', '    '),
  eol: fc.constantFrom('\n', '\r\n'),
  mark: fc.constantFrom('', '\ufeff'),
  comments: fc.boolean(),
});

function laidOut(
  value: unknown,
  { indent, eol, mark, comments }: { indent: string; eol: string; mark: string; comments: boolean },
): string {
  const text = JSON.stringify(value, null, indent);
  const commented =
    comments && indent !== ''
      ? text.replaceAll(/\n(\s*)"(args|headers|env)"/g, '\n$1// about $2\n$1/* and more */ "$2"')
      : text;
  return mark + commented.replaceAll('\n', eol);
}

describe('an import', () => {
  test('starts the same servers with the same values, and leaves no value anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(servers, layout, async (all, look) => {
        const before = Object.fromEntries(
          Object.entries(all).map(([name, { entry }]) => [name, entry]),
        );
        const text = laidOut({ numStartups: 3, mcpServers: before, theme: 'dark' }, look);
        const plan = await planned([config(file, text)]);
        const [changed = ''] = textsAfter(plan);
        const parsed = parse(changed.replace(/^\ufeff/, ''), [], { allowTrailingComma: true }) as {
          numStartups: number;
          theme: string;
          mcpServers: Record<string, EntryJson>;
        };
        expect(Object.keys(parsed)).toEqual(['numStartups', 'mcpServers', 'theme']);
        expect(Object.keys(parsed.mcpServers)).toEqual(Object.keys(before));
        const values = valuesOf(plan);
        for (const [name, entry] of Object.entries(before)) {
          const now = meaning(parsed.mcpServers[name] as EntryJson, values);
          if (now.kind === 'remote') {
            expect(now).toEqual({ kind: 'remote', url: entry.url, headers: entry.headers ?? {} });
          } else {
            expect(now.command).toBe(entry.command);
            expect(now.args).toEqual(entry.args);
            expect(now.env).toEqual(entry.env ?? {});
          }
        }
        for (const { server, rewrite } of plan.files[0]?.entries ?? []) {
          const asked = wrapped(parsed.mcpServers[server.label] as EntryJson);
          expect(rewrite?.grant?.hash).toBe(entryHash(asked));
          expect(new Set(rewrite?.grant?.references)).toEqual(new Set(referencesOf(asked)));
        }
        const shown = [
          changed,
          diffOf(file, plan.files[0]?.config.text ?? '', plan.files[0]?.edits ?? []),
          JSON.stringify(plan.servers),
          JSON.stringify(plan.secrets),
          ...policyFiles(plan).map((policy) => policy.text),
        ].join('\n');
        expect(shown).not.toContain('CANARY7');
        for (const comment of text.match(
          /\/\/ about (?!headers).*|\/\* and more \*\/ "(?:args|env)/g,
        ) ?? []) {
          expect(changed).toContain(comment.trim());
        }
        // What was imported is found to be done.
        const again = await planned([config(file, changed)]);
        expect(again.files[0]?.edits).toEqual([]);
      }),
      { seed, numRuns: 150 },
    );
  });
});

describe('servers and secrets', () => {
  const github = (key: string) => ({
    command: '/usr/bin/npx',
    args: ['-y', 'github-mcp'],
    env: { GITHUB_TOKEN: key },
  });
  const key = 'ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8';
  const other = 'ghp_Z1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8';
  const json = (entries: object) => JSON.stringify({ mcpServers: entries }, null, 2);

  test('one server in two files with one key is one secret', async () => {
    const plan = await planned([
      config('/home/anna/.claude.json', json({ github: github(key) })),
      config('/home/anna/.cursor/mcp.json', json({ github: github(key) })),
    ]);
    expect(plan.secrets.map(({ name, item, servers: used }) => ({ name, item, used }))).toEqual([
      { name: 'github', item: 'mcp/github', used: ['github'] },
    ]);
    expect(plan.servers.map(({ name, files }) => ({ name, files: files.length }))).toEqual([
      { name: 'github', files: 2 },
    ]);
  });

  test('one server in two files with two keys is two servers and two secrets', async () => {
    const plan = await planned([
      config('/home/anna/.claude.json', json({ github: github(key) })),
      config('/home/anna/.cursor/mcp.json', json({ github: github(other) })),
    ]);
    expect(plan.secrets.map(({ name }) => name)).toEqual(['github', 'github-2']);
    expect(textsAfter(plan)[1]).toMatch(/"--server",\s+"github-2"/);
    expect(textsAfter(plan)[1]).toContain('local://mcp/github-2#GITHUB_TOKEN');
  });

  test('one key in two servers is one secret that both use: replacing it for one would end it for the other', async () => {
    const plan = await planned([config(file, json({ a: github(key), b: github(key) }))]);
    expect(plan.secrets).toHaveLength(1);
    expect(plan.secrets[0]?.servers).toEqual(['a', 'b']);
    const [policy] = policyFiles(plan);
    expect(policy?.text).toMatch(/server: a[\s\S]*server: b/);
    expect(textsAfter(plan)[0]?.match(/local:\/\/mcp\/a#GITHUB_TOKEN/g)).toHaveLength(2);
  });

  test('what another import took in before is the same secret; something else under its name is not touched', async () => {
    const same = holding(new Map([['mcp/github', { GITHUB_TOKEN: new Secret(key) }]]));
    const known = [
      {
        name: 'github',
        file: '/p/mcp-github.yaml',
        provider: 'operator',
        item: 'local://mcp/github',
        fields: ['GITHUB_TOKEN'],
      },
    ];
    const first = await planned([config(file, json({ github: github(key) }))], same, known);
    expect(first.secrets).toEqual([]);
    expect(textsAfter(first)[0]).toContain('local://mcp/github#GITHUB_TOKEN');
    const taken = holding(new Map([['mcp/github', { GITHUB_TOKEN: new Secret(other) }]]));
    const second = await planned([config(file, json({ github: github(key) }))], taken, known);
    expect(second.secrets.map(({ name, item }) => ({ name, item }))).toEqual([
      { name: 'github-2', item: 'mcp/github-2' },
    ]);
  });

  test('a key that an earlier import took in for another server is that secret', async () => {
    const held = holding(new Map([['mcp/a', { GITHUB_TOKEN: new Secret(key) }]]));
    const known = [
      {
        name: 'a',
        file: '/p/mcp-a.yaml',
        provider: 'operator',
        item: 'local://mcp/a',
        fields: ['GITHUB_TOKEN'],
      },
    ];
    const plan = await planned([config(file, json({ b: github(key) }))], held, known);
    expect(plan.secrets).toEqual([]);
    expect(textsAfter(plan)[0]).toContain('"GITHUB_TOKEN_REF": "local://mcp/a#GITHUB_TOKEN"');
    expect(plan.files[0]?.entries[0]?.name).toBe('b');
  });

  test('a key that a policy with an API replaces already is automatic', async () => {
    const held = holding(new Map([['mcp/reports', { PASSWORD: new Secret('s3cr3t-w0rd') }]]));
    const known = [
      {
        name: 'reports-db',
        file: '/p/db.yaml',
        provider: 'postgres',
        item: 'local://mcp/reports',
        fields: null,
      },
    ];
    const entry = { command: '/usr/bin/npx', args: ['pg-mcp', 'postgresql://u:s3cr3t-w0rd@db/x'] };
    const plan = await planned([config(file, json({ reports: entry }))], held, known);
    expect(plan.files[0]?.entries[0]?.verdict).toMatchObject({ kind: 'automatic' });
  });

  test('a key that stands twice in one entry is one field', async () => {
    const entry = { ...github(key), args: ['--token', key] };
    const plan = await planned([config(file, json({ github: entry }))]);
    expect(plan.secrets[0]?.fields.map(({ field }) => field)).toEqual(['GITHUB_TOKEN']);
  });
});

describe('what is no plaintext key', () => {
  const env = async (values: Readonly<Record<string, string>>) => {
    const { plan } = await after({ x: { command: '/usr/bin/x', env: values } });
    return plan.files[0]?.entries[0]?.verdict;
  };

  for (const [name, value, why] of [
    ['API_KEY', '${API_KEY}', 'variable'],
    ['API_KEY', '${env:API_KEY}', 'variable'],
    ['API_KEY', '${input:key}', 'variable'],
    ['API_KEY', '$API_KEY', 'variable'],
    ['API_KEY', 'op://Private/search/credential', 'variable'],
    ['API_KEY', '<your-api-key>', 'variable'],
    ['API_KEY', 'YOUR_API_KEY_HERE', 'variable'],
    ['API_KEY', 'sk-xxxxxxxxxxxx', 'variable'],
    ['API_KEY', '', 'no-key'],
    ['AUTHORIZATION', 'Bearer ${TOKEN}', 'variable'],
    ['DATABASE_URL', 'postgres://u:${PGPASSWORD}@db/x', 'variable'],
    ['DATABASE_URL', 'postgres://db/x', 'no-key'],
    ['SETTINGS', '{"model": "large", "maxTokens": 4096}', 'no-key'],
    ['GOOGLE_APPLICATION_CREDENTIALS', '/home/anna/key.json', 'variable'],
    ['MAX_TOKENS', '4096', 'no-key'],
    ['NOTION_DATABASE_ID', '0f1e2d3c4b5a69788796a5b4c3d2e1f0', 'no-key'],
    ['SESSION_UUID', '123e4567-e89b-12d3-a456-426614174000', 'no-key'],
    ['USE_TOKEN', 'true', 'no-key'],
    ['ALLOWED_DIR', '/home/anna/projects/some-Long-Name-2024/src', 'no-key'],
    ['API_URL', 'https://api.example.com/v1/some-long-endpoint-name', 'no-key'],
    ['SUPABASE_PUBLISHABLE_KEY', 'abc', 'no-key'],
  ] as const) {
    test(`${name}=${value} is left alone`, async () => {
      expect(await env({ [name]: value })).toMatchObject({ kind: 'left', left: why });
    });
  }

  for (const [name, value] of [
    ['API_KEY', 'k3y'],
    ['dbPassword', 'hunter2'],
    ['SOMETHING', 'ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8'],
    ['SOMETHING', 'Zk8s0Qm3Rt6Yb1Vc4Xz7Ml2Jh5Np9Wq'],
    ['SETTINGS', '{"password": "hunter2"}'],
    ['DATABASE_URL', 'postgres://${PGUSER}:hunter2@db/x'],
    ['OPTIONS', '--home ${HOME} --key sk-A1b2C3d4E5f6G7h8I9j0'],
    ['REDIS_URL', 'redis://:hunter2@localhost:6379/0'],
    ['SENTRY_DSN', 'https://0f1e2d3c4b5a69788796a5b4c3d2e1f0@o1.ingest.sentry.io/2'],
  ] as const) {
    test(`${name}=${value} is a key`, async () => {
      expect(await env({ [name]: value })).toMatchObject({ kind: 'guided' });
    });
  }

  test('a variable beside a key stays a variable', async () => {
    const { servers: now } = await after({
      x: { command: '/usr/bin/x', env: { API_KEY: 'k3y-0123', OTHER_TOKEN: '${OTHER_TOKEN}' } },
    });
    expect(now['x']?.env).toEqual({
      API_KEY_REF: 'local://mcp/x#API_KEY',
      OTHER_TOKEN: '${OTHER_TOKEN}',
    });
  });

  test('the keys that stay where they are, are said', async () => {
    const { plan } = await after({
      x: { command: 'docker', args: ['run', '-e', 'API_KEY=k3y-0123456789', 'image'] },
      y: { command: '/usr/bin/y', env: { A_TOKEN: 'k3y-0123', A_TOKEN_REF: 'local://a#b' } },
    });
    const reasons = plan.files[0]?.entries.map(({ verdict }) => verdict.reason);
    expect(reasons?.[0]).toContain('Its plaintext key stays.');
    expect(reasons?.[1]).toContain('Both A_TOKEN and A_TOKEN_REF are set');
  });

  test('what the client fills into a command gets no grant, and that is said', async () => {
    const { plan } = await after({
      x: { command: '/usr/bin/x', args: ['${workspaceFolder}'], env: { API_KEY: 'k3y-0123' } },
    });
    const [entry] = plan.files[0]?.entries ?? [];
    expect(entry?.rewrite?.grant).toBeNull();
    expect(entry?.rewrite?.warnings.join()).toContain('rotate allow x');
  });
});

describe('a file that is none of ours', () => {
  const refusal = (name: string, text: string) => {
    try {
      config(`/home/anna/${name}`, text);
      return null;
    } catch (error) {
      return error as { code: string; message: string };
    }
  };

  test('TOML and YAML are refused as later, by name or by content', () => {
    const toml = '[mcp_servers.github]\ncommand = "npx"\n';
    const yaml = 'extensions:\n  github:\n    cmd: npx\n';
    for (const [name, text] of [
      ['config.toml', toml],
      ['config', toml],
      ['config.yaml', yaml],
      ['config', yaml],
    ] as const) {
      expect(refusal(name, text)).toMatchObject({ code: 'unsupported' });
    }
  });

  test('a broken file is refused with its place and without its text', () => {
    const error = refusal('x.json', '{\n  "mcpServers": { "a": "sk-CANARY7" "b" }\n}');
    expect(error).toMatchObject({ code: 'refused' });
    expect(error?.message).toContain('x.json:2:37');
    expect(error?.message).not.toContain('CANARY7');
  });

  test('a file without servers, not UTF-8, or with a key twice, is refused', () => {
    expect(refusal('x.json', '{"servers": {"a": {"port": 80}}}')?.message).toContain(
      'no MCP servers',
    );
    expect(refusal('x.json', '')).toMatchObject({ code: 'refused' });
    expect(
      refusal('x.json', '{"mcpServers": {"a": {"env": {"K": "1", "K": "2"}}}}')?.message,
    ).toContain('has the key "K" for the second time');
    expect(() => config('/x.json', Buffer.from([0x7b, 0xff, 0x7d]))).toThrow('not UTF-8');
  });
});
