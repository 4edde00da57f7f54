/** PostgreSQL: two login roles in one group role take turns; a mint sets the idle one's password, a revoke closes its role. */
import { RotatedError } from '../../src/errors.ts';
import {
  type Credential,
  defineProvider,
  type Fields,
  type ProviderContext,
  type ProviderSession,
  providerApiVersion,
  Secret,
  type Traits,
  type Verdict,
} from '../../src/provider/provider.ts';
import { randomText } from '../../src/provider/random-text.ts';
import { checkAdmin } from './check.ts';
import {
  adminAccess,
  type Connection,
  connect,
  type Endpoint,
  type Login,
  userEndpoint,
} from './connection.ts';
import { optionsSchema, type PostgresOptions } from './options.ts';
import { scramVerifier } from './scram.ts';
import { endSessions, lockSlot, setLogin, setMark, setPassword } from './sql.ts';
import { infoOf, makeRef, readSlots, refOf, roleOf, type Slot } from './slots.ts';

const traits: Traits = {
  strategy: 'alternate',
  crashClass: 'chosen',
  limits: { liveMax: 2, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
  revokeScope: 'key',
  capabilities: {
    list: true,
    disable: true,
    lastUsed: false,
    tag: true,
    idempotent: true,
    resolve: true,
    proof: 'safe',
  },
  leastPrivilege:
    'A role with CREATEROLE, ADMIN OPTION on the group role (and on the two logins, where it did not create them), and membership in pg_signal_backend. Not a superuser.',
};

export default defineProvider({
  apiVersion: providerApiVersion,
  id: 'postgres',
  options: optionsSchema,
  traits: () => traits,
  async open(options, context): Promise<ProviderSession> {
    return openSession(options, context);
  },
});

function openSession(options: PostgresOptions, context: ProviderContext): ProviderSession {
  const { secret, random, directory, clock } = context;

  async function access(signal: AbortSignal): Promise<{ endpoint: Endpoint; login: Login }> {
    return adminAccess(await context.admin(signal), options, directory);
  }

  async function admin(signal: AbortSignal): Promise<Connection> {
    const { endpoint, login } = await access(signal);
    return connect(endpoint, login, signal);
  }

  /** The slot that `ref` names, if that is still what it holds; locked until the transaction ends. */
  async function lockedSlot(connection: Connection, role: string): Promise<Slot> {
    await lockSlot(connection, role);
    const [slot] = await readSlots(connection, [role]);
    if (slot === undefined) throw new RotatedError('unexpected', 'No slot was read.', { secret });
    return slot;
  }

  function limitReached(): RotatedError {
    return new RotatedError(
      'limit-reached',
      `Both logins ${options.roles.join(' and ')} are in use: a third credential has no role.`,
      {
        effect: 'none',
        secret,
        next: 'Let the older one be revoked first. A login that nobody uses: ALTER ROLE … NOLOGIN.',
      },
    );
  }

  /** The role that the current credential does not use. */
  function idleSlot(slots: readonly Slot[], current: Credential | null): Slot {
    const role = current === null ? null : (roleIn(current.ref) ?? userOf(current.fields));
    const idle = slots.find((slot) => slot.role !== role && !slot.canLogin && refOf(slot) === null);
    if (idle === undefined) throw limitReached();
    return idle;
  }

  function roleIn(ref: string | null): string | null {
    const role = ref === null ? '' : roleOf(ref);
    return options.roles.includes(role) ? role : null;
  }

  /** The two conditions under which a slot may be closed or opened: the ref names one of ours, and it is still what it holds. */
  async function changeHeld(
    ref: string,
    signal: AbortSignal,
    change: (connection: Connection, slot: Slot) => Promise<void>,
  ): Promise<boolean> {
    const role = roleIn(ref);
    if (role === null) return false;
    await using connection = await admin(signal);
    const isHeld = await connection.transaction(async () => {
      const slot = await lockedSlot(connection, role);
      // A slot that was given to another mint since, or opened by hand: that one is not ours to touch.
      const isRevoked = slot.mark?.ref === ref && slot.mark.revoked && !slot.canLogin;
      if (refOf(slot) !== ref && !isRevoked) return false;
      await change(connection, slot);
      return true;
    });
    if (isHeld) await endSessions(connection, role, clock, signal);
    return isHeld;
  }

  return {
    async check(signal) {
      return checkAdmin(await access(signal), options, secret, signal);
    },

    async prepare({ rotation, current }, signal) {
      await using connection = await admin(signal);
      const { role } = idleSlot(await readSlots(connection, options.roles), current);
      const password = randomText(random, options.passwordLength);
      return {
        ref: makeRef(role, rotation, random.bytes(4).toString('hex')),
        fields: fieldsOf(role, password, await usersEndpoint(signal)),
      };
    },

    async mint({ prepared, name, inventory }, signal) {
      const role = prepared === null ? null : roleIn(prepared.ref);
      const password = prepared?.fields['password'];
      if (prepared === null || role === null || password === undefined) {
        throw new RotatedError(
          'unexpected',
          'A PostgreSQL login must be prepared before it is minted.',
          {
            secret,
            next: 'Report this: the rotation machine left out a step.',
          },
        );
      }
      const { endpoint, login } = await access(signal);
      if (options.roles.includes(login.user)) throw selfAdmin(login.user, secret);
      const verifier = await scramVerifier(password.reveal(), random.bytes(16));
      await using connection = await connect(endpoint, login, signal);
      const groups = await connection.transaction(async () => {
        const slot = await lockedSlot(connection, role);
        const held = refOf(slot);
        const before = inventory.find((one) => roleOf(one.ref) === role)?.ref ?? null;
        if (held !== null && held !== prepared.ref) {
          // Live before we began: no room. Live since then: another rotation took the slot while this one slept.
          throw held === before ? limitReached() : slotTaken(role, secret);
        }
        if (slot.mark?.ref === prepared.ref && slot.mark.revoked) throw slotTaken(role, secret);
        await setPassword(connection, slot, options.grant, verifier);
        await setMark(connection, role, { name, ref: prepared.ref, revoked: false });
        const [after] = await readSlots(connection, [role]);
        return after?.groups ?? [];
      });
      return { ...prepared, scopes: groups };
    },

    async verify({ fields }, signal) {
      const login = loginOf(fields);
      if (login === null) return rejected('it holds no username and password');
      return tryLogin(login, await usersEndpoint(signal), options.grant, signal);
    },

    async disable(ref, signal) {
      await changeHeld(ref, signal, (connection, slot) => setLogin(connection, slot, false));
    },

    async enable(ref, signal) {
      const role = roleIn(ref);
      await using connection = await admin(signal);
      const isBack = await connection.transaction(async () => {
        if (role === null) return false;
        const slot = await lockedSlot(connection, role);
        if (slot.mark?.ref !== ref || slot.mark.revoked) return false;
        await setLogin(connection, slot, true);
        return true;
      });
      if (isBack) return;
      throw new RotatedError('not-found', `${ref} is no longer what its role holds.`, {
        secret,
        next: 'It was revoked or replaced; rotate to get a new one.',
      });
    },

    async revoke(ref, signal) {
      await changeHeld(ref, signal, async (connection, slot) => {
        await setPassword(connection, slot, options.grant, null);
        const name = slot.mark?.name ?? secret;
        await setMark(connection, slot.role, { name, ref, revoked: true });
      });
    },

    async *list(signal) {
      await using connection = await admin(signal);
      for (const slot of await readSlots(connection, options.roles)) {
        const info = infoOf(slot);
        if (info !== null) yield info;
      }
    },

    async resolve(fields, signal) {
      const login = loginOf(fields);
      if (login === null || !options.roles.includes(login.user)) return null;
      // Only a login that works now is what its role holds; an older one of the same role must not name its successor.
      const endpoint = await usersEndpoint(signal);
      const verdict = await tryLogin(login, endpoint, options.grant, signal);
      if (!verdict.ok && verdict.kind === 'rejected') return null;
      await using connection = await admin(signal);
      const [slot] = await readSlots(connection, [login.user]);
      return slot === undefined ? null : refOf(slot);
    },

    async [Symbol.asyncDispose]() {},
  };

  /** Where the policy and the admin credential say: a password is sent nowhere else, whatever the fields name. */
  async function usersEndpoint(signal: AbortSignal): Promise<Endpoint> {
    return userEndpoint(options, (await access(signal)).endpoint, directory);
  }
}

async function tryLogin(
  login: Login,
  endpoint: Endpoint,
  group: string,
  signal: AbortSignal,
): Promise<Verdict> {
  try {
    await using connection = await connect(endpoint, login, signal);
    const [row] = await connection.query(
      `SELECT current_user::text AS identity,
              EXISTS (SELECT FROM pg_roles g WHERE g.rolname = $1 AND pg_has_role(current_user, g.oid, 'MEMBER')) AS member,
              ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                    JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = current_user ORDER BY 1) AS groups`,
      [group],
    );
    if (row?.['member'] !== true) {
      return { ok: false, kind: 'restricted', reason: `the login is no member of ${group}` };
    }
    const scopes = [...new Set(row['groups'] as string[])];
    return { ok: true, identity: String(row['identity']), scopes };
  } catch (error) {
    if (error instanceof RotatedError && error.code === 'unauthenticated') {
      return rejected('the server does not accept the login');
    }
    if (error instanceof RotatedError && error.code === 'denied') {
      return { ok: false, kind: 'restricted', reason: 'the login may not use the database' };
    }
    throw error;
  }
}

function rejected(reason: string): Verdict {
  return { ok: false, kind: 'rejected', reason };
}

function fieldsOf(role: string, password: string, { host, port, database }: Endpoint): Fields {
  const at = host.includes(':') ? `[${host}]` : encodeURIComponent(host);
  const url = `postgresql://${encodeURIComponent(role)}:${password}@${at}:${port}/${encodeURIComponent(database)}`;
  const all = { username: role, password, host, port: String(port), database, url };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, new Secret(value)]));
}

function loginOf(fields: Fields): Login | null {
  const user = userOf(fields);
  const url = URL.parse(fields['url']?.reveal() ?? '');
  const password = fields['password']?.reveal() ?? decode(url?.password);
  return user === null || password === null ? null : { user, password };
}

function userOf(fields: Fields): string | null {
  return fields['username']?.reveal() ?? decode(URL.parse(fields['url']?.reveal() ?? '')?.username);
}

function decode(part: string | undefined): string | null {
  if (part === undefined || part === '') return null;
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function selfAdmin(user: string, secret: string): RotatedError {
  return new RotatedError(
    'self-admin',
    `The admin credential is ${user}, one of the two logins to be rotated.`,
    {
      effect: 'none',
      secret,
      next: 'Use an admin role of its own, which no policy rotates.',
    },
  );
}

function slotTaken(role: string, secret: string): RotatedError {
  return new RotatedError(
    'conflict',
    `The login ${role} was given to another rotation since this one began.`,
    {
      effect: 'none',
      secret,
      next: 'Nothing to do: this rotation gives up its login.',
    },
  );
}
