/** The `redis` provider under contract: a real server, an admin with no more rights than the README asks for. */
import { createClient } from '@redis/client';
import type { ContractSubject, Variant } from '../../../src/provider/contract.ts';
import redis from '../../../providers/redis/index.ts';
import { startFaultProxy, startHostileServer } from '../../support/servers/fault-proxy.ts';
import { freePort } from '../../support/servers/free-port.ts';
import { type RedisServer, startRedis } from '../../support/servers/redis.ts';
import { contextOf, echoCanary, replaced, shifted } from './world.ts';

const adminPassword = 'canary-of-the-admin-2c4e';
/** As the README says. */
const adminRights = [
  '+acl|getuser',
  '+acl|setuser',
  '+acl|save',
  '+acl|whoami',
  '+acl|dryrun',
  '+client|list',
  '+client|kill',
  '+config|get',
  '+info',
];

export interface RedisSubject extends ContractSubject {
  readonly redis: RedisServer;
}

export async function redisSubject(): Promise<RedisSubject> {
  const server = await startRedis({ persist: 'aclfile' });
  let worlds = 0;

  async function place(): Promise<{ user: string; admin: string; secret: string }> {
    const n = ++worlds;
    const [user, admin] = [`cache-${n}`, `admin-${n}`];
    await server.command('ACL', 'SETUSER', user, 'reset', 'on', '~*', '+@read', '+ping');
    await server.command(
      'ACL',
      'SETUSER',
      admin,
      'reset',
      'on',
      `>${adminPassword}`,
      ...adminRights,
    );
    return { user, admin, secret: user };
  }

  return {
    name: 'redis',
    server: 'Redis',
    version: server.version,
    provider: redis,
    redis: server,
    skips: [
      {
        name: 'a person is told what to do, and nothing has changed',
        reason: 'no person is needed',
      },
      {
        name: 'a disabled credential is refused until it is enabled',
        reason: 'Redis can switch off a user, and with it both passwords, but not one password',
      },
      {
        name: 'a credential that is refused at first verifies within the settle time',
        reason:
          'Redis runs one command at a time: an added password is in force for the next login',
      },
    ],
    async world() {
      const resources = new AsyncDisposableStack();
      const { user, admin, secret } = await place();
      const options = { user };
      const at = (
        { host, port }: { readonly host: string; readonly port: number },
        username = admin,
      ): Variant => ({
        options,
        context: contextOf(secret, { username, password: adminPassword, host, port: String(port) }),
      });
      return {
        ...at(server),
        canaries: [echoCanary],
        wrong(fields) {
          const password = fields['password']?.reveal() ?? '';
          return replaced(fields, password, shifted(password));
        },
        async denied() {
          const weak = `${admin}-weak`;
          const rights = ['+acl|whoami', '+acl|getuser', '+acl|dryrun'];
          await server.command(
            'ACL',
            'SETUSER',
            weak,
            'reset',
            'on',
            `>${adminPassword}`,
            ...rights,
          );
          return at(server, weak);
        },
        async loseAnswer() {
          const proxy = resources.use(await startFaultProxy(server));
          void proxy.loseAnswerTo('SETUSER');
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
            ...at(resources.use(await startHostileServer(Buffer.from(answer)))),
          }));
          return Promise.all(started);
        },
        async sibling() {
          const other = await place();
          const url = `redis://${other.admin}:${adminPassword}@${server.host}:${server.port}`;
          return { options: { user: other.user }, context: contextOf(other.secret, { url }) };
        },
        async hold(fields) {
          const client = createClient({
            url: fields['url']?.reveal() ?? '',
            RESP: 2,
            disableClientInfo: true,
            socket: { reconnectStrategy: false },
          });
          client.on('error', () => undefined);
          await client.connect();
          return {
            isOpen: () =>
              client.ping().then(
                () => true,
                () => false,
              ),
            async [Symbol.asyncDispose]() {
              if (client.isOpen) client.destroy();
            },
          };
        },
        [Symbol.asyncDispose]: () => resources.disposeAsync(),
      };
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

const nonsense: Readonly<Record<string, string>> = {
  'a web server': `HTTP/1.1 200 OK\r\n\r\n${echoCanary}`,
  'one that says OK to everything': '+OK\r\n',
  'an error that quotes': `-ERR ${echoCanary}\r\n`,
  'an array of two billion': '*2000000000\r\n+OK\r\n',
  'arrays within arrays': '*1\r\n'.repeat(100_000),
  'a text of two gigabytes': `$2000000000\r\n${'x'.repeat(100_000)}`,
  'a user that is none': '*2\r\n$5\r\nflags\r\n:1\r\n',
};
