/** The command `rotate allow`: which running MCP servers may have which values. */
import path from 'node:path';
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import { entryHash, isReference } from '../../gate/entry.ts';
import { commandHash, isServerName } from '../../gate/feed/identity.ts';
import type { GrantAsked, GrantView, RefusalView, WholeService } from '../../hub/service.ts';
import { addReasonOption, askOf, type Call } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { minute, plural, table } from '../print.ts';

export function configure(command: Command): void {
  command
    .usage('[options] NAME [REFERENCE... -- COMMAND...]')
    .option('--list', 'show what was granted, and what was refused since the daemon started')
    .option('--revoke', 'end what was granted to NAME; with a command, to that one alone')
    .option('--url <url>', 'instead of a command: the address of a remote server')
    .option('--yes', 'do not ask; needed where there is no terminal')
    .addHelpText(
      'after',
      `
With a name alone it grants what that server last asked for and was refused, after showing it.
The command is written as the client's config has it; where a part of it is a file of the working
directory, call this in the directory where the client starts the server:
  rotate allow search local://mcp/search -- npx -y search-mcp
`,
    );
  addReasonOption(command);
}

export async function run(call: Call): Promise<Exit> {
  const { options, args } = call;
  if (options['list'] === true) return list(call);
  const [server, ...rest] = args;
  if (server === undefined || !isServerName(server)) {
    throw new RotatedError('usage', 'allow needs the name of a server.', {
      next: 'Run: rotate allow --list, or rotate allow --help',
    });
  }
  const references = rest.slice(0, countWhile(rest, isReference));
  const command = rest.slice(references.length);
  const launched = launchedBy(call, command);
  if (options['revoke'] === true) return revoke(call, server, launched?.hash ?? null);
  if (launched === null) {
    if (references.length > 0) {
      throw new RotatedError('usage', 'A grant holds for one command, and none is named.', {
        next: `Run: rotate allow ${server} ${references.join(' ')} -- COMMAND`,
      });
    }
    return allowRefused(call, server);
  }
  if (references.length === 0) {
    throw new RotatedError('usage', 'No reference is named: what may it have?', {
      next: `Run: rotate allow ${server} local://ITEM -- ${command[0] ?? 'COMMAND'}`,
    });
  }
  return withService(call, 'act', async ({ service, note }) => {
    const grant = await service.allow({ server, ...launched, references }, askOf(call));
    return say(call, [grant], note);
  });
}

function launchedBy(
  { io, options }: Call,
  command: readonly string[],
): { readonly hash: string; readonly program: string } | null {
  const url = options['url'];
  const [program, ...args] = command;
  if (typeof url === 'string') {
    if (program !== undefined) {
      throw new RotatedError('usage', 'Either --url or a command, not both.');
    }
    const launch = { kind: 'remote', url, headers: {} } as const;
    // Without what may stand in a query.
    const place = URL.canParse(url) ? new URL(url).origin : 'a remote server';
    return { hash: entryHash({ name: '', launch }), program: place };
  }
  if (program === undefined) return null;
  return {
    hash: commandHash([program, ...args], io.directory),
    program: path.basename(program),
  };
}

/** What a running server asked for: shown whole before it is granted. */
function allowRefused(call: Call, server: string): Promise<Exit> {
  const { io, options } = call;
  if (options['yes'] !== true && !io.inIsTerminal) {
    throw new RotatedError('refused', 'There is no terminal to ask at whether this is meant.', {
      next: `Look: rotate allow --list. Then say --yes, or name all of it: rotate allow ${server} REFERENCE -- COMMAND`,
    });
  }
  return withService(call, 'act', async ({ service, note }) => {
    const wanted = (await service.grants()).refused.filter((one) => one.server === server);
    if (wanted.length === 0) throw nothingRefused(server, note);
    for (const one of wanted) io.err(refusalText(one));
    if (options['yes'] !== true) {
      const answer = await io.ask('Grant this? Type yes: ', false);
      if (answer?.trim().toLowerCase() !== 'yes') {
        throw new RotatedError('refused', 'Nothing was granted.', {
          next: 'Type yes, or say --yes.',
        });
      }
    }
    const grants: GrantView[] = [];
    for (const one of wanted) grants.push(await service.allow(askedBy(one), askOf(call)));
    return say(call, grants, note);
  });
}

