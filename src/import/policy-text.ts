/** The policy files of what was imported, as a person would write them: who each is for, what to do, where. */
import type { Plan, ServerPlan } from './plan.ts';
import type { ImportedSecret } from './model.ts';

export interface PolicyFile {
  /** Without a folder. */
  readonly name: string;
  readonly text: string;
  readonly secrets: readonly string[];
}

/** What a config's key is replaced after, unless the person says otherwise. */
const everyDefault = '90d';
const listLineMax = 100;

/** One file for each server that holds keys of its own. */
export function policyFiles(plan: Plan): readonly PolicyFile[] {
  return plan.servers.flatMap((server) => {
    const own = plan.secrets.filter(({ servers }) => servers[0] === server.name);
    if (own.length === 0) return [];
    return [
      {
        name: `mcp-${server.name}.yaml`,
        text: fileText(server, own, plan.servers),
        secrets: own.map(({ name }) => name),
      },
    ];
  });
}

function fileText(
  server: ServerPlan,
  secrets: readonly ImportedSecret[],
  servers: readonly ServerPlan[],
): string {
  const [first] = secrets;
  const lines = [
    `# For whoever uses the MCP server ${quoted(server.label)}, which is described in`,
    ...server.files.map((file) => `#   ${file}`),
    `# Its ${secrets.length === 1 && first?.fields.length === 1 ? 'key' : 'keys'} stood there in plaintext until \`rotate import\` moved ${secrets.length === 1 && first?.fields.length === 1 ? 'it' : 'them'}: replace ${secrets.length === 1 && first?.fields.length === 1 ? 'it' : 'them'} soon.`,
    '# When one is due, a person makes the new key and hands it in; everything after that is automatic.',
    'secrets:',
  ];
  for (const secret of secrets) lines.push(...secretLines(secret, servers));
  return `${lines.join('\n')}\n`;
}

function secretLines(secret: ImportedSecret, servers: readonly ServerPlan[]): readonly string[] {
  const { name, item, fields, issuer } = secret;
  const names = fields.map(({ field }) => field);
  const supply =
    fields.length === 1
      ? `rotate supply ${name}`
      : `rotate supply ${name} ${names.map((field) => `--field ${field}`).join(' ')}`;
  const what =
    issuer?.instructions ?? 'Make a new key at the issuer, with the rights of the present one.';
  const lines = [`  ${name}:`, '    tags: [mcp, imported]', '    provider:', '      use: operator'];
  lines.push('      instructions: |', `        ${what}`, `        Hand it in with \`${supply}\`.`);
  if (issuer?.link != null) lines.push(`      link: ${quoted(issuer.link)}`);
  lines.push(
    `      revokeInstructions: ${quoted(issuer === null ? 'Delete the old key at its issuer.' : `Delete the old key at ${issuer.title}.`)}`,
  );
  if (fields.length > 1) lines.push(`      fields: [${names.join(', ')}]`);
  if (issuer?.verify != null && fields.length === 1) {
    lines.push('      verify:', `        url: ${quoted(issuer.verify.url)}`, '        headers:');
    for (const [header, value] of Object.entries(issuer.verify.headers)) {
      lines.push(`          ${header}: ${quoted(value)}`);
    }
  }
  if (issuer?.hint != null) lines.push(`      # It would be automatic with ${issuer.hint}.`);
  if (fields.length === 1) lines.push(`    backend: local://${item}#${names[0]}`);
  else {
    const pairs = names.map((field) => `${field}: ${field}`).join(', ');
    lines.push('    backend:', `      ref: local://${item}`, `      fields: { ${pairs} }`);
  }
  lines.push(`    every: ${everyDefault}`, '    grace: 1h', '    consumers:');
  for (const server of secret.servers) {
    lines.push(...gateLines(server, servers.find((one) => one.name === server)?.command ?? null));
  }
  return lines;
}

function gateLines(server: string, command: readonly string[] | null): readonly string[] {
  if (command === null) return [`      - gate: ${server}`];
  const words = command.map(quoted);
  const line = `          command: [${words.join(', ')}]`;
  return [
    '      - gate:',
    `          server: ${server}`,
    ...(line.length <= listLineMax
      ? [line]
      : ['          command:', ...words.map((word) => `            - ${word}`)]),
  ];
}

/** JSON's strings are YAML's double-quoted ones. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
