/** Redis: one ACL user with two passwords; a mint adds the hash of the new one, a revoke takes the hash of the old one away. */
import { createHash } from 'node:crypto';
import { RotatedError } from '../../src/errors.ts';
import {
  defineProvider,
  type Fields,
  type ProviderContext,
  type ProviderSession,
  providerApiVersion,
  Secret,
  type Traits,
} from '../../src/provider/provider.ts';
import { randomText } from '../../src/provider/random-text.ts';
import {
  type AclUser,
  addHash,
  endSessions,
  openSessions,
  persist,
  readUser,
  removeHash,
  removeHashOf,
} from './acl.ts';
import { checkAdmin } from './check.ts';
import {
  adminAccess,
  type Connection,
  connect,
  type Endpoint,
  type Login,
  userEndpoint,
} from './connection.ts';
import { optionsSchema, type RedisOptions } from './options.ts';

/** A command may still lie in a socket when its connection is given up; a second is long for a loopback and a data centre. */
const settleSeconds = 1;

function traits({ passwordsMax }: RedisOptions): Traits {
  return {
    strategy: 'overlap',
    crashClass: 'chosen',
    limits: { liveMax: passwordsMax, lifetimeSecondsMax: Infinity, settleSeconds },
    revokeScope: 'key',
    capabilities: {
      list: true,
      // `off` would refuse both passwords.
      disable: false,
      lastUsed: false,
      tag: false,
      idempotent: true,
      resolve: true,
      proof: 'safe',
    },
    leastPrivilege:
      'An ACL user with +acl|getuser +acl|setuser +acl|save (or +config|rewrite) +client|list +client|kill +info. Redis cannot narrow acl|setuser to one user, so this is as strong as an administrator.',
  };
}

export default defineProvider({
  apiVersion: providerApiVersion,
  id: 'redis',
  options: optionsSchema,
  traits,
  async open(options, context): Promise<ProviderSession> {
    return openSession(options, context);
  },
});

function openSession(options: RedisOptions, context: ProviderContext): ProviderSession {
  const { secret, random, directory, clock } = context;
  const { user } = options;

  async function access(signal: AbortSignal): Promise<{ endpoint: Endpoint; login: Login }> {
    return adminAccess(await context.admin(signal), options, directory);
  }

  async function admin(signal: AbortSignal): Promise<Connection> {
    const { endpoint, login } = await access(signal);
    return connect(endpoint, login, signal);
  }

  /** Where the policy and the admin credential say: a password is sent nowhere else, whatever the fields name. */
  async function usersEndpoint(signal: AbortSignal): Promise<Endpoint> {
    return userEndpoint(options, (await access(signal)).endpoint, directory);
  }

  async function existing(connection: Connection): Promise<AclUser> {
    const found = await readUser(connection, user);
    if (found !== null) return found;
    throw new RotatedError('not-found', `Redis has no ACL user ${user}.`, {
      effect: 'none',
      secret,
      next: `Create it with the rights its users need: ACL SETUSER ${user} on ~prefix:* +@read.`,
    });
  }

  async function isAccepted(fields: Fields, signal: AbortSignal): Promise<boolean> {
    const login = loginOf(fields, user);
    if (login === null) return false;
    try {
      await using connection = await connect(await usersEndpoint(signal), login, signal);
      // Something in between may say OK to any password; Redis knows who we are.
      if ((await connection.send(['ACL', 'WHOAMI'], 'none')) === user) return true;
    } catch (error) {
      if (error instanceof RotatedError && error.code === 'unauthenticated') return false;
      // Logged in, without the right to ask: a user with few commands.
      if (error instanceof RotatedError && error.code === 'denied') return true;
      throw error;
    }
    throw new RotatedError(
      'invalid-answer',
      `The server accepted a login as ${user} and made it someone else.`,
      {
        secret,
        next: 'Check that host and port are those of a Redis server.',
      },
    );
  }

  return {
    async check(signal) {
      return checkAdmin(await access(signal), options, signal);
    },

    async prepare(_request, signal) {
      const password = randomText(random, options.passwordLength);
      return {
        ref: refOf(user, hashOf(password)),
        fields: fieldsOf(user, password, await usersEndpoint(signal)),
      };
    },

    async mint({ prepared }, signal) {
      const password = prepared?.fields['password'];
      if (prepared === null || password === undefined) {
        throw new RotatedError(
          'unexpected',
          'A Redis password must be prepared before it is minted.',
          {
            secret,
            next: 'Report this: the rotation machine left out a step.',
          },
        );
      }
      const { endpoint, login } = await access(signal);
      if (login.username === user) {
        throw new RotatedError(
          'self-admin',
          `The admin credential is ${user}, the user to be rotated.`,
          {
            effect: 'none',
            secret,
            next: 'Use an admin user of its own, which no policy rotates.',
          },
        );
      }
      await using connection = await connect(endpoint, login, signal);
      const hash = hashOf(password.reveal());
      const { hashes, anyPassword, commands } = await existing(connection);
      if (anyPassword) throw acceptsAnything(user, secret);
      if (!hashes.includes(hash)) {
        if (hashes.length >= options.passwordsMax) throw limitReached(user, hashes.length, secret);
        await addHash(connection, user, hash);
      }
      await persist(connection, options.aclSave);
      return { ...prepared, scopes: scopesOf(commands) };
    },

    async verify({ fields }, signal) {
      return (await isAccepted(fields, signal))
        ? { ok: true, identity: user }
        : { ok: false, kind: 'rejected', reason: 'the server does not accept the password' };
    },

    async revoke(ref, signal) {
      const prefix = prefixIn(ref, user);
      if (prefix === null) return;
      await using connection = await admin(signal);
      const found = await readUser(connection, user);
      // Redis itself has ended the sessions of a user that was deleted.
      if (found === null) return;
      const hash = found.hashes.find((one) => one.startsWith(prefix));
      if (options.endSessions === 'none') {
        if (hash !== undefined) await removeHash(connection, user, hash);
        await persist(connection, options.aclSave);
        return;
      }
      // Also where the hash is gone: a revoke that was cut short may have left the sessions, or the change unsaved.
      const doomed =
        hash === undefined
          ? await openSessions(connection, user)
          : await removeHashOf(connection, user, hash);
      await persist(connection, options.aclSave);
      await endSessions(connection, user, doomed, clock, signal);
    },

    async *list(signal) {
      await using connection = await admin(signal);
      const found = await readUser(connection, user);
      for (const hash of found?.hashes ?? []) {
        yield {
          ref: refOf(user, hash),
          scopes: scopesOf(found?.commands ?? ''),
          enabled: found?.enabled === true,
        };
      }
    },

    async resolve(fields, signal) {
      const login = loginOf(fields, user);
      if (login?.password == null) return null;
      const hash = hashOf(login.password);
      await using connection = await admin(signal);
      const found = await readUser(connection, user);
      return found?.hashes.includes(hash) === true ? refOf(user, hash) : null;
    },

    async [Symbol.asyncDispose]() {},
  };
}

