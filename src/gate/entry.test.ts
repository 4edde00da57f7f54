/** Entries: every place a reference may stand in, what a grant is bound to, and what is launched in the end. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../secret/secret.ts';
import {
  type Entry,
  entryHash,
  environmentOf,
  isReference,
  type Launch,
  referencesOf,
  renderLaunch,
  rereadOnly,
  warningsOf,
} from './entry.ts';

type ProcessLaunch = Extract<Launch, { kind: 'process' }>;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'entry-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function processEntry(given: Partial<ProcessLaunch> = {}): Entry & { launch: ProcessLaunch } {
  const launch = { command: '/bin/server', args: [], cwd: folder, env: {}, files: [], ...given };
  return { name: 'server', launch: { kind: 'process', ...launch } };
}

function file(content: string, reread = false) {
  return { path: '/x/key', content, reread };
}

const values = (given: Record<string, string>) =>
  new Map(Object.entries(given).map(([reference, value]) => [reference, new Secret(value)]));

describe('a reference', () => {
  test.each(['local://a', 'local://a/b#c', 'vault://kv/data/x#key', 'awssm://a', 'op://v/i/f'])(
    '%s is one',
    (text) => expect(isReference(text)).toBe(true),
  );
  test.each([
    '',
    'local://',
    'http://a',
    'xlocal://a',
    'local://a b',
    ' local://a',
    'local://a\n',
    'local://a|url',
    '{{local://a}}',
    'see local://a',
  ])('%j is none', (text) => expect(isReference(text)).toBe(false));
});

describe('the references of an entry', () => {
  test('are found in every place of a process, once, as written', () => {
    const entry = processEntry({
      command: '/opt/{{local://command}}/run',
      args: ['--url=postgres://{{local://db#user}}:{{ local://db#password | url }}@h/x', '-v'],
      env: {
        A: 'local://whole#k',
        B: 'Bearer {{vault://kv#token}}',
        C: 'local://not alone',
        D: '',
      },
      files: [file('op://a/b/c'), file('key: {{awssm://k}}\nagain: {{local://db#user}}\n', true)],
    });
    expect(referencesOf(entry)).toEqual([
      'local://command',
      'local://db#user',
      'local://db#password',
      'local://whole#k',
      'vault://kv#token',
      'op://a/b/c',
      'awssm://k',
    ]);
  });

  test('are found in the address and the headers of a remote one', () => {
    const launch = {
      kind: 'remote',
      url: 'https://h/{{local://p|url}}/mcp',
      headers: { Authorization: 'Bearer {{local://t}}', 'X-Key': 'local://k' },
    } as const;
    expect(referencesOf({ name: 'r', launch })).toEqual(['local://p', 'local://t', 'local://k']);
  });

  test('are not taken from an argument that only looks like one as a whole', () => {
    expect(
      referencesOf(processEntry({ args: ['local://a', '{{ftp://x}}', '{{local://a|hex}}'] })),
    ).toEqual([]);
  });

  test('are exactly those that rendering asks for', () => {
    const reference = fc.constantFrom('local://a', 'vault://b#c', 'op://d/e/f', 'awssm://g');
    const part = fc.oneof(
      reference.map((one) => `{{${one}}}`),
      reference.map((one) => `{{ ${one} |url}}`),
      reference,
      fc.constantFrom('text ', '{{', '}}', ' '),
    );
    const text = fc.array(part, { maxLength: 4 }).map((parts) => parts.join(''));
    const launch = fc.record({
      command: text,
      args: fc.array(text, { maxLength: 3 }),
      env: fc.dictionary(fc.constantFrom('A', 'B', 'C'), text),
      files: fc.array(
        text.map((content) => file(content)),
        { maxLength: 2 },
      ),
    });
    fc.assert(
      fc.property(launch, (given) => {
        const entry = processEntry(given);
        const references = referencesOf(entry);
        const all = new Map(references.map((one) => [one, new Secret('V')]));
        expect(() => renderLaunch(entry.launch, all)).not.toThrow();
        for (const missing of references) {
          const others = new Map([...all].filter(([one]) => one !== missing));
          expect(() => renderLaunch(entry.launch, others)).toThrow(missing);
        }
      }),
    );
  });
});

describe('rendering', () => {
  test('puts values where they belong, in every place', () => {
    const { launch } = processEntry({
      command: '/opt/{{local://v}}/run',
      args: ['{{local://v}}', 'local://v', 'a{{ local://v }}b{{local://v}}'],
      env: { WHOLE: 'local://v', PART: 'Bearer {{local://v}}', PLAIN: 'see local://v' },
      files: [file('local://v', true), file('k={{local://v}}\n')],
    });
    expect(renderLaunch(launch, values({ 'local://v': 'S' }))).toEqual({
      ...launch,
      command: '/opt/S/run',
      args: ['S', 'local://v', 'aSbS'],
      env: { WHOLE: 'S', PART: 'Bearer S', PLAIN: 'see local://v' },
      files: [file('S', true), file('k=S\n')],
    });
  });

  test('encodes for a URL only where asked, and takes a value as it is', () => {
    const value = `p@ss/w:?#&=$&$1$\`{{local://other}} é`;
    const launch = {
      kind: 'remote',
      url: 'https://u:{{local://v|url}}@h/{{local://v| url }}',
      headers: { A: 'local://v', B: 'x {{local://v}}' },
    } as const;
    expect(renderLaunch(launch, values({ 'local://v': value }))).toEqual({
      kind: 'remote',
      url: `https://u:${encodeURIComponent(value)}@h/${encodeURIComponent(value)}`,
      headers: { A: value, B: `x ${value}` },
    });
  });

  test('says which value is missing, and none that is there', () => {
    const { launch } = processEntry({ env: { A: 'local://a', B: '{{local://gone}}' } });
    const given = values({ 'local://a': 'the-value-itself' });
    expect(() => renderLaunch(launch, given)).toThrow(
      expect.objectContaining({
        code: 'not-found',
        message: expect.stringContaining('local://gone') as string,
      }),
    );
    expect(() => renderLaunch(launch, given)).not.toThrow('the-value-itself');
  });

  test('leaves the entry as it was', () => {
    const entry = processEntry({ args: ['{{local://v}}'], env: { A: 'local://v' } });
    const before = structuredClone(entry);
    renderLaunch(entry.launch, values({ 'local://v': 'S' }));
    expect(entry).toEqual(before);
  });
});

describe('KEY_REF', () => {
  test('of a client becomes KEY, whichever comes first', () => {
    expect(environmentOf({ KEY_REF: 'local://k', PATH: '/bin' })).toEqual({
      KEY: 'local://k',
      PATH: '/bin',
    });
    // Some clients write every variable that they know, empty.
    expect(environmentOf({ KEY: '', KEY_REF: 'local://k' })).toEqual({ KEY: 'local://k' });
    expect(environmentOf({ KEY_REF: 'local://k', KEY: '' })).toEqual({ KEY: 'local://k' });
  });

  test('that holds no reference is a variable like any other', () => {
    const env = { KEY_REF: 'plain', GIT_REF: 'refs/heads/main', KEY: 'x', A_REF: '{{local://a}}' };
    expect(environmentOf(env)).toEqual(env);
  });

  test.each([
    { KEY: 'plain', KEY_REF: 'local://k' },
    { KEY_REF: 'local://k', KEY: 'plain' },
  ])('beside a KEY is refused, without the value of either: %j', (env) => {
    expect(() => environmentOf(env)).toThrow(
      expect.objectContaining({ code: 'usage', message: 'Both KEY and KEY_REF are set.' }),
    );
  });

  test('leaves out what is undefined', () => {
    expect(environmentOf({ A: undefined, B: '1' })).toEqual({ B: '1' });
  });
});

describe('the hash of an entry', () => {
  test('changes with command, each argument and their order', () => {
    const hashes = [
      processEntry(),
      processEntry({ command: '/bin/other' }),
      processEntry({ args: ['a', 'b'] }),
      processEntry({ args: ['b', 'a'] }),
      processEntry({ args: ['a b'] }),
      processEntry({ args: ['a', 'b', ''] }),
      processEntry({ command: '/bin/server a', args: ['b'] }),
    ].map(entryHash);
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  test('holds for the same program, whatever its name, environment, files and values', () => {
    const base = entryHash(processEntry({ args: ['-y', 'x'] }));
    expect(entryHash({ ...processEntry({ args: ['-y', 'x'] }), name: 'other' })).toBe(base);
    expect(
      entryHash(processEntry({ args: ['-y', 'x'], env: { A: 'local://a' }, files: [file('x')] })),
    ).toBe(base);
    expect(entryHash(processEntry({ args: ['-y', 'x'], cwd: tmpdir() }))).toBe(base);
  });

  test('is bound to the working directory where command or an argument is a file there', () => {
    const other = mkdtempSync(path.join(tmpdir(), 'entry-'));
    try {
      for (const place of [folder, other]) writeFileSync(path.join(place, 'server.js'), '');
      for (const given of [
        { args: ['server.js'] },
        { args: ['./server.js'] },
        { command: './server.js' },
      ]) {
        expect(entryHash(processEntry(given))).not.toBe(
          entryHash(processEntry({ ...given, cwd: other })),
        );
      }
      // The second is a file in the folder only if it is taken for a relative one.
      const absolute = { args: [path.join(folder, 'server.js'), '/server.js'] };
      expect(entryHash(processEntry(absolute))).toBe(
        entryHash(processEntry({ ...absolute, cwd: other })),
      );
    } finally {
      rmSync(other, { recursive: true, force: true });
    }
  });

  test('of a remote one is bound to its address alone, and is no process’s', () => {
    const remote = (url: string, headers = {}) =>
      entryHash({ name: 'r', launch: { kind: 'remote', url, headers } });
    expect(remote('https://a/mcp')).not.toBe(remote('https://b/mcp'));
    expect(remote('https://a/mcp', { A: 'local://a' })).toBe(remote('https://a/mcp'));
    expect(remote('/bin/server')).not.toBe(entryHash(processEntry()));
  });
});

describe('a change that needs no new process', () => {
  test('is one of references that stand in reread files alone', () => {
    expect(
      rereadOnly(
        processEntry({
          files: [file('{{local://a}} {{local://b}}', true), file('local://c', true)],
        }),
      ),
    ).toEqual(new Set(['local://a', 'local://b', 'local://c']));
    const mixed = processEntry({
      args: ['{{local://in-args}}'],
      env: { A: 'local://in-env' },
      files: [
        file('{{local://in-args}} {{local://in-env}} {{local://in-both}} {{local://alone}}', true),
        file('local://in-both'),
      ],
    });
    expect(rereadOnly(mixed)).toEqual(new Set(['local://alone']));
  });

  test('is none in the command, of a file that is read once, or of a remote server', () => {
    const inCommand = processEntry({ command: '/{{local://a}}', files: [file('local://a', true)] });
    expect(rereadOnly(inCommand).size).toBe(0);
    expect(rereadOnly(processEntry({ files: [file('local://a')] })).size).toBe(0);
    const launch = { kind: 'remote', url: '{{local://a}}', headers: {} } as const;
    expect(rereadOnly({ name: 'r', launch }).size).toBe(0);
  });
});

describe('a warning', () => {
  test('is given where a value would stand in what other accounts can read', () => {
    expect(warningsOf(processEntry({ args: ['-v', 'a={{local://a}}'] }))).toHaveLength(1);
    expect(warningsOf(processEntry({ command: '/opt/{{local://a}}' }))).toHaveLength(1);
    expect(warningsOf(processEntry({ args: ['local://a'], env: { A: 'local://a' } }))).toEqual([]);
  });
});
