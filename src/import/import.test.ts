/** An import as a whole, over configs nobody wrote: the same servers with the same values, no value left, and the way back to the byte. */
import fc from 'fast-check';
import { parse } from 'jsonc-parser';
import { describe, expect, test } from 'vitest';
import { entryHash, referencesOf } from '../gate/entry.ts';
import { Secret } from '../secret/secret.ts';
import { valueAt } from './config-file.ts';
import { diffOf } from './diff.ts';
import { masked } from './mask.ts';
import { policyFiles } from './policy-text.ts';
import { applyEdits } from './rewrite.ts';
import { layout, laidOut, servers } from './testing/configs.ts';
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

describe('an import', () => {
  test('starts the same servers with the same values, and leaves no value anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(servers, layout, async (before, look) => {
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
        const gone = (plan.files[0]?.config.servers ?? []).map(({ node }) =>
          valueAt(node, 'headers'),
        );
        for (const { 0: comment, index } of text.matchAll(/(?:\/\/|\/\*) c\d+/g)) {
          const at = index - (plan.files[0]?.config.mark.length ?? 0);
          const isInHeaders = gone.some(
            (node) => node !== undefined && at > node.offset && at < node.offset + node.length,
          );
          if (!isInHeaders) expect(changed).toContain(comment);
        }
        // What was imported is found to be done.
        const again = await planned([config(file, changed)]);
        expect(again.files[0]?.edits).toEqual([]);
      }),
      { seed, numRuns: 150 },
    );
  });
});