function askedBy({ server, hash, what, references }: RefusalView): GrantAsked {
  const [program = ''] = what.split(' ');
  const plain = /^[\w@%+=:,./-]+$/.test(program) ? path.basename(program) : null;
  return { server, hash, program: plain, references };
}

async function revoke(call: Call, server: string, hash: string | null): Promise<Exit> {
  return withService(call, 'act', async ({ service, note }) => {
    const ended = await service.disallow(server, hash, askOf(call));
    const kept = await ofPolicies(service, server, hash);
    if (call.options.json === true) {
      call.io.out(`${JSON.stringify({ ok: ended > 0, ended, policies: kept, note })}\n`);
    } else {
      call.io.out(`${plural(ended, 'grant')} of ${server} ended.\n`);
      if (kept.length > 0) {
        call.io.out(`Still granted by ${kept.join(', ')}: take the command out of the policy.\n`);
      }
      if (ended > 0) call.io.out('What its processes hold they keep: rotate run replaces it.\n');
    }
    return ended > 0 ? 'ok' : 'refused';
  });
}

async function ofPolicies(service: WholeService, server: string, hash: string | null) {
  const { grants } = await service.grants();
  return grants.flatMap((one) =>
    one.policy !== null && one.server === server && (hash === null || one.hash === hash)
      ? [one.policy]
      : [],
  );
}

function list(call: Call): Promise<Exit> {
  const { io, options } = call;
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    const { grants, refused } = await service.grants();
    if (options.json === true) {
      io.out(`${JSON.stringify({ ok: true, grants, refused, note })}\n`);
      return 'ok';
    }
    if (note !== null) io.err(`${note}\n`);
    if (grants.length === 0) io.out('No server was granted anything.\n');
    else {
      io.out(
        table(
          [
            { title: 'SERVER', widthMax: 20 },
            { title: 'RUNS', widthMax: 16 },
            { title: 'MAY HAVE', widthMax: 60 },
            { title: 'SINCE', widthMax: 17 },
            { title: 'BY', widthMax: 24 },
          ],
          grants.map((one) => [
            one.server,
            one.program ?? '?',
            one.references.join(', '),
            one.at === null ? '-' : minute(one.at),
            one.by,
          ]),
          io.columns,
        ),
      );
    }
    for (const one of refused) io.out(`! ${refusalText(one)}`);
    return 'ok';
  });
}

function refusalText({ server, what, references }: RefusalView): string {
  return `${server} runs: ${what}\n  and asks for ${references.join(', ')}. Grant it: rotate allow ${server}\n`;
}

function say(call: Call, grants: readonly GrantView[], note: string | null): Exit {
  if (call.options.json === true) {
    call.io.out(`${JSON.stringify({ ok: true, grants, note })}\n`);
    return 'ok';
  }
  for (const { server, references } of grants) {
    call.io.out(`${server} may have ${references.join(', ')}.\n`);
  }
  return 'ok';
}

function nothingRefused(server: string, note: string | null): RotatedError {
  const why =
    note === null
      ? `${server} was refused nothing since the daemon started.`
      : `No daemon runs that could have refused ${server} anything.`;
  return new RotatedError('refused', why, {
    next: `Start the server once, or name all of it: rotate allow ${server} REFERENCE -- COMMAND`,
  });
}

function countWhile<T>(all: readonly T[], holds: (one: T) => boolean): number {
  const at = all.findIndex((one) => !holds(one));
  return at === -1 ? all.length : at;
}
