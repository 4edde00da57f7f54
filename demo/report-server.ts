/** The demo's MCP server as a process of its own: one tool that queries PostgreSQL with the rotated login, and reloads it on SIGHUP. */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type NodeIncomingMessageLike, toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { createReloadHandler } from '../src/consumer/receiver.ts';
import { LoginPool } from './login-pool.ts';
import { readLogin } from './login-file.ts';
import { database, type ServerMessage } from './messages.ts';
import { onStop, say } from './process.ts';

const [databasePort, loginFile, pidFile] = process.argv.slice(2);
// The demo hands the key over in the environment of this one process; a real server reads it where it reads its others.
const reportKey = process.env['REPORT_KEY'];
if (databasePort === undefined || loginFile === undefined || pidFile === undefined || !reportKey) {
  throw new Error('usage: REPORT_KEY=… report-server.ts DATABASE_PORT LOGIN_FILE PID_FILE');
}

const logins = new LoginPool({
  host: '127.0.0.1',
  port: Number(databasePort),
  database,
  connectionsMax: 10,
  onSwitched: (generation, inFlight) =>
    say<ServerMessage>({ kind: 'switched', generation, inFlight, at: Date.now() }),
  onDrained: (generation) => say<ServerMessage>({ kind: 'drained', generation, at: Date.now() }),
});

// What a server adds to take part in rotations without a restart: this handler, and the reload below.
const generations = createReloadHandler({
  key: reportKey,
  onReload: reload,
  report: () => [
    { id: `report-server-${process.pid}`, generation: logins.generation, state: 'serving' },
  ],
});

const mcp = createMcpHandler(() => {
  const server = new McpServer({ name: 'report-server', version: '1.0.0' });
  server.registerTool(
    'query_report',
    {
      description: 'Revenue of one region; delayMs makes the database take its time.',
      inputSchema: z.object({
        region: z.enum(['north', 'south', 'east', 'west']),
        delayMs: z.int().min(0).max(5_000).default(0),
      }),
      outputSchema: z.object({
        region: z.string(),
        months: z.number(),
        revenue: z.number(),
        generation: z.number(),
      }),
    },
    async ({ region, delayMs }) => {
      const { generation, rows } = await logins.query<{ months: number; revenue: number }>(
        `SELECT count(*)::int AS months, sum(revenue)::float AS revenue
           FROM report, (SELECT pg_sleep($2::float / 1000)) AS pause WHERE region = $1`,
        [region, delayMs],
      );
      const answer = { region, months: 0, revenue: 0, ...rows[0], generation };
      return {
        content: [{ type: 'text', text: JSON.stringify(answer) }],
        structuredContent: answer,
      };
    },
  );
  return server;
});
const serveMcp = toNodeHandler(mcp);

const http = createServer((request, response) => {
  if (request.url?.startsWith('/generation') === true) generations.node(request, response);
  // The SDK's type says `method?: string`, node's `string | undefined`: the same thing here.
  else void serveMcp(request as NodeIncomingMessageLike, response);
});

// Reloads run one after the other: each sees the file as it stands then, so the last signal always wins.
let reloading: Promise<void> = Promise.resolve();
process.on('SIGHUP', () => {
  reloading = reloading.then(reload).catch((error: unknown) => {
    // The old login stays in use; the daemon sees the old generation in the report and keeps it alive.
    say<ServerMessage>({
      kind: 'trouble',
      message: error instanceof Error ? error.message : String(error),
    });
  });
});

onStop(async () => {
  await reloading;
  http.close();
  http.closeIdleConnections();
  await mcp.close();
  await logins.close();
});

http.listen(0, '127.0.0.1', () => void announce());

async function reload(): Promise<void> {
  await logins.load(readLogin(await readFile(loginFile ?? '', 'utf8')));
}

async function announce(): Promise<void> {
  const address = http.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  // Written beside and renamed: whoever reads the pidfile never finds half a number.
  await writeFile(`${pidFile}.new`, `${process.pid}\n`, { mode: 0o600 });
  await rename(`${pidFile}.new`, pidFile ?? '');
  say<ServerMessage>({ kind: 'ready', port });
}
