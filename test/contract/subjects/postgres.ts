/** The `postgres` provider under contract: a real server, an admin with no more rights than the README asks for. */
import pg from 'pg';
import type { ContractSubject, ContractWorld, Variant } from '../../../src/provider/contract.ts';
import postgres from '../../../providers/postgres/index.ts';
import { startFaultProxy, startHostileServer } from '../../support/servers/fault-proxy.ts';
import { freePort } from '../../support/servers/free-port.ts';
import { type PostgresServer, startPostgres } from '../../support/servers/postgres.ts';
import { contextOf, echoCanary, replaced, shifted } from './world.ts';

const adminPassword = 'canary-of-the-admin-91b7';

export interface PostgresSubject extends ContractSubject {
  readonly postgres: PostgresServer;
  world(): Promise<ContractWorld & { readonly options: PostgresTestOptions }>;
}

export interface PostgresTestOptions {
  readonly roles: [string, string];
  readonly grant: string;
}

export async function postgresSubject(): Promise<PostgresSubject> {
  const server = await startPostgres();
  let worlds = 0;

  /** Logins and a group of their own, with the least rights. */
  async function place(): Promise<{ options: PostgresTestOptions; admin: string; secret: string }> {
    const n = ++worlds;
    const admin = `admin_${n}`;
    const grant = `reports_read_${n}`;
    await server.sql(
      `CREATE ROLE ${grant} NOLOGIN;
       CREATE ROLE ${admin} LOGIN CREATEROLE PASSWORD '${adminPassword}';
       GRANT ${grant} TO ${admin} WITH ADMIN OPTION;
       GRANT pg_signal_backend TO ${admin};`,
    );
    const options = { roles: [`reports_a_${n}`, `reports_b_${n}`] as [string, string], grant };
    return { options, admin, secret: `reports-${n}` };
  }

  return {
    name: 'postgres',
    server: 'PostgreSQL',
    version: server.version,
    provider: postgres,
    postgres: server,
    skips: [
      {
        name: 'a person is told what to do, and nothing has changed',
        reason: 'no person is needed',
      },
      {
        name: 'a credential that is refused at first verifies within the settle time',
        reason: 'a committed password is in force for the next login; settleSeconds is 0',
      },
    ],
    async world() {
      const resources = new AsyncDisposableStack();
      const { options, admin, secret } = await place();
      const at = (
        { host, port }: { readonly host: string; readonly port: number },
        username = admin,
      ): Variant => ({
        options,
        context: contextOf(secret, {
          username,
          password: adminPassword,
          host,
          port: String(port),
          database: 'postgres',
        }),
      });
      return {
        ...at(server),
        options,
        canaries: [echoCanary],
        wrong(fields) {
          const password = fields['password']?.reveal() ?? '';
          return replaced(fields, password, shifted(password));
        },
        async denied() {
          const weak = `${admin}_weak`;
          await server.sql(
            `DO $$ BEGIN CREATE ROLE ${weak} LOGIN PASSWORD '${adminPassword}'; EXCEPTION WHEN duplicate_object THEN NULL; END $$`,
          );
          return at(server, weak);
        },
        async loseAnswer() {
          const proxy = resources.use(await startFaultProxy(server));
          void proxy.loseAnswerTo('COMMIT');
          return at(proxy);
        },
        async silent() {
          const proxy = resources.use(await startFaultProxy(server));
          proxy.hang();
          return at(proxy);
        },
        async unreachable() {
          return at({ host: '127.0.0.1', port: await freePort() });
        },
        async hostile() {
          const started = Object.entries(nonsense).map(async ([name, answer]) => ({
            name,
            ...at(resources.use(await startHostileServer(answer))),
          }));
          return Promise.all(started);
        },
        async sibling() {
          const other = await place();
          return {
            options: other.options,
            context: contextOf(other.secret, { url: adminUrl(server, other.admin) }),
          };
        },
        async hold(fields) {
          const client = new pg.Client({ connectionString: fields['url']?.reveal() ?? '' });
          client.on('error', () => undefined);
          await client.connect();
          return {
            isOpen: () =>
              client.query('SELECT 1').then(
                () => true,
                () => false,
              ),
            async [Symbol.asyncDispose]() {
              await client.end();
            },
          };
        },
        [Symbol.asyncDispose]: () => resources.disposeAsync(),
      };
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

function adminUrl({ host, port }: PostgresServer, user: string): string {
  return `postgresql://${user}:${adminPassword}@${host}:${port}/postgres`;
}

const nonsense: Readonly<Record<string, Buffer>> = {
  'a web server': Buffer.from(`HTTP/1.1 200 OK\r\n\r\n${echoCanary}`),
  'an error that quotes': errorResponse(echoCanary),
  'a message of two gigabytes': Buffer.concat([
    Buffer.from([0x52, 0x7f, 0xff, 0xff, 0xff]),
    Buffer.alloc(100_000, 1),
  ]),
  'a flood of zeros': Buffer.alloc(1_000_000),
  'an unknown way to authenticate': Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 99]),
};

/** https://www.postgresql.org/docs/current/protocol-error-fields.html */
function errorResponse(message: string): Buffer {
  const fields = Buffer.from(`SERROR\0CXX000\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
