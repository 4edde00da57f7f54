/** The docs hold: every block is run, parsed or named with where it is tested; tables, names and links are those of the code. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { builtInProviders } from '../providers/index.ts';
import { parseSink } from '../src/audit/sink-spec.ts';
import { commands } from '../src/cli/commands.ts';
import { exitCodes } from '../src/cli/exit.ts';
import { readServers } from '../src/gate/servers-file.ts';
import { config, type EntryJson, planned, textsAfter } from '../src/import/testing/importing.ts';
import type { PolicyContext } from '../src/policy/context.ts';
import { parsePolicyText } from '../src/policy/parse.ts';
import { renderProblem } from '../src/policy/render.ts';
import {
  type Block,
  blocksOf,
  commandsOf,
  complaintAbout,
  docFiles,
  inlineCommands,
  optionsByCommand,
  root,
  textOf,
  wordsOf,
} from './support/docs.ts';
import { type Daemon, runProgram, startDaemon } from './support/rotated.ts';
import { startPostgres } from './support/servers/postgres.ts';

const files = docFiles();
const blocks = files.flatMap((file) => blocksOf(file));
const placeOf = ({ file, line }: Block) => `${file}:${line}`;
const firstLine = ({ text }: Block) => text.split('\n')[0] ?? '';
const isYaml = ({ lang }: Block) => lang === 'yaml';
/** Blocks without a language whose every line is a command. */
const isShell = (block: Block) =>
  block.lang === '' && commandsOf(block).every((line) => /^(rotated?|npm) ?/.test(line));

/** Neither policies nor commands: where each is run, by file and first line. */
const testedElsewhere: Readonly<Record<string, string>> = {
  "docs/consumers.md: import { createServer } from 'node:http';":
    'src/consumer/docs.test.ts runs the server as it is printed',
  'docs/consumers.md: POST /reload': 'src/consumer/http.test.ts speaks the protocol',
  'docs/consumers.md: GET /reload?secret=reports-db&nonce=8Jq0…':
    'src/consumer/report.test.ts checks these signatures',
  'docs/gate.md: {': 'below: read as a server file',
  'docs/import.md: "github": {': 'below: the first becomes the second',
  'docs/operations.md: time() - rotated_heartbeat_timestamp_seconds > 60':
    'below: its names are looked up in /metrics',
  'providers/exec/README.md: import hashlib, json, os, pathlib, secrets, sys':
    'providers/exec/exec.test.ts runs the program as it is printed',
  'providers/exec/README.md: { "protocol": 1, "call": "mint", "secret": "reports", "admin": { "value": "…" }, "request": { } }':
    'providers/exec/exec.test.ts reads what the command is sent',
  "providers/postgres/README.md: CREATE ROLE rotator LOGIN CREATEROLE PASSWORD '…';":
    'below: run on a real PostgreSQL',
  'providers/redis/README.md: ACL SETUSER rotator on >… +acl|getuser +acl|setuser +acl|save +client|list +client|kill +info +acl|whoami +acl|dryrun +config|get':
    'providers/redis/redis.test.ts gives its admin these rights',
};

