/** The house rules as tests: who may import whom, no circles, what every provider brings, what must not stand where. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { errorCodes } from '../src/errors.ts';

const root = path.resolve(import.meta.dirname, '..');

/** Rooms that know nothing of the machine: anybody may use them. */
const leaves = [
  'src/errors.ts',
  'src/clock.ts',
  'src/finding.ts',
  'src/child.ts',
  'src/http.ts',
  'src/version.ts',
  'src/listen.ts',
  'src/state-place.ts',
  'src/secret',
];

/** Types alone: what a room has to say to the machine without knowing it. */
const types = {
  policy: 'type src/policy/policy.ts',
  journal: 'type src/journal/journal.ts',
  service: 'type src/rotation/service.ts',
  ports: 'type src/rotation/ports.ts',
} as const;

/** What each room may import besides itself: ARCHITECTURE.md's table. `type X`: its types alone. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  'src/errors.ts': ['type src/secret'],
  'src/clock.ts': [],
  'src/finding.ts': [],
  'src/version.ts': [],
  'src/listen.ts': ['src/errors.ts'],
  'src/child.ts': ['src/errors.ts'],
  'src/state-place.ts': ['src/errors.ts'],
  'src/http.ts': ['src/errors.ts'],
  'src/secret': ['src/errors.ts', 'src/clock.ts'],
  // The one table of cron expressions serves the parser, too.
  'src/policy': [...leaves, 'src/schedule/cron-table.ts', 'type src/gate/settings.ts'],
  'src/schedule': [...leaves, types.policy, types.ports],
  'src/provider': leaves,
  'src/backend': leaves,
  // A check starts an MCP server as the gate does.
  'src/verify': [...leaves, types.policy, 'src/gate'],
  'src/consumer': [...leaves, types.policy],
  'src/journal': [...leaves, 'type src/backend/local-rows.ts', 'type src/backend/backend.ts'],
  'src/audit': [...leaves, types.journal],
  'src/notify': [...leaves, types.policy, types.ports],
  'src/rotation': [
    ...leaves,
    types.policy,
    // Pure: what an edit changed, how a duration is written.
    'src/policy/edit.ts',
    'src/policy/duration.ts',
    types.journal,
    'type src/backend/backend.ts',
    'type src/provider/provider.ts',
    'type src/consumer/consumer.ts',
    'type src/verify/verifier.ts',
  ],
  // The feed is spoken over a private socket, as the control protocol is.
  'src/gate': [
    ...leaves,
    'src/control/lines.ts',
    'src/control/socket-path.ts',
    // Of the server file: how a duration is written, and who else could change it.
    'src/policy/duration.ts',
    'src/policy/safety.ts',
    // The canary of a server that is reached by HTTP: a check's client, before the credential is used.
    'src/verify/mcp-client.ts',
  ],
  // The daemon's end of the feed: on a socket beside the control socket, for the gate's consumer.
  'src/hub': [
    ...leaves,
    types.journal,
    'type src/backend/backend.ts',
    'src/policy',
    'src/gate',
    'src/consumer',
    'src/control',
    'type src/rotation/service.ts',
  ],
  'src/control': [...leaves, types.journal, types.service, types.ports, 'type src/hub/service.ts'],
  // References as the gate reads them; what a policy counts as a secret written out.
  'src/import': [...leaves, 'src/gate/entry.ts', 'src/policy/plaintext.ts'],
  'src/wiring': [
    ...leaves,
    'src/policy',
    'src/schedule',
    'src/provider',
    'src/backend',
    'src/verify',
    'src/consumer',
    'src/journal',
    'src/audit',
    'src/notify',
    'src/rotation',
    // The gate's daemon end.
    'src/gate',
    'src/hub',
    'src/control',
    'providers/index.ts',
  ],
  'src/daemon': [...leaves, 'src/control', 'src/gate', 'src/wiring', types.service, types.ports],
  'src/cli': [
    ...leaves,
    'src/import',
    'src/control',
    'src/wiring',
    'src/policy',
    types.journal,
    types.service,
    types.ports,
    // Bare `rotated` is a command too: it starts the service, and this file alone may.
    'src/daemon',
    'src/gate',
    'type src/hub/service.ts',
  ],
  providers: [...leaves, 'src/provider'],
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

const sources = [...filesUnder('src'), ...filesUnder('providers')].filter((file) =>
  file.endsWith('.ts'),
);
const production = sources.filter((file) => !isTest(file));
const imports = production.flatMap(importsOf);

describe('who may import whom', () => {
  test('every file stands in a room of the table', () => {
    expect(production.filter((file) => roomOf(file) === null)).toEqual([]);
  });

  for (const [room, allowed] of Object.entries(mayImport)) {
    test(`${room} imports what the table allows`, () => {
      const wrong = imports
        .filter(({ from, to }) => roomOf(from) === room && roomOf(to) !== room)
        .filter((one) => !allowed.some((entry) => allows(entry, one)))
        .map(({ from, to, typeOnly }) => `${from} → ${typeOnly ? 'type ' : ''}${to}`);
      expect(wrong).toEqual([]);
    });
  }

  test('only the serve command starts the service', () => {
    const starters = imports
      .filter(({ from, to }) => roomOf(from) === 'src/cli' && roomOf(to) === 'src/daemon')
      .map(({ from }) => from);
    expect([...new Set(starters)]).toEqual(['src/cli/commands/serve.ts']);
  });

  test('an issuer does not know another issuer', () => {
    const wrong = imports.filter(({ from, to }) => {
      const [own, other] = [issuerOf(from), issuerOf(to)];
      return own !== null && other !== null && own !== other;
    });
    expect(wrong).toEqual([]);
  });

  test('no imports run in a circle', () => {
    expect(circles(imports.filter((one) => !one.typeOnly))).toEqual([]);
  });

  test('the test of imports sees imports', () => {
    // An empty list would allow everything.
    expect(imports.length).toBeGreaterThan(200);
    expect(imports).toContainEqual({
      from: 'src/provider/registry.ts',
      to: 'src/errors.ts',
      typeOnly: false,
    });
    expect(circles([edge('a', 'b'), edge('b', 'c'), edge('c', 'a'), edge('c', 'd')])).toEqual([
      'a → b → c → a',
    ]);
  });
});

describe('every provider', () => {
  const issuers = readdirSync(path.join(root, 'providers'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'test-support')
    .map((entry) => entry.name);

  test('has a folder', () => {
    expect(issuers.length).toBeGreaterThanOrEqual(5);
  });

  for (const issuer of issuers) {
    test(`${issuer} is registered, has a README and runs the contract`, () => {
      const folder = path.join('providers', issuer);
      const registry = read('providers/index.ts');
      expect(registry).toContain(`'./${issuer}/index.ts'`);
      expect(existsSync(path.join(root, folder, 'README.md'))).toBe(true);
      const tests = filesUnder(folder).filter(isTest).map(read);
      expect(tests.some((text) => /describeContract\(/.test(text))).toBe(true);
    });
  }
});

describe('the machine', () => {
  test('reads no clock, no randomness, no environment of its own', () => {
    const forbidden = /\b(Date\.now|new Date\(\)|Math\.random|process\.env|performance\.now)\b/;
    const wrong = production
      .filter((file) => file.startsWith('src/rotation/'))
      .filter((file) => forbidden.test(code(file)));
    expect(wrong).toEqual([]);
  });

  test('reads the clock of the machine in one file', () => {
    const wrong = production
      .filter((file) => file !== 'src/clock.ts')
      .filter((file) => /\b(Date\.now\(|new Date\(\)|Math\.random\()/.test(code(file)));
    expect(wrong).toEqual([]);
  });
});

/** Every call of `reveal()` there is, by file: a new one is a decision, made here with its reason. */
const reveals: Readonly<Record<string, readonly [count: number, reason: string]>> = {
  'providers/exec/protocol.ts': [1, 'to the command, on its stdin'],
  'providers/generated/material.ts': [3, 'derives a public key, signs a probe'],
  'providers/operator/index.ts': [2, 'to the probe that the policy names'],
  'providers/postgres/connection.ts': [2, 'opens a connection'],
  'providers/postgres/index.ts': [5, 'as SCRAM hash and login, never as SQL text'],
  'providers/redis/connection.ts': [2, 'opens a connection'],
  'providers/redis/index.ts': [4, 'as hash and login'],
  'src/backend/local.ts': [1, 'counts bytes'],
  'src/cli/commands/read.ts': [3, 'what the person asked to see'],
  'src/consumer/http.ts': [2, 'signs a reload, checks a report'],
  'src/consumer/key.ts': [1, 'counts bytes'],
  'src/consumer/render.ts': [3, 'into the file that the policy names'],
  'src/control/protocol.ts': [1, 'to the other end of a private socket'],
  'src/gate/http/guard.ts': [1, 'compared with what clients show'],
  'src/import/copies.ts': [2, 'the config as it was, back into its file'],
  'src/import/leftovers.ts': [1, 'looks for it in copies beside the config'],
  'src/hub/hub.ts': [1, 'to the granted server, over a private socket'],
  'src/gate/entry.ts': [2, 'into what is launched, where the entry names it'],
  'src/gate/redaction.ts': [1, 'to be recognised and removed'],
  'src/provider/answers.ts': [1, 'counts bytes'],
  'src/secret/fingerprint.ts': [1, 'into a keyed hash'],
  'src/secret/redactor.ts': [1, 'to be recognised and removed'],
  'src/secret/sealer.ts': [1, 'into a seal'],
  'src/verify/exec.ts': [1, 'to the check, in its environment'],
  'src/verify/http.ts': [1, 'to the check, in its request'],
};