describe('the diff', () => {
  const shownLines = (text: string) => {
    const lines = masked(text, [{ from: 0, to: text.length }]).split('\n');
    if (lines.at(-1) === '') lines.pop();
    return lines.map((line) => line.replace(/\r$/, '')).map(cut);
  };
  const cut = (line: string) => (line.length <= 240 ? line : `${line.slice(0, 240)}…`);

  /** As patch(1) does it: throws where the old lines are not those that the diff names. */
  function patched(old: readonly string[], diff: string): readonly string[] {
    const result: string[] = [];
    let at = 0;
    const rows = diff.split('\n').slice(2, -1);
    for (const [index, row] of rows.entries()) {
      const head = /^@@ -(\d+),(\d+) \+(\d+),(\d+) @@$/.exec(row);
      if (head !== null) {
        const from = Number(head[1]) - 1;
        result.push(...old.slice(at, from));
        at = from;
        expect(result.length).toBe(Number(head[3]) - 1);
        const rest = rows.slice(index + 1);
        const end = rest.findIndex((one) => one.startsWith('@@'));
        const body = end === -1 ? rest : rest.slice(0, end);
        expect(body.filter((one) => !one.startsWith('+')).length).toBe(Number(head[2]));
        expect(body.filter((one) => !one.startsWith('-')).length).toBe(Number(head[4]));
        continue;
      }
      const line = row.slice(1);
      if (row[0] !== '+') {
        expect(line).toBe(old[at]);
        at += 1;
      }
      if (row[0] !== '-') result.push(line);
    }
    return [...result, ...old.slice(at)];
  }

  test('is one: applied to the old file, it gives the new one', async () => {
    await fc.assert(
      fc.asyncProperty(servers, layout, async (before, look) => {
        const padding = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`pad${i}`, i]));
        const text = laidOut({ ...padding, mcpServers: before, more: padding }, look);
        const plan = await planned([config(file, text)]);
        const [{ config: read, edits } = { config: null, edits: [] }] = plan.files;
        const old = read?.text ?? '';
        const diff = diffOf(file, old, edits);
        expect(patched(shownLines(old), diff)).toEqual(shownLines(applyEdits(old, edits)));
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

  test('a key that comes into an entry after its import is moved, and the rest stays as it is', async () => {
    const first = await planned([config(file, json({ 'Git Hub': github(key) }))]);
    const [text = ''] = textsAfter(first);
    const items = new Map(first.items.map(({ item, fields }) => [item, fields]));
    const more = text.replace('"env": {', '"env": {\n        "EXA_API_KEY": "exa-k3y-0123456789",');
    const second = await planned([config(file, more)], holding(items));
    expect(second.secrets.map(({ name, item, servers: used }) => ({ name, item, used }))).toEqual([
      { name: 'git-hub-2', item: 'mcp/git-hub-2', used: ['git-hub'] },
    ]);
    expect(textsAfter(second)[0]).toBe(
      more.replace(
        '"EXA_API_KEY": "exa-k3y-0123456789"',
        '"EXA_API_KEY_REF": "local://mcp/git-hub-2#EXA_API_KEY"',
      ),
    );
    const { mcpServers } = JSON.parse(textsAfter(second)[0] ?? '') as {
      mcpServers: Record<string, EntryJson>;
    };
    const asked = wrapped(mcpServers['Git Hub'] as EntryJson);
    const grant = second.files[0]?.entries[0]?.rewrite?.grant;
    expect(grant?.hash).toBe(entryHash(asked));
    expect(new Set(grant?.references)).toEqual(new Set(referencesOf(asked)));
    expect(second.servers[0]?.command).toEqual(['/usr/bin/npx', '-y', 'github-mcp']);
  });

  test('so is a header of a remote server', async () => {
    const remote = { url: 'https://x.example.com/mcp', headers: { 'X-Api-Key': 'k3y-0123456789' } };
    const first = await planned([config(file, json({ r: remote }))]);
    const items = new Map(first.items.map(({ item, fields }) => [item, fields]));
    const more = (textsAfter(first)[0] ?? '').replace(
      /("X-Api-Key=[^"]*")/,
      '$1, "--header", "Authorization=Bearer other-k3y-98765"',
    );
    const second = await planned([config(file, more)], holding(items));
    const { mcpServers } = JSON.parse(textsAfter(second)[0] ?? '') as {
      mcpServers: Record<string, EntryJson>;
    };
    const asked = wrapped(mcpServers['r'] as EntryJson);
    expect(asked.launch).toMatchObject({
      headers: {
        'X-Api-Key': '{{local://mcp/r#X_API_KEY}}',
        Authorization: 'Bearer {{local://mcp/r-2#AUTHORIZATION}}',
      },
    });
    expect(second.files[0]?.entries[0]?.rewrite?.grant?.hash).toBe(entryHash(asked));
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
    ['DATABASE_URL', 'postgres://${env:DBUSER}:${env:PGPASSWORD}@db/x', 'variable'],
    ['API_URL', 'https://${env:USER_AND_PASSWORD}@db/x', 'no-key'],
    ['API_URL', 'https://x/?api_key=${input:key#1}&b=1', 'variable'],
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

  test('a command line in one string, and the text of a shell, are left alone, and their keys said', async () => {
    const { plan } = await after({
      line: { command: 'npx -y some-mcp --token hunter2-CANARY7' },
      shell: { command: 'bash', args: ['-c', 'API_KEY="hunter2-CANARY7" exec npx some-mcp'] },
      env: { command: 'sh', args: ['-c', 'exec npx some-mcp'], env: { API_KEY: 'k3y-0123' } },
      words: { command: '/usr/bin/x', args: ['--note', 'the token is not here, key=value'] },
    });
    const [line, shell, env, words] = plan.files[0]?.entries ?? [];
    expect(line?.verdict.reason).toContain('whole command line. Its plaintext key stays.');
    expect(shell?.verdict.reason).toContain('could be read as a command. Its plaintext key stays.');
    expect(env?.verdict.kind).toBe('guided');
    expect(words?.verdict.left).toBe('no-key');
    const text = plan.files[0]?.config.text ?? '';
    expect(masked(text, [{ from: 0, to: text.length }])).not.toContain('CANARY7');
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
