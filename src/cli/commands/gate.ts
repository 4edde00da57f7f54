/** The command `rotated gate`: MCP servers behind one HTTP port, their credentials replaced while they run. */
import { once } from 'node:events';
import { createConnection } from 'node:net';
import path from 'node:path';
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import { connectDaemon } from '../../gate/feed/daemon.ts';
import type { Connect } from '../../gate/feed/source.ts';
import { readServersFile, sessionsFolder } from '../../gate/http/files.ts';
import { openGate } from '../../gate/http/gate.ts';
import { gateToken } from '../../gate/http/token.ts';
import type { GateLog } from '../../gate/session/session.ts';
import { parseListen } from '../../listen.ts';
import { statePlace } from '../../state-place.ts';
import { type Call, collect } from '../command.ts';
import type { Exit } from '../exit.ts';
import type { Io } from '../io.ts';

export function configure(command: Command): void {
  command
    .option('--servers <file>', "the servers: a client's own JSON with its mcpServers")
    .option('--listen <address>', 'where clients come in', '127.0.0.1:7331')
    .option(
      '--token-file <file>',
      "the clients' token; made on first run (gate-token in the state)",
    )
    .option('--no-token', 'let every account of this machine in')
    .option(
      '--host <name>',
      'another name that clients call this machine by; repeatable',
      collect,
      [],
    )
    .addHelpText(
      'after',
      `
Each server has a path of its own, and clients show the token:
  http://127.0.0.1:7331/NAME/mcp    Authorization: Bearer TOKEN
`,
    );
}

export async function run({ io, options }: Call): Promise<Exit> {
  const file = options['servers'];
  if (typeof file !== 'string') {
    throw new RotatedError('usage', 'The gate needs to know its servers.', {
      next: "Name a client's config, or a file like it: --servers FILE",
    });
  }
  const servers = readServersFile(path.resolve(io.directory, file), io.env);
  const { host, port } = parseListen(String(options['listen']));
  const state = statePlace(options.state, io.env, io.directory);
  const log = logTo(io);
  const named = options['tokenFile'];
  const tokenFile =
    typeof named === 'string' ? path.resolve(io.directory, named) : path.join(state, 'gate-token');
  const token = options['token'] === false ? null : gateToken(tokenFile, io.random);
  const sessions = sessionsFolder(state);
  if (sessions === null) {
    log.warn({ state }, 'sessions will not outlive the gate: the state cannot be written');
  }
  const front = await openGate({
    servers,
    connect: connectorOf(io, options.state),
    host,
    port,
    token: token?.token ?? null,
    hosts: options['host'] as readonly string[],
    sessions,
    clock: io.clock,
    random: io.random,
    log,
  });
  const names = servers.map(({ entry }) => entry.name);
  const where = token === null ? null : tokenFile;
  log.info({ address: front.address, servers: names, tokenFile: where, pid: process.pid }, 'ready');
  await stopped(io.signal);
  await front.close();
  log.info({}, 'stopped');
  return 'ok';
}

/** The daemon of the state directory; or the socket that somebody put in its place, as for `rotate wrap`. */
function connectorOf(
  { env, directory }: Io,
  state: string | undefined,
): (references: readonly string[]) => Connect {
  const socket = env['ROTATED_GATE_SOCKET'];
  if (socket === undefined || socket === '') {
    return (references) => connectDaemon({ env, directory, state, references });
  }
  return () =>
    async ({ signal }) => {
      const stream = createConnection(socket);
      await once(stream, 'connect', { signal });
      return stream;
    };
}

/** One JSON object a line, as the service logs. */
function logTo(io: Io): GateLog {
  const write = (level: string) => (fields: Record<string, unknown>, message: string) => {
    const time = new Date(io.clock.now()).toISOString();
    io.out(`${JSON.stringify({ level, time, ...fields, message })}\n`);
  };
  return { info: write('info'), warn: write('warn') };
}

function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
