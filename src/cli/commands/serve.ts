/** The command `rotated`: runs the service in the foreground, or with --check looks whether it could. */
import path from 'node:path';
import { type Command, Option } from 'commander';
import { accountName, type Call, collect } from '../command.ts';
import { placesOf } from '../connect.ts';
import type { Exit } from '../exit.ts';

export function configure(command: Command): void {
  command
    .option('--listen <address>', 'serve /healthz, /readyz and /metrics there: 127.0.0.1:9464')
    .option('--servers <file>', "also serve these MCP servers: a client's JSON with its mcpServers")
    .option('--gate-listen <address>', 'where clients of those come in', '127.0.0.1:7331')
    .option(
      '--audit-sink <sink>',
      'also send audit lines to file:PATH or exec:COMMAND; repeatable; none ends it',
      collect,
      [],
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged')
        .choices(['debug', 'info', 'warn', 'error', 'silent'])
        .default('info'),
    )
    .option('--check', 'validate policies, key, state and provider options, and exit')
    .option('--reach', 'with --check: also try issuers, backends and consumers, changing nothing');
}

export async function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  if (options['check'] === true) {
    const { check } = await import('../check.ts');
    return check(call, { reach: options['reach'] === true });
  }
  const listen = typeof options['listen'] === 'string' ? options['listen'] : null;
  const { parseListen } = await import('../../listen.ts');
  if (listen !== null) parseListen(listen);
  const gate = await gateOf(call);
  const { runDaemon } = await import('../../daemon/daemon.ts');
  const { logLevels } = await import('../../daemon/logs.ts');
  await runDaemon({
    places: placesOf(call),
    listen,
    gate,
    level: logLevels.find((level) => level === options['logLevel']) ?? 'info',
    pretty: io.outIsTerminal && options.json !== true,
    env: io.env,
    directory: io.directory,
    clock: io.clock,
    random: io.random,
    account: accountName(io),
    write: (line) => io.out(line),
    stop: io.signal,
    onReload: (reload) => process.on('SIGHUP', reload),
  });
  return 'ok';
}

/** Read before the service starts: a mistake in it keeps it from starting. */
async function gateOf({ io, options }: Call) {
  const file = options['servers'];
  if (typeof file !== 'string') return null;
  const { readServersFile } = await import('../../gate/http/files.ts');
  const { parseListen } = await import('../../listen.ts');
  const listen = String(options['gateListen']);
  parseListen(listen);
  return { servers: readServersFile(path.resolve(io.directory, file), io.env), listen };
}
