/** The command `rotate wrap`, for its help: a client's start takes the short way through `../wrap.ts`. */
import type { Command } from 'commander';
import { type Call, collect } from '../command.ts';
import type { Exit } from '../exit.ts';

export function configure(command: Command): void {
  command
    .option(
      '--server <name>',
      "what policies and grants call it; the command's own name by default",
    )
    .option('--url <url>', 'a remote server (Streamable HTTP) instead of a command')
    .option('--header <name=template>', 'a header for it; repeatable', collect, [])
    .option(
      '--file <path=template>',
      'a file written before the server starts; repeatable',
      collect,
      [],
    )
    .option(
      '--reread',
      'the server reads its files again by itself: they are rewritten, it goes on',
    )
    .addHelpText(
      'after',
      `
Stands in a client's config where the command of the server was:
  rotate wrap --server search -- npx -y search-mcp
Values come from references: SEARCH_API_KEY_REF=local://mcp/search in the environment, or
{{local://mcp/search}} inside a variable, an argument, a header or a file.
`,
    );
}

/** Reached where the command is called in an unusual way, such as with an option before its name. */
export async function run({ options, args }: Call): Promise<Exit> {
  const { runWrap } = await import('../wrap.ts');
  const given = Object.entries(options).flatMap(([name, value]) => {
    if (!['server', 'url', 'header', 'file', 'reread', 'state'].includes(name)) return [];
    if (value === true) return [`--${name}`];
    return [value].flat().flatMap((one) => [`--${name}`, String(one)]);
  });
  await runWrap([...given, '--', ...args]);
  return 'ok';
}