/** What an import finds among the arguments of servers. */
const ofServers = /--(api-key|token|header "Authorization)/;

interface Use {
  /** Run in the scene of its file, in order. Else: why it is only read. */
  readonly run?: true;
  /** Started, waited for, kept for the next commands of the block, stopped. */
  readonly serve?: true;
  readonly onlyRead?: string;
  /** What stands in for placeholders and places of another machine. */
  readonly replace?: Readonly<Record<string, string>>;
  /** Added: there is no terminal. */
  readonly also?: readonly string[];
  readonly input?: string;
  readonly prints?: RegExp;
}

const importing = 'src/import/import.test.ts imports and undoes';
const granting = 'src/daemon/gate.test.ts grants, lists and revokes';
const name = { NAME: 'first-token' };
const copy = { COPY: 'audit.jsonl' };

/** Every command of every shell block, with what becomes of it. */
const uses: Readonly<Record<string, Use>> = {
  'npm ci && npm start': { onlyRead: 'the step `demo` of CI is this with an end' },
  'npm install --global rotated': { onlyRead: 'test/package.test.ts installs what is packed' },
  'rotate init': { run: true, prints: /made .*first\.yaml/ },
  'rotated --check': { run: true, prints: /nothing wrong/ },
  rotated: { serve: true },
  'rotate status': { run: true, prints: /^SECRET/ },
  'rotate --now NAME --reason "found in a public repository"': {
    run: true,
    replace: name,
    also: ['--yes'],
    prints: /1 of 1 old key dead/,
  },
  'rotate --now NAME --reason "where it was found"': {
    run: true,
    replace: name,
    also: ['--yes'],
    prints: /1 of 1 old key dead/,
  },
  'rotate status NAME': { run: true, replace: name, prints: /first-token: generation/ },
  'rotate status --watch': { onlyRead: 'it never ends' },
  'rotate doctor': { run: true, prints: /The audit trail is whole/ },
  'rotate allow --list': { onlyRead: granting },
  'rotate allow search': { onlyRead: granting },
  'rotate allow search local://mcp/search -- npx -y some-search-mcp': { onlyRead: granting },
  'rotate allow search --revoke': { onlyRead: granting },
  'rotate import ~/.claude.json ~/.cursor/mcp.json --dry-run': { onlyRead: importing },
  'rotate import ~/.claude.json ~/.cursor/mcp.json': { onlyRead: importing },
  'rotate import ~/.claude.json --undo': { onlyRead: importing },
  'rotated gate --servers servers.json --listen 127.0.0.1:7331': {
    onlyRead: 'src/daemon/gate-front.test.ts starts it as a program',
  },
  'rotate audit --follow': { onlyRead: 'it never ends' },
  'rotate supply postgres-admin --field url': {
    run: true,
    input: 'postgres://rotator:a-password@db.internal/postgres\n',
    prints: /postgres-admin: retired/,
  },
  'rotated --audit-sink file:/var/log/rotated/audit.jsonl': {
    serve: true,
    replace: { '/var/log/rotated/audit.jsonl': 'audit.jsonl' },
  },
  'rotated --audit-sink "exec:/usr/local/bin/ship-audit --to siem"': {
    onlyRead: 'src/daemon/audit-sinks.test.ts runs such a command',
  },
  'rotate audit verify': { run: true, prints: /audit\.jsonl holds the same \d+ lines/ },
  'rotate audit verify --file COPY': { run: true, replace: copy, prints: /says the same/ },
};

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function temporary(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'docs-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

let context: PolicyContext;
beforeAll(async () => {
  const registry = builtInProviders();
  const loaded = await Promise.all(
    registry.ids.map((id) => registry.load(id, { directory: root })),
  );
  const schemas = new Map(loaded.map(({ id, options }) => [id, options]));
  context = {
    backends: new Set(['local']),
    providers: registry.ids,
    providerSchema: (use) => schemas.get(use),
  };
});

test('every block is run, parsed, or named with where it is tested', () => {
  const rest = blocks.filter((block) => !isYaml(block) && !isShell(block));
  const keys = rest.map((block) => `${block.file}: ${firstLine(block).split('      ')[0]}`);
  // The two of an import begin with the same line.
  expect([...new Set(keys)].toSorted()).toEqual(Object.keys(testedElsewhere).toSorted());
  expect(blocks.length).toBeGreaterThan(20);
});

test('every command of a shell block is run or read, and no other is named here', () => {
  const shown = blocks.filter(isShell).flatMap((block) => commandsOf(block));
  expect([...new Set(shown)].toSorted()).toEqual(Object.keys(uses).toSorted());
});

describe('policies in the docs', () => {
  for (const block of blocks.filter(isYaml)) {
    test(`${placeOf(block)} has no mistakes`, () => {
      const text = asPolicies(block.text);
      const { policies, problems } = parsePolicyText(text, block.file, context);
      expect(
        problems.map((problem) => renderProblem(problem)),
        text,
      ).toEqual([]);
      expect(policies.length).toBeGreaterThan(0);
    });
  }
});

test('the server file of the docs is one, with both kinds of server', () => {
  const [block] = blocks.filter(({ file, lang }) => file === 'docs/gate.md' && lang === 'json');
  const entries = readServers(block?.text ?? '', {
    file: '/srv/servers.json',
    env: { HOME: '/home/anna', PATH: '/usr/bin' },
  });
  expect(entries.map(({ entry }) => [entry.name, entry.launch.kind])).toEqual([
    ['search', 'process'],
    ['tickets', 'remote'],
  ]);
});

test('the first entry of the import becomes the second', async () => {
  const [before, after] = blocks.filter(
    ({ file, lang }) => file === 'docs/import.md' && lang === 'json',
  );
  const key = `ghp_${'a1B2'.repeat(9)}`;
  const text = `{ "mcpServers": { ${before?.text.replace('ghp_…', key) ?? ''} } }`;
  const [written = ''] = textsAfter(await planned([config('/home/anna/.claude.json', text)]));
  const entry = (JSON.parse(written) as { mcpServers: { github: EntryJson } }).mcpServers.github;
  const shown = (JSON.parse(`{${after?.text ?? ''}}`) as { github: EntryJson }).github;
  expect(entry.env).toEqual(shown.env);
  // Where node, rotated and npx lie is the machine's.
  const words = ({ args = [] }: EntryJson) => args.slice(1).map((word) => path.basename(word));
  expect(words(entry)).toEqual(words(shown));
});

/** A part of a policy in its place; what it leaves out is the least that a policy has. */
function asPolicies(text: string): string {
  if (/^secrets:/m.test(text)) return text;
  const [indent = ''] = /^ */.exec(text) ?? [];
  const part = text.split('\n').map((line) => `    ${line.slice(indent.length)}`);
  const has = Object.keys(parse(part.join('\n')) as object);
  const rest = {
    provider: 'provider: { use: generated, kind: random }',
    backend: 'backend: local://it',
    schedule: 'every: 30d',
  };
  const missing = Object.entries(rest).filter(([key]) => !has.includes(key));
  return ['secrets:', '  it:', ...part, ...missing.map(([, line]) => `    ${line}`), ''].join('\n');
}

describe('commands in the docs', () => {
  for (const file of files) {
    const shell = blocksOf(file).filter(isShell);
    if (shell.length === 0) continue;
    test(`${file}: its shell blocks, in order, on a fresh machine`, async () => {
      const cwd = temporary();
      const env = { HOME: cwd, PATH: process.env['PATH'] ?? '', USER: 'newcomer' };
      if (!shell.some((block) => commandsOf(block).includes('rotate init'))) {
        await runProgram('rotate', ['init'], { cwd, env });
        await runProgram('rotate', ['run', 'first-token'], { cwd, env });
      }
      for (const block of blocksOf(file)) {
        const place = /^# (schedules\/\S+\.yaml)$/.exec(firstLine(block))?.[1];
        if (place !== undefined) writeFileSync(path.join(cwd, place), block.text);
        if (isShell(block)) await runBlock(block, cwd, env);
      }
    }, 120_000);
  }

  async function runBlock(block: Block, cwd: string, env: Record<string, string>): Promise<void> {
    let daemon: Daemon | null = null;
    try {
      for (const command of commandsOf(block)) {
        const use = uses[command] ?? {};
        if (!command.startsWith('npm')) expect(await complaintAbout(command), command).toBeNull();
        const [program = '', ...args] = wordsOf(replaced(command, use));
        if (use.serve === true) {
          daemon = startDaemon(args, { cwd, env });
          await daemon.said('ready');
        }
        if (use.run !== true) continue;
        const { code, out, err } = await runProgram(
          program as 'rotate' | 'rotated',
          [...args, ...(use.also ?? [])],
          { cwd, env, ...(use.input === undefined ? {} : { input: use.input }) },
        );
        expect(code, `${placeOf(block)} ${command}\n${out}${err}`).toBe(0);
        if (use.prints !== undefined) expect(out, command).toMatch(use.prints);
      }
      expect(await daemon?.stop()).not.toBe(1);
    } finally {
      await daemon?.[Symbol.asyncDispose]();
    }
  }

  function replaced(command: string, { replace = {} }: Use): string {
    return Object.entries(replace).reduce((text, [from, to]) => text.replaceAll(from, to), command);
  }

  test('a command named in a sentence is one that the program reads', async () => {
    const schedules = readdirSync(path.join(root, 'schedules')).map((one) => `schedules/${one}`);
    const texts = [...files, ...schedules, 'ARCHITECTURE.md', 'CHANGELOG.md'].map(textOf);
    const shown = new Set(texts.flatMap((text) => inlineCommands(text)));
    // A comment on a database role, not a command.
    expect(shown.delete('rotated <name> <ref>')).toBe(true);
    expect(shown.size).toBeGreaterThan(20);
    for (const command of shown) {
      const [, second = 'status', third] = command.split(' ');
      // Named without its arguments: then it is about the command as such.
      if (third === undefined && !second.startsWith('-')) expect(commands).toHaveProperty(second);
      else expect(await complaintAbout(command), command).toBeNull();
    }
  });

  test('what is wrong would be found', async () => {
    expect(await complaintAbout('rotate status --nope')).toContain('unknown option');
    expect(await complaintAbout('rotate statsu')).toContain('unknown command');
    expect(await complaintAbout('rotate pause')).toContain('missing required argument');
    expect(asPolicies('backend: nowhere')).toContain('backend: nowhere');
    expect(parsePolicyText(asPolicies('backend: nowhere'), 'x', context).problems).not.toEqual([]);
  });
});

describe('tables and names in the docs', () => {
  const all = files.map(textOf).join('\n');

  test('the table of exit codes has every code', () => {
    const [, table = ''] =
      /What the exit code says:\n\n([\s\S]*?)\n\n/.exec(textOf('docs/operations.md')) ?? [];
    const codes = [...table.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code));
    expect(codes).toEqual(Object.values(exitCodes));
  });

  test('the help says every exit code', async () => {
    const { out } = await runProgram('rotate', ['--help']);
    const [, line = ''] = /Exit codes: ([\s\S]*?)\.\n/.exec(out) ?? [];
    expect([...line.matchAll(/\d/g)].map(([code]) => Number(code))).toEqual(
      Object.values(exitCodes),
    );
  });

  test('every option named in the docs exists, and those of the service are all named', async () => {
    const real = await optionsByCommand();
    const known = new Set([...[...real.values()].flat(), '--help', '--now', '--version']);
    const named = [...all.matchAll(/`[^`\n]*`/g)]
      .filter(([code]) => /^`(rotate|--)/.test(code) && !ofServers.test(code))
      .flatMap(([code]) => [...code.matchAll(/(?<=[`\s])--[a-z-]+/g)].map(([option]) => option));
    expect(new Set(named).size).toBeGreaterThan(15);
    expect([...new Set(named)].filter((option) => !known.has(option))).toEqual([]);
    expect((real.get('serve') ?? []).filter((option) => !all.includes(option))).toEqual([]);
  });

  test('every metric of the alerts is one that the service exports', async () => {
    const cwd = temporary();
    const env = { HOME: cwd, PATH: process.env['PATH'] ?? '' };
    await runProgram('rotate', ['init'], { cwd, env });
    await using daemon = startDaemon(['--listen', '127.0.0.1:0'], { cwd, env });
    const { health } = await daemon.said('ready');
    const text = await (await fetch(`http://${String(health)}/metrics`)).text();
    await daemon.stop();
    const exported = [...text.matchAll(/^# HELP (\S+)/gm)].map(([, metric]) => metric);
    const named = [...all.matchAll(/\brotated_[a-z_]+/g)].map(([metric]) => metric);
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((metric) => !exported.includes(metric))).toEqual([]);
  });

  test('every environment variable named in the docs is one that the code reads or writes', () => {
    const code = ['src', 'providers', 'bin']
      .flatMap((folder) => filesUnder(folder))
      .filter((file) => /\.(ts|js)$/.test(file) && !file.includes('.test.'))
      .map((file) => readFileSync(file, 'utf8'))
      .join('\n');
    const named = [...all.matchAll(/\$([A-Z][A-Z_]{3,})|\b(ROTATED_[A-Z_]+)/g)].map(
      ([, dollar, own]) => dollar ?? own ?? '',
    );
    expect(new Set(named).size).toBeGreaterThan(7);
    expect([...new Set(named)].filter((variable) => !code.includes(variable))).toEqual([]);
  });

  test('the options of an issuer in its README are those of its schema', async () => {
    const registry = builtInProviders();
    for (const id of registry.ids) {
      const { options } = await registry.load(id, { directory: root });
      const real = leavesOf(
        z.toJSONSchema(options, { io: 'input', unrepresentable: 'any' }) as JsonSchema,
      );
      const [, title = '', table = ''] =
        /## Options\n\| (\w+) \|.*\n\|.*\|\n([\s\S]*?)\n\n/.exec(
          textOf(`providers/${id}/README.md`),
        ) ?? [];
      // A table by kind has the options in its second column, the values in parentheses.
      const column = title === 'kind' ? 2 : 1;
      const cells = table
        .split('\n')
        .map((row) => (row.split('|')[column] ?? '').replaceAll(/\(.*?\)/g, ''));
      const named = cells.flatMap((cell) =>
        [...cell.matchAll(/`([\w.]+)`/g)].map(([, option = '']) => option),
      );
      if (title === 'kind') named.push('kind');
      expect(named.length, id).toBeGreaterThan(0);
      expect(
        named.filter((option) => !real.some((one) => fits(one, option))),
        id,
      ).toEqual([]);
      expect(
        real.filter((option) => !named.some((one) => fits(option, one))),
        id,
      ).toEqual([]);
    }
  });

  /** `verify.url` is told by `verify.url` or, as a whole, by `verify`. */
  const fits = (real: string, told: string) => real === told || real.startsWith(`${told}.`);

  test('links lead to files and headings that are there', () => {
    for (const file of [...files, 'ARCHITECTURE.md']) {
      for (const [, link = ''] of textOf(file).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(link)) continue;
        const [place = '', heading] = link.split('#');
        const target = place === '' ? file : path.join(path.dirname(file), place);
        expect(existsSync(path.join(root, target)), `${file}: ${link}`).toBe(true);
        if (heading !== undefined) expect(anchorsOf(target), `${file}: ${link}`).toContain(heading);
      }
    }
  });

  test('sinks named in the docs are such', () => {
    const sinks = [...all.matchAll(/(?:--audit-sink "?|`)((?:file|exec):[/[][^`\n]*?)(?="?\n|`)/g)];
    expect(sinks.length).toBeGreaterThan(2);
    for (const [, sink = ''] of sinks) {
      expect(() => parseSink(sink, '/'), sink).not.toThrow();
    }
  });
});

function filesUnder(folder: string): string[] {
  return readdirSync(path.join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

function anchorsOf(file: string): string[] {
  return [...textOf(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}

/** `a`, `verify.url`: the names of what can be written, without those that are free to choose. */
function leavesOf(schema: JsonSchema): string[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([key, inner]) => {
    const below = leavesOf(inner).map((name) => `${key}.${name}`);
    return below.length === 0 ? [key] : below;
  });
  const others = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].flatMap(leavesOf);
  return [...new Set([...own, ...others])];
}

describe('putting an admin credential in, on a real PostgreSQL', () => {
  test('the recipe, the rights of the README and its policy rotate a login that works', async () => {
    await using server = await startPostgres();
    const cwd = temporary();
    const env = { HOME: cwd, PATH: process.env['PATH'] ?? '' };
    mkdirSync(path.join(cwd, 'schedules'));
    const [rights] = blocksOf('providers/postgres/README.md').filter(({ lang }) => lang === 'sql');
    const [forNewLogins = ''] = (rights?.text ?? '').split('\n-- only where the logins exist');
    await server.sql('CREATE ROLE reports_read');
    await server.sql(forNewLogins.replace('…', 'rotators-password'));

    const yaml = [...blocksOf('README.md'), ...blocksOf('docs/operations.md')].filter(isYaml);
    const [reports, admins] = yaml.map(({ text }) => text);
    const app = await reloading(cwd);
    const here = (reports ?? '')
      .replace('/run/reports/db.json', path.join(cwd, 'db.json'))
      .replace('/run/reports.pid', app.pidfile)
      // The waits of the example, shortened.
      .replace('timeout: 15m', 'timeout: 1s')
      .replace('grace: 24h', 'grace: 0s');
    expect(here.match(/1s|0s|app\.pid|db\.json/g)).toHaveLength(4);
    writeFileSync(path.join(cwd, 'schedules/reports.yaml'), here);
    writeFileSync(path.join(cwd, 'schedules/admins.yaml'), admins ?? '');

    const url = `postgres://rotator:rotators-password@127.0.0.1:${server.port}/postgres`;
    const supplied = await runProgram('rotate', ['supply', 'postgres-admin', '--field', 'url'], {
      cwd,
      env,
      input: url,
    });
    expect(supplied.code, supplied.err).toBe(0);
    const doctor = await runProgram('rotate', ['doctor', 'reports-db'], { cwd, env });
    expect(doctor.code, doctor.out).toBe(0);
    expect(doctor.out).toContain('reports-db: The server logs the statements');
    for (const user of ['reports_a', 'reports_b']) {
      const run = await runProgram('rotate', ['run', 'reports-db', '--json'], { cwd, env });
      expect(run.code, run.out + run.err).toBe(0);
      expect(JSON.parse(run.out)).toMatchObject({ secrets: [{ rotation: { phase: 'retired' } }] });
      const { fields } = JSON.parse(readFileSync(path.join(cwd, 'db.json'), 'utf8')) as {
        fields: { PGUSER: string; PGPASSWORD: string };
      };
      expect(fields.PGUSER).toBe(user);
      const client = new pg.Client({
        host: '127.0.0.1',
        port: server.port,
        database: 'postgres',
        user: fields.PGUSER,
        password: fields.PGPASSWORD,
      });
      await client.connect();
      await client.end();
    }
    expect(app.child.exitCode).toBeNull();
  }, 120_000);

  /** A server that reloads on SIGHUP; without a handler the signal would end it. */
  async function reloading(cwd: string): Promise<{ child: ChildProcess; pidfile: string }> {
    const program = "process.on('SIGHUP', () => {}); setInterval(String, 1e6); console.log('up')";
    const child = spawn(process.execPath, ['-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    cleanups.push(async () => {
      child.kill('SIGKILL');
      await exited;
    });
    await once(child.stdout, 'data');
    const pidfile = path.join(cwd, 'app.pid');
    writeFileSync(pidfile, `${child.pid}\n`, { mode: 0o600 });
    return { child, pidfile };
  }
});
