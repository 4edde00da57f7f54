/** Two published servers with a key of their own, pointed at an issuer on this machine: one of each era of the protocol. */
import { createRequire } from 'node:module';
import path from 'node:path';
import type { Client } from '@modelcontextprotocol/client';
import { callForText, type Case } from './case.ts';
import { type KeyIssuer, startKeyIssuer } from './key-issuer.ts';

/** Two tools: one that is answered at once, one whose answer takes its time. */
interface KeyServer {
  readonly package: string;
  readonly bin: string;
  readonly name: string;
  readonly keyPrefix: string;
  readonly keyVariable: string;
  readonly urlVariable: string;
  readonly quick: Ask;
  readonly slow: Ask;
}

interface Ask {
  readonly tool: string;
  argumentsOf(question: string): Readonly<Record<string, unknown>>;
}

const require = createRequire(import.meta.url);

/** Answers the revision 2026-07-28. */
export const context7: KeyServer = {
  package: '@upstash/context7-mcp',
  bin: 'dist/index.js',
  name: 'docs',
  keyPrefix: 'ctx7sk-',
  keyVariable: 'CONTEXT7_API_KEY',
  urlVariable: 'CONTEXT7_API_URL',
  quick: {
    tool: 'resolve-library-id',
    argumentsOf: (question) => ({ query: question, libraryName: 'library' }),
  },
  slow: {
    tool: 'query-docs',
    argumentsOf: (question) => ({ query: question, libraryId: '/demo/library' }),
  },
};

/** Knows the revisions up to 2025-11-25. */
export const perplexity: KeyServer = {
  package: '@perplexity-ai/mcp-server',
  bin: 'dist/index.js',
  name: 'search',
  keyPrefix: 'pplx-',
  keyVariable: 'PERPLEXITY_API_KEY',
  urlVariable: 'PERPLEXITY_BASE_URL',
  quick: { tool: 'perplexity_search', argumentsOf: (question) => ({ query: question }) },
  slow: {
    tool: 'perplexity_ask',
    argumentsOf: (question) => ({ messages: [{ role: 'user', content: question }] }),
  },
};

export async function keyCase(server: KeyServer): Promise<Case> {
  const issuer = await startKeyIssuer(server.keyPrefix);
  const { version, folder } = installed(server.package);
  const command = path.join(import.meta.dirname, 'key-command.ts');
  const probe = server.quick.argumentsOf('probe') as Readonly<Record<string, string>>;
  return {
    server: `${server.package}@${version}`,
    issuer: 'key issuer on loopback, by the exec provider',
    name: server.name,
    admin: { value: issuer.adminToken },
    launch: {
      command: [process.execPath, path.join(folder, server.bin)],
      env: {
        [server.urlVariable]: issuer.url,
        [`${server.keyVariable}_REF`]: `local://mcp/${server.name}#${server.keyVariable}`,
      },
    },
    provider: (admin) =>
      JSON.stringify({
        use: 'exec',
        admin,
        command: [process.execPath, command],
        crashClass: 'token',
        capabilities: { list: true, tag: true },
        env: { ISSUER_URL: issuer.url },
      }),
    backend: JSON.stringify(`local://mcp/${server.name}#${server.keyVariable}`),
    probe: { tool: server.quick.tool, arguments: probe, expect: 'probe key-' },
    call: (client, turn) => ask(client, turn % 4 === 0 ? server.slow : server.quick, turn),
    identityOf: (fields) =>
      issuer.refOf(fields[server.keyVariable] ?? '') ?? 'no key of this issuer',
    watch: () => undefined,
    usesAfterRevoke: async () => usesOfDead(issuer),
    [Symbol.asyncDispose]: () => issuer[Symbol.asyncDispose](),
  };
}

/** The issuer answers with the question and the name of the key: an answer to somebody else's question is a failure. */
async function ask(client: Client, { tool, argumentsOf }: Ask, turn: number): Promise<string> {
  const question = `question-${turn}-`;
  const text = await callForText(client, tool, argumentsOf(question));
  const ref = new RegExp(`${question} (key-\\d+)`).exec(text)?.[1];
  if (ref === undefined) throw new Error(`${tool} answered ${text.slice(0, 200)}`);
  return ref;
}

/** Of keys that never were, too: nothing here makes up keys. */
function usesOfDead({ uses }: KeyIssuer): number {
  return uses.filter(({ ref, afterRevoke }) => afterRevoke || ref === null).length;
}

export function installed(name: string): { readonly version: string; readonly folder: string } {
  const folder = path.join(import.meta.dirname, '../../node_modules', name);
  const { version } = require(path.join(folder, 'package.json')) as { version: string };
  return { version, folder };
}
