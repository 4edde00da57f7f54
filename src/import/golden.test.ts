/** Whole configs of each client, oddly formatted, and what an import makes of them; the policies that come with it. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { builtInProviders } from '../../providers/index.ts';
import { parsePolicyText } from '../policy/parse.ts';
import { policyFiles } from './policy-text.ts';
import { config, planned, textsAfter } from './testing/importing.ts';

const fixtures = path.join(import.meta.dirname, 'fixtures');
const read = (name: string) => readFileSync(path.join(fixtures, name));
const names = readdirSync(fixtures).filter(
  (name) => /\.jsonc?$/.test(name) && !name.includes('.after.'),
);

describe('a config of each client', () => {
  test('there is one for each', () => {
    expect(names.sort()).toEqual([
      'claude-code.json',
      'claude-desktop.json',
      'cursor.json',
      'vscode.jsonc',
      'windsurf.json',
    ]);
  });

  for (const name of names) {
    test(`${name} becomes what is beside it, byte for byte`, async () => {
      const plan = await planned([config(`/home/anna/${name}`, read(name))]);
      const after = name.replace(/\.(jsonc?)$/, '.after.$1');
      expect(textsAfter(plan)[0]).toBe(read(after).toString());
    });

    test(`${name}: a second import finds nothing to do`, async () => {
      const after = name.replace(/\.(jsonc?)$/, '.after.$1');
      const plan = await planned([config(`/home/anna/${name}`, read(after))]);
      expect(plan.files[0]?.edits).toEqual([]);
      expect(plan.secrets).toEqual([]);
    });
  }
});

describe('what is said of each server', () => {
  const verdicts = async (name: string) => {
    const plan = await planned([config(`/home/anna/${name}`, read(name))]);
    return Object.fromEntries(
      (plan.files[0]?.entries ?? []).map(({ server, verdict }) => [
        server.path.join(' '),
        verdict.left ?? verdict.kind,
      ]),
    );
  };

  test('Claude Code: projects have servers of their own; OAuth and variables are left alone', async () => {
    expect(await verdicts('claude-code.json')).toEqual({
      'mcpServers linear': 'guided',
      'mcpServers sentry': 'signs-in-itself',
      'mcpServers github': 'guided',
      'mcpServers from-shell': 'variable',
      'projects /home/anna/shop mcpServers github': 'guided',
    });
  });

  test('Claude Desktop: a container is left alone', async () => {
    expect(await verdicts('claude-desktop.json')).toEqual({
      'mcpServers reports': 'guided',
      'mcpServers files': 'no-key',
      'mcpServers datadog': 'guided',
      'mcpServers in-docker': 'container',
    });
  });

  test('VS Code: inputs are left alone. Windsurf: SSE is left alone', async () => {
    expect(await verdicts('vscode.jsonc')).toMatchObject({ 'servers perplexity': 'variable' });
    expect(await verdicts('windsurf.json')).toMatchObject({ 'mcpServers stream': 'transport' });
  });

  test('a database password is guided, and what would make it automatic is said', async () => {
    const plan = await planned([config('/home/anna/x.json', read('claude-desktop.json'))]);
    const [reports] = plan.files[0]?.entries ?? [];
    expect(reports?.verdict.reason).toContain('two logins in one group role (provider postgres)');
    expect(reports?.rewrite?.warnings.join()).toContain(
      'other accounts of this machine can read it',
    );
  });
});

describe('the policies', () => {
  for (const name of names) {
    test(`of ${name} have no mistake, say who they are for, and hold no value`, async () => {
      const registry = builtInProviders();
      const operator = await registry.load('operator', { directory: '/' });
      const context = {
        backends: new Set(['local']),
        providers: registry.ids,
        providerSchema: (use: string) => (use === 'operator' ? operator.options : undefined),
      };
      const plan = await planned([config(`/home/anna/${name}`, read(name))]);
      const files = policyFiles(plan);
      expect(files.length).toBeGreaterThan(0);
      for (const { name: file, text, secrets } of files) {
        const parsed = parsePolicyText(text, `/etc/rotated/${file}`, context);
        expect(parsed.problems).toEqual([]);
        expect(parsed.policies.map((policy) => policy.name)).toEqual(secrets);
        expect(text).toMatch(/^# For whoever uses the MCP server "[\w-]+"/);
        for (const { fields } of plan.items) {
          for (const value of Object.values(fields)) expect(text).not.toContain(value.reveal());
        }
      }
    });
  }

  test('keys that work only together are one secret', async () => {
    const plan = await planned([config('/home/anna/x.json', read('claude-desktop.json'))]);
    const datadog = plan.secrets.find(({ name }) => name === 'datadog');
    expect(datadog?.fields.map(({ field }) => field)).toEqual([
      'DATADOG_API_KEY',
      'DATADOG_APP_KEY',
    ]);
  });
});
