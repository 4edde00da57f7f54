/** The PostgreSQL login under the published server-postgres: two roles that take turns, on a database of its own. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { startPostgres } from '../support/servers/postgres.ts';
import { callForText, type Case } from './case.ts';
import { installed } from './key-cases.ts';

const roles = ['reports_a', 'reports_b'];
const group = 'reports_read';
const admin = 'rotator';
const database = 'reports';
const name = 'reports-db';
/** So that queries run whenever the server is swapped. */
const slowSeconds = 0.3;

export async function postgresCase(): Promise<Case> {
  // Every connection is a line in the log, so that one between two looks at the session table is counted as well.
  const postgres = await startPostgres({ settings: { log_connections: 'on' } });
  const password = randomBytes(18).toString('base64url');
  await postgres.sql(`CREATE DATABASE ${database}`);
  await postgres.sql(`
    CREATE ROLE ${group} NOLOGIN;
    CREATE ROLE ${admin} LOGIN CREATEROLE PASSWORD '${password}';
    GRANT ${group} TO ${admin} WITH ADMIN OPTION;
    GRANT pg_signal_backend TO ${admin};
    REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC;
    GRANT CONNECT ON DATABASE ${database} TO ${group}, ${admin};
  `);
  const { version, folder } = installed('@modelcontextprotocol/server-postgres');
  const watched: { role: string; logFrom: number }[] = [];
  let seenAfterRevoke = 0;

  /** Ends the watch: the role may be given out again from here on. */
  async function endWatch(): Promise<void> {
    for (const { role, logFrom } of watched.splice(0)) {
      const [row] = await postgres.sql(
        'SELECT count(*)::int AS open FROM pg_stat_activity WHERE usename = $1',
        [role],
      );
      const since = postgres.log().slice(logFrom);
      const connections = since.match(new RegExp(`connection authorized: user=${role}\\b`, 'g'));
      seenAfterRevoke += Number(row?.['open']) + (connections?.length ?? 0);
    }
  }

  return {
    server: `@modelcontextprotocol/server-postgres@${version}`,
    issuer: `PostgreSQL ${postgres.version}, by the postgres provider`,
    name,
    admin: { username: admin, password },
    launch: {
      command: [
        process.execPath,
        path.join(folder, 'dist/index.js'),
        `postgresql://127.0.0.1:${postgres.port}/${database}`,
      ],
      env: {
        PGUSER_REF: `local://mcp/${name}#PGUSER`,
        PGPASSWORD_REF: `local://mcp/${name}#PGPASSWORD`,
      },
    },
    provider: (reference) =>
      JSON.stringify({
        use: 'postgres',
        admin: reference,
        roles,
        grant: group,
        host: postgres.host,
        port: postgres.port,
        database,
      }),
    backend: JSON.stringify({
      ref: `local://mcp/${name}`,
      fields: { PGUSER: 'username', PGPASSWORD: 'password' },
    }),
    probe: {
      tool: 'query',
      arguments: { sql: 'SELECT current_user AS role' },
      expect: 'reports_',
    },
    call: async (client, turn) => {
      const slow = turn % 4 === 0 ? `, pg_sleep(${slowSeconds})` : '';
      const sql = `SELECT ${turn} AS turn, current_user AS role${slow}`;
      const rows = JSON.parse(await callForText(client, 'query', { sql })) as {
        turn: number;
        role: string;
      }[];
      if (rows.length !== 1 || rows[0]?.turn !== turn) {
        throw new Error(`query answered ${JSON.stringify(rows).slice(0, 200)}`);
      }
      return rows[0].role;
    },
    identityOf: (fields) => fields['PGUSER'] ?? 'no role',
    watch: (role) => {
      watched.push({ role, logFrom: postgres.log().length });
    },
    usesAfterRevoke: async () => {
      await endWatch();
      return seenAfterRevoke;
    },
    [Symbol.asyncDispose]: () => postgres.stop(),
  };
}
