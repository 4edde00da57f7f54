/** Gate consumers and mcp checks as policies write them. */
import { describe, expect, test } from 'vitest';
import type { PolicyContext } from './context.ts';
import { linkFiles } from './link.ts';
import { parsePolicyText } from './parse.ts';
import type { ParsedFile } from './parsed.ts';
import type { Policy } from './policy.ts';
import { z } from 'zod';

const context: PolicyContext = {
  backends: new Set(['local']),
  providers: ['generated'],
  providerSchema: () => z.looseObject({}),
};

function parsed(name: string, more: string, backend = 'local://mcp/search') {
  return parsePolicyText(
    `secrets:\n  ${name}:\n    provider: generated\n    backend: ${backend}\n    every: 30d\n${more}\n`,
    `/etc/rotated/${name}.yaml`,
    context,
  );
}

function only(more: string, backend?: string): Policy {
  const { policies, problems } = parsed('search', more, backend);
  expect(problems).toEqual([]);
  const [policy] = policies;
  if (policy === undefined) throw new Error('no policy');
  return policy;
}

function file(name: string, more: string): ParsedFile {
  const { policies } = parsed(name, more, `local://${name}`);
  const path = `/etc/rotated/${name}.yaml`;
  return { file: path, policies, notify: {}, notifiers: [], brokenNotifiers: [] };
}

const user = { role: 'user', report: null, timeoutMs: 10_000 };

describe('a gate consumer', () => {
  test('is a name, or all that is said of its swaps; what is not said stays unsaid', () => {
    expect(only('    consumers: [{ gate: search }]').consumers).toEqual([
      { ...user, kind: 'gate', server: 'search', command: null, settings: {} },
    ]);
    const full = `    consumers:
      gate:
        server: search
        command: [./bin/search, --tools=a]
        swap: drain-window
        drain: 5m
        emergency: drain
        warm: 0s
        idle: 60s
        start: 30s
        retry: search
        canary: { tool: whoami, arguments: { deep: { list: [1, null] } } }
        redact: false
        version: allow`;
    expect(only(full).consumers).toEqual([
      {
        ...user,
        kind: 'gate',
        server: 'search',
        // As written: it is compared with what clients launch, never run.
        command: ['./bin/search', '--tools=a'],
        settings: {
          swap: 'drain-window',
          drainMs: 300_000,
          emergency: 'drain',
          warmMs: 0,
          idleMs: 60_000,
          startMs: 30_000,
          retry: ['search'],
          canary: { tool: 'whoami', arguments: { deep: { list: [1, null] } } },
          redact: false,
          version: 'allow',
        },
      },
    ]);
  });

  test('two policies of one server add up, and may not contradict each other', () => {
    const linked = (other: string) =>
      linkFiles([
        file('a', '    consumers: [{ gate: { server: search, drain: 5m } }]'),
        file('b', `    consumers: [{ gate: { server: search, ${other} } }]`),
      ]);
    expect(linked('drain: 300s, redact: false').problems).toEqual([]);
    const { problems, policies } = linked('drain: 6m');
    expect(policies.map(({ name }) => name)).toEqual(['a']);
    expect(problems).toMatchObject([
      { code: 'conflict', path: 'secrets.b.consumers', file: '/etc/rotated/b.yaml' },
    ]);
    expect(problems[0]?.message).toContain('drain');
  });
});

describe('an mcp check', () => {
  test('says what starts the server, which field goes where, and which tool is called', () => {
    const check = `    verify:
      mcp:
        command: [./bin/search, "--url=x://\${USER}:\${KEY|url}@h"]
        env: { TOKEN: "Bearer \${KEY}" }
        tool: whoami
        arguments: { limit: 1 }
        timeout: 5s`;
    const backend = '{ ref: local://mcp/search, fields: { USER: user, KEY: value } }';
    expect(only(check, backend).verify).toEqual([
      {
        kind: 'mcp',
        command: ['/etc/rotated/bin/search', '--url=x://${USER}:${KEY|url}@h'],
        env: { TOKEN: 'Bearer ${KEY}' },
        tool: 'whoami',
        arguments: { limit: 1 },
        timeoutMs: 5_000,
      },
    ]);
  });

  test('may take the command of the gate consumer, with the new values for its own references', () => {
    const both = (
      command: string,
    ) => `    consumers: [{ gate: { server: db, command: ${command} } }]
    verify: [{ mcp: { server: db, tool: query } }]`;
    const backend = '{ ref: local://mcp/db, fields: { PASSWORD: value } }';
    const own = both(
      '[db-mcp, "x://u:{{ local://mcp/db#PASSWORD | url }}@h", "{{local://mcp/db}}"]',
    );
    expect(only(own, backend).verify).toMatchObject([
      { command: ['db-mcp', 'x://u:${PASSWORD|url}@h', '${PASSWORD}'], env: null },
    ]);
    // Another item's value is not to be had at a check.
    const { problems } = parsed('search', both('[db-mcp, "{{local://mcp/else}}"]'), backend);
    expect(problems).toMatchObject([
      { code: 'conflict', path: 'secrets.search.verify.0.mcp.server' },
    ]);
  });
});
