/** `rotate import` as people use it: what it shows, moves, refuses and undoes; no value anywhere but in the sealed state. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runProgram, startDaemon } from '../../test/support/rotated.ts';
import { person, type Person, type Terminal } from './testing/person.ts';

const github = 'ghp_CANARY7A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5';
const password = 'p@ss/CANARY7-w0rd';

let anna: Person;
let home = '';
beforeEach(() => {
  anna = person('import');
  ({ home } = anna);
});
afterEach(() => anna.gone());

const rotate = (args: readonly string[], terminal?: Terminal) => anna.rotate(args, terminal);
const leaks = () => anna.leaksOf([github, password]);

const claude = () => path.join(home, '.claude.json');
const cursor = () => path.join(home, '.cursor', 'mcp.json');
const entry = (key: string) => `{
      "command": "npx",
      "args": ["-y", "@modelcontextprotocol/server-github"],
      "env": { "GITHUB_TOKEN": ${JSON.stringify(key)} }
    }`;
const claudeText = (key = github) => `{
  // two servers
  "mcpServers": {
    "github": ${entry(key)},
    "reports": { "command": "npx", "args": ["pg-mcp", "postgresql://u:${encodeURIComponent(password)}@db/shop"] }, // here
  },
  "theme": "dark"
}
`;

function configs(): void {
  writeFileSync(claude(), claudeText(), { mode: 0o600 });
  mkdirSync(path.join(home, '.cursor'));
  writeFileSync(cursor(), `{"mcpServers":{"github":${entry(github)}}}`);
}

describe('rotate import', () => {
  test('moves the keys of two files, so that they stand nowhere in the open, and undoes it to the byte', async () => {
    configs();
    const before = [claude(), cursor()].map((file) => readFileSync(file));
    const done = await rotate(['import', claude(), cursor(), '--yes', '--reason', 'clean up']);
    expect(done.err).not.toContain('rotate:');
    expect(done.code).toBe(0);
    expect(done.out).toContain('environment GITHUB_TOKEN: 41 characters → secret github');
    expect(done.out).toContain(`changed ${claude()}`);
    expect(done.out).toContain('Next: rotate run github reports');
    const { mcpServers } = JSON.parse(readFileSync(cursor(), 'utf8')) as {
      mcpServers: { github: { command: string; args: string[]; env: Record<string, string> } };
    };
    expect(mcpServers.github.command).toBe(process.execPath);
    expect(mcpServers.github.args).toEqual([
      path.resolve(import.meta.dirname, '../../bin/rotate.js'),
      'wrap',
      '--server',
      'github',
      '--',
      path.join(home, 'bin', 'npx'),
      '-y',
      '@modelcontextprotocol/server-github',
    ]);
    expect(mcpServers.github.env).toEqual({
      GITHUB_TOKEN_REF: 'local://mcp/github#GITHUB_TOKEN',
    });
    const text = readFileSync(claude(), 'utf8');
    expect(text).toContain('// two servers');
    expect(text).toContain('postgresql://u:{{local://mcp/reports#PASSWORD|url}}@db/shop');
    expect(leaks()).toEqual([]);

    const check = await rotate(['--check'], { program: 'rotated' });
    expect(check.out).toContain('2 policies in ');
    expect(check.code).toBe(0);
    const again = await rotate(['import', claude(), cursor(), '--yes']);
    expect(again.out).toContain('Nothing to move');
    expect(again.code).toBe(0);

    const undone = await rotate(['import', claude(), cursor(), '--undo']);
    expect(undone.code).toBe(0);
    expect(undone.out).toContain('local://mcp/github#GITHUB_TOKEN');
    expect([claude(), cursor()].map((file) => readFileSync(file))).toEqual(before);
    expect((await rotate(['import', claude(), '--undo'])).code).toBe(3);
  });

  test('what was moved is generation 0, granted to its server, and in the audit trail', async () => {
    configs();
    expect((await rotate(['import', claude(), '--yes'])).code).toBe(0);
    const read = await rotate(['read', 'reports', '--json', '--reveal']);
    expect(read.out).toContain(JSON.stringify(password).slice(1, -1));
    anna.forget();
    rmSync(cursor());
    const grants = (await rotate(['allow', '--list', '--json'])).out;
    expect(grants).toContain('local://mcp/github#GITHUB_TOKEN');
    expect(grants).toContain('local://mcp/reports#PASSWORD');
    const audit = (await rotate(['audit', '--json'])).out;
    expect(audit.match(/import\.keep/g)?.length).toBeGreaterThanOrEqual(4);
    expect((await rotate(['audit', 'verify'])).code).toBe(0);
    const status = (await rotate(['status', '--json'])).json() as {
      secrets: { secret: string; generation: number }[];
    };
    expect(status.secrets.map(({ secret, generation }) => [secret, generation])).toEqual([
      ['github', 0],
      ['reports', 0],
    ]);
    expect(leaks()).toEqual([]);
  });

  test('shows first, and changes nothing until somebody says yes', async () => {
    configs();
    const names = () => readdirSync(home, { recursive: true }).map(String).sort();
    const before = names();
    const shown = await rotate(['import', claude(), '--dry-run']);
    expect(shown.code).toBe(0);
    expect(shown.out).toContain('-      "env": { "GITHUB_TOKEN": "•••" }');
    expect(shown.out).toContain(
      '+      "env": { "GITHUB_TOKEN_REF": "local://mcp/github#GITHUB_TOKEN" }',
    );
    const no = await rotate(['import', claude()], { in: true, typed: ['n'] });
    expect(no.err).toContain('Change 1 file? [y/N]');
    const nobody = await rotate(['import', claude()]);
    expect(nobody.code).toBe(2);
    expect((await rotate(['import', claude(), '--json'])).code).toBe(2);
    expect(names()).toEqual(before);
    expect(readFileSync(claude(), 'utf8')).toBe(claudeText());
    const yes = await rotate(['import', claude()], { in: true, typed: ['y'] });
    expect(yes.code).toBe(0);
    expect(readFileSync(claude(), 'utf8')).not.toContain('CANARY7');
    expect(leaks()).not.toContain('said');
  });

  test('says it all as one JSON object', async () => {
    configs();
    const json = (await rotate(['import', claude(), cursor(), '--yes', '--json'])).json();
    expect(json).toMatchObject({
      ok: true,
      files: [
        { file: claude(), client: 'Claude Code', changes: true },
        { file: cursor(), client: 'Cursor', changes: true },
      ],
      secrets: [
        { name: 'github', references: ['local://mcp/github#GITHUB_TOKEN'], issuer: 'github' },
        { name: 'reports', references: ['local://mcp/reports#PASSWORD'], issuer: 'postgres' },
      ],
      applied: { files: [{ changed: true }, { changed: true }] },
    });
    expect(leaks()).toEqual([]);
  });

  test('the copies that clients make beside their config are named', async () => {
    configs();
    writeFileSync(`${claude()}.backup`, claudeText());
    const { out } = await rotate(['import', claude(), '--yes']);
    expect(out).toContain(`${claude()}.backup is a copy that still holds a key: delete it.`);
  });

  test('another key under the name of a server that was imported is another secret', async () => {
    configs();
    await rotate(['import', claude(), '--yes']);
    const other = 'ghp_CANARY7q9W8e7R6t5Y4u3I2o1P0a9S8d7F6g5';
    writeFileSync(cursor(), `{"mcpServers":{"github":${entry(other)}}}`);
    expect((await rotate(['import', cursor(), '--yes'])).code).toBe(0);
    expect(readFileSync(cursor(), 'utf8')).toContain('local://mcp/github-2#GITHUB_TOKEN');
    for (const [name, value] of [
      ['github', github],
      ['github-2', other],
    ] as const) {
      expect((await rotate(['read', name, '--json', '--reveal'])).out).toContain(value);
    }
  });

  test('what is left alone is not shown either, nor what stands in comments', async () => {
    const canaries = [
      'xoxb-CANARY7-c0ntainer-1',
      'ghp_CANARY7c0mm3nt1n9B8v7C6x5Z4l3K2j1',
      'CANARY7-hunter-2',
    ];
    writeFileSync(
      claude(),
      `{ "mcpServers": {
        "docker": { "command": "docker", "args": ["run", "-e", "SLACK_BOT_TOKEN=${canaries[0]}", "x"] },
        // old: "GITHUB_TOKEN": "${canaries[1]}", password: "${canaries[2]}", api_key=${canaries[2]}
        "github": { "command": "npx", "env": { "GITHUB_TOKEN": "\\u0067${github.slice(1)}" } },
        "old": { "type": "sse", "url": "https://x.example.com/sse", "headers": { "X-Api-Key": "${canaries[2]}" } }
      } }`,
    );
    const shown = await rotate(['import', claude(), '--yes']);
    expect(shown.code).toBe(0);
    expect(shown.out).toContain('SLACK_BOT_TOKEN=•••');
    expect(anna.leaksOf([...canaries, github]).filter((place) => place === 'said')).toEqual([]);
    expect((await rotate(['read', 'github', '--json', '--reveal'])).out).toContain(github);
  });

  test('where a daemon runs, it takes the keys in and hears of the policy', async () => {
    configs();
    const env = { HOME: home, PATH: path.join(home, 'bin') };
    mkdirSync(path.join(home, 'schedules'));
    await using daemon = startDaemon(['--log-level', 'info'], { cwd: home, env });
    await daemon.said('ready');
    const done = await runProgram('rotate', ['import', claude(), '--yes', '--json'], {
      cwd: home,
      env,
    });
    expect(done.err).toBe('');
    expect(JSON.parse(done.out)).toMatchObject({ ok: true, note: null });
    const grants = await runProgram('rotate', ['allow', '--list', '--json'], { cwd: home, env });
    expect(grants.out).toContain('local://mcp/github#GITHUB_TOKEN');
    expect(await daemon.stop()).toBe(0);
    expect(anna.leaksOf([password]).filter((place) => !place.startsWith('.cursor'))).toEqual([]);
    expect(done.out).not.toContain('CANARY7');
  });

  test('a file named twice is one, and one that cannot be read stops all before anything is done', async () => {
    configs();
    const broken = path.join(home, 'broken.json');
    writeFileSync(broken, '{ "mcpServers": { "a": "sk-CANARY7" ');
    expect((await rotate(['import', claude(), broken, '--yes'])).code).toBe(3);
    expect((await rotate(['import', claude(), path.join(home, 'no.json'), '--yes'])).code).toBe(3);
    expect((await rotate(['import', path.join(home, 'x.toml'), '--yes'])).code).toBe(3);
    expect((await rotate(['import'])).code).toBe(2);
    expect(existsSync(path.join(home, '.local'))).toBe(false);
    expect(readFileSync(claude(), 'utf8')).toBe(claudeText());
    rmSync(broken);
    const twice = await rotate(['import', claude(), '.claude.json', '--yes', '--json']);
    expect((twice.json()['files'] as unknown[]).length).toBe(1);
    expect(leaks()).not.toContain('said');
  });
});

describe('rotate import --undo', () => {
  test('does not lose an edit that came after, unless that is meant', async () => {
    configs();
    await rotate(['import', claude(), '--yes']);
    const edited = readFileSync(claude(), 'utf8').replace('dark', 'light');
    writeFileSync(claude(), edited);
    const refused = await rotate(['import', claude(), '--undo']);
    expect(refused.code).toBe(3);
    expect(refused.err).toContain('was edited since the import');
    expect(readFileSync(claude(), 'utf8')).toBe(edited);
    expect((await rotate(['import', claude(), '--undo', '--force'])).code).toBe(0);
    expect(readFileSync(claude(), 'utf8')).toBe(claudeText());
  });

  test('does not put back a key that was replaced since, unless that is meant', async () => {
    configs();
    await rotate(['import', claude(), '--yes']);
    const supplied = await rotate(['supply', 'reports', '--wait', '0s'], { stdin: 'next-w0rd' });
    expect(supplied.code).toBe(0);
    await rotate(['run', 'github', '--wait', '1s']);
    const rotated = (await rotate(['status', 'reports', '--json'])).json() as {
      secrets: { generation: number }[];
    };
    expect(rotated.secrets[0]?.generation).toBe(1);
    const refused = await rotate(['import', claude(), '--undo']);
    expect(refused.code).toBe(3);
    expect(refused.err).toContain('reports was rotated since');
    expect((await rotate(['import', claude(), '--undo', '--force'])).code).toBe(0);
    expect(readFileSync(claude(), 'utf8')).toBe(claudeText());
  });

  test('goes back one import at a time', async () => {
    configs();
    await rotate(['import', claude(), '--yes']);
    const first = readFileSync(claude(), 'utf8');
    const more = first
      .replace('"theme"', `"more": 1, "theme"`)
      .replace(
        '"mcpServers": {',
        `"mcpServers": {\n    "second": ${entry('ghp_CANARY7Z9y8X7w6V5u4T3s2R1q0P9o8N7m6L5')},`,
      );
    writeFileSync(claude(), more);
    expect((await rotate(['import', claude(), '--yes'])).code).toBe(0);
    expect(leaks()).toEqual(['.cursor/mcp.json']);
    await rotate(['import', claude(), '--undo']);
    expect(readFileSync(claude(), 'utf8')).toBe(more);
  });
});