describe('secrets', () => {
  test('are revealed in these places and nowhere else', () => {
    const counts: Record<string, number> = {};
    for (const file of production.filter((one) => !/\/contract[\w-]*\.ts$/.test(one))) {
      const count = code(file).match(/\.reveal\(\)/g)?.length ?? 0;
      if (count > 0) counts[file] = count;
    }
    expect(counts).toEqual(
      Object.fromEntries(Object.entries(reveals).map(([file, [count]]) => [file, count])),
    );
  });
});

describe('files', () => {
  test('open with one sentence that says what they know', () => {
    const wrong = [
      ...production,
      ...filesUnder('test').filter((file) => file.endsWith('.ts')),
    ].filter((file) => !/^(#!.*\n)?\/\*\*/.test(read(file)));
    expect(wrong).toEqual([]);
  });

  test('have at most 500 lines', () => {
    const long = sources
      .map((file) => ({ file, lines: read(file).split('\n').length }))
      .filter(({ lines }) => lines > 500);
    expect(long).toEqual([]);
  });

  test('name no word of the workplace', () => {
    const words = new RegExp(['/wo', 'rk/|far', 'm-'].join(''));
    const wrong = [
      ...sources,
      ...filesUnder('test'),
      ...filesUnder('docs'),
      ...filesUnder('bin'),
    ].filter((file) => words.test(read(file)));
    expect(wrong).toEqual([]);
  });
});

describe('error codes', () => {
  test('are the same in src/errors.ts and docs/errors.md', () => {
    const documented = [...read('docs/errors.md').matchAll(/^### `([a-z-]+)`$/gm)].map(
      (match) => match[1],
    );
    expect(new Set(documented)).toEqual(new Set(Object.keys(errorCodes)));
    expect(new Set(documented).size).toBe(documented.length);
  });

  test('mean the same in both', () => {
    const text = read('docs/errors.md');
    const missing = Object.entries(errorCodes).filter(
      ([code, meaning]) =>
        !text.toLowerCase().includes(`\n### \`${code}\`\n${meaning}`.toLowerCase()),
    );
    expect(missing).toEqual([]);
  });
});

describe('docs', () => {
  const pages = ['README.md', ...filesUnder('docs')].filter((file) => file.endsWith('.md'));

  test('name only commands and options that exist', async () => {
    const { commands } = await import('../src/cli/commands.ts');
    const { Command } = await import('commander');
    const { addCommonOptions } = await import('../src/cli/command.ts');
    const optionsOf = new Map<string, ReadonlySet<string>>();
    for (const [name, entry] of Object.entries(commands)) {
      const command = new Command(name);
      addCommonOptions(command);
      (await entry.load()).configure(command);
      const flags = command.options.map((option) => option.long ?? '');
      optionsOf.set(name, new Set([...flags, '--help', '--version']));
    }
    const wrong: string[] = [];
    let seen = 0;
    for (const page of pages) {
      for (const [program, ...line] of commandLines(read(page))) {
        seen += 1;
        // What stands behind it belongs to another program.
        const words = line.includes('--') ? line.slice(0, line.indexOf('--')) : line;
        const [first] = words;
        const isBare = first === undefined || first.startsWith('-');
        const name = words.includes('--now') && isBare ? 'now' : isBare ? 'serve' : first;
        const known = optionsOf.get(name);
        if (
          program === 'rotate' &&
          isBare &&
          name === 'serve' &&
          first !== undefined &&
          first !== '--help'
        ) {
          wrong.push(`${page}: ${program} ${words.join(' ')}`);
        }
        const unknown = words.filter(
          (word) =>
            word.startsWith('--') &&
            word !== '--now' &&
            known?.has(word.split('=')[0] ?? '') !== true,
        );
        if (known === undefined || unknown.length > 0)
          wrong.push(`${page}: ${program} ${words.join(' ')}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(seen).toBeGreaterThan(20);
  });
});

/** Every `rotate …` and `rotated …` in code, as words; in a block, what follows two spaces explains. */
function commandLines(text: string): string[][] {
  const blocks = [...text.matchAll(/^```\w*\n([\s\S]*?)^```/gm)].flatMap((match) =>
    (match[1] ?? '').split('\n'),
  );
  const spans = [...text.replaceAll(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`\n]+)`/g)].map(
    (match) => match[1] ?? '',
  );
  return [...blocks, ...spans]
    .map((line) =>
      line
        .trim()
        .replace(/^\$ /, '')
        .replace(/^(npx|sudo( -u \w+)?) /, ''),
    )
    .filter((line) => /^rotated?( |$)/.test(line))
    .map((line) =>
      (line.split(/ {2,}|\s+[#|>&]\s*/)[0] ?? '').replaceAll(/"[^"]*"/g, 'TEXT').split(' '),
    );
}

function allows(entry: string, { to, typeOnly }: Import): boolean {
  const wantsType = entry.startsWith('type ');
  const place = wantsType ? entry.slice('type '.length) : entry;
  return (to === place || to.startsWith(`${place}/`)) && (typeOnly || !wantsType);
}

function roomOf(file: string): string | null {
  const rooms = Object.keys(mayImport);
  return rooms.find((room) => file === room || file.startsWith(`${room}/`)) ?? null;
}

function issuerOf(file: string): string | null {
  return /^providers\/([^/]+)\//.exec(file)?.[1] ?? null;
}

/** Static and dynamic imports and re-exports of our own files, as paths from the root. */
function importsOf(file: string): Import[] {
  const text = code(file);
  const found = [
    ...text.matchAll(/^(?:import|export)\s+(type\s+)?[^'";]*?from\s+'(\.[^']+)'/gm),
    ...text.matchAll(/^import\s+()'(\.[^']+)'/gm),
    ...text.matchAll(/\bimport\(()\s*'(\.[^']+)'\s*\)/g),
  ];
  return found.map((match) => ({
    from: file,
    to: path.posix.normalize(path.posix.join(path.posix.dirname(file), match[2] ?? '')),
    typeOnly: match[1] !== undefined && match[1] !== '' ? true : onlyTypes(match[0]),
  }));
}

/** `import { type A, type B } from …` */
function onlyTypes(statement: string): boolean {
  const names = /\{([^}]*)\}/.exec(statement)?.[1];
  if (names === undefined || /^(?:import|export)\s+[\w*]/.test(statement)) return false;
  const list = names
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  return list.length > 0 && list.every((name) => name.startsWith('type '));
}

function circles(edges: readonly Import[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of edges) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (file: string, trail: readonly string[]) => {
    const at = trail.indexOf(file);
    if (at !== -1) {
      found.push([...trail.slice(at), file].join(' → '));
      return;
    }
    if (done.has(file)) return;
    for (const other of next.get(file) ?? []) walk(other, [...trail, file]);
    done.add(file);
  };
  for (const file of next.keys()) walk(file, []);
  return found;
}

function edge(from: string, to: string): Import {
  return { from, to, typeOnly: false };
}

function isTest(file: string): boolean {
  return /\.(test|bench)\.ts$|\/(fixtures|testing|test-support)\//.test(file);
}

/** Without comments, which may name anything. */
function code(file: string): string {
  return read(file)
    .replaceAll(/\/\*[\s\S]*?\*\//g, '')
    .replaceAll(/^\s*\/\/.*$/gm, '');
}

function read(file: string): string {
  return readFileSync(path.join(root, file), 'utf8');
}

function filesUnder(folder: string): string[] {
  const absolute = path.join(root, folder);
  if (!existsSync(absolute)) return [];
  return readdirSync(absolute, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .filter((file) => !file.includes('node_modules'))
    .map((file) => file.split(path.sep).join('/'))
    .toSorted();
}