function hashOf(password: string): string {
  return createHash('sha256').update(password).digest('hex');
}

/**
 * The hash that Redis shows to its admins, cut short. Safe to print although it has no key: our passwords have at least
 * 131 bits of randomness, so nobody can search for one that fits.
 */
function refOf(user: string, hash: string): string {
  return `${user}#${hash.slice(0, 16)}`;
}

function prefixIn(ref: string, user: string): string | null {
  const prefix = ref.startsWith(`${user}#`) ? ref.slice(user.length + 1) : '';
  return /^[0-9a-f]{16}$/.test(prefix) ? prefix : null;
}

/** Rights are the user's, the same for each of its passwords: one name for them all, short enough to compare. */
function scopesOf(commands: string): readonly string[] {
  return commands
    .split(' ')
    .filter((word) => word !== '')
    .sort();
}

function fieldsOf(username: string, password: string, { host, port, tls }: Endpoint): Fields {
  const at = host.includes(':') ? `[${host}]` : encodeURIComponent(host);
  const scheme = tls === false ? 'redis' : 'rediss';
  const url = `${scheme}://${encodeURIComponent(username)}:${password}@${at}:${port}`;
  const all = { username, password, host, port: String(port), url };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, new Secret(value)]));
}

/** null where the fields hold no password, or are of another user. */
function loginOf(fields: Fields, user: string): Login | null {
  const url = URL.parse(fields['url']?.reveal() ?? '');
  const username = fields['username']?.reveal() ?? decode(url?.username) ?? user;
  const password = fields['password']?.reveal() ?? decode(url?.password);
  return password === undefined || username !== user ? null : { username, password };
}

function decode(part: string | undefined): string | undefined {
  if (part === undefined || part === '') return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function limitReached(user: string, count: number, secret: string): RotatedError {
  return new RotatedError(
    'limit-reached',
    `The Redis user ${user} already has ${count} passwords.`,
    {
      effect: 'none',
      secret,
      next: `Let the older one be revoked, or remove one that nobody uses: ACL GETUSER ${user}, then ACL SETUSER ${user} !HASH.`,
    },
  );
}

function acceptsAnything(user: string, secret: string): RotatedError {
  return new RotatedError('refused', `The Redis user ${user} accepts any password (nopass).`, {
    effect: 'none',
    secret,
    next: `ACL SETUSER ${user} resetpass, then give it a first password.`,
  });
}
