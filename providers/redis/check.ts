/** Which rights the admin user has, and what of the server a rotation should know; asked without changing anything. */
import { RotatedError } from '../../src/errors.ts';
import type { Finding } from '../../src/provider/provider.ts';
import { type AclUser, readUser } from './acl.ts';
import { type Connection, connect, type Endpoint, type Login } from './connection.ts';
import type { RedisOptions } from './options.ts';

export async function checkAdmin(
  { endpoint, login }: { readonly endpoint: Endpoint; readonly login: Login },
  options: RedisOptions,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = login.username === options.user ? [selfAdmin(options.user)] : [];
  try {
    await using connection = await connect(endpoint, login, signal);
    findings.push(...(await probeRights(connection, options)));
    if (findings.some(({ level }) => level === 'red')) return findings;
    findings.push(...userFindings(await readUser(connection, options.user), options));
    findings.push(...(await serverFindings(connection, options)));
    return findings;
  } catch (error) {
    if (!(error instanceof RotatedError) || error.code !== 'unauthenticated') throw error;
    return [...findings, adminRejected];
  }
}

const adminRejected: Finding = {
  name: 'admin-rejected',
  level: 'red',
  message: 'Redis does not accept the admin credential.',
  why: 'Nothing can be minted or revoked.',
  mend: 'Correct the credential that `admin:` names.',
};

function selfAdmin(user: string): Finding {
  return {
    name: 'self-admin',
    level: 'red',
    message: `The admin user is ${user}, whose passwords rotate.`,
    place: user,
    why: 'Revoking its old password would take away the right to mint the next.',
    mend: 'Use an admin user of its own.',
  };
}

/** What each call would need. `ACL DRYRUN` (Redis 7) asks without doing; where it is missing, reading is all that is tried. */
async function probeRights(connection: Connection, options: RedisOptions): Promise<Finding[]> {
  const { user } = options;
  const needed = [
    ['acl', 'setuser', user],
    ['acl', 'getuser', user],
    ...(options.endSessions === 'all'
      ? [
          ['client', 'list'],
          ['client', 'kill', 'id', '0'],
        ]
      : []),
    ...(options.aclSave === 'aclfile' ? [['acl', 'save']] : []),
    ...(options.aclSave === 'config' ? [['config', 'rewrite']] : []),
  ];
  const whoami = await answer(connection, ['ACL', 'WHOAMI']);
  const missing: string[] = [];
  for (const command of needed) {
    const name = command.slice(0, 2).join('|');
    const reply =
      whoami === 'denied'
        ? 'denied'
        : await answer(connection, ['ACL', 'DRYRUN', String(whoami), ...command]);
    // Without the right to DRYRUN, or without the command: GETUSER itself can be tried without harm.
    const isAllowed =
      reply === 'OK' ||
      (reply === 'denied' && (await answer(connection, ['ACL', 'GETUSER', user])) !== 'denied');
    if (!isAllowed) missing.push(name);
  }
  if (missing.length === 0) return [];
  return [
    {
      name: 'admin-rights',
      level: 'red',
      message: `The admin user may not run ${missing.join(', ')}.`,
      place: options.user,
      why: 'The mint or the revoke would be refused.',
      mend: `ACL SETUSER ADMIN ${missing.map((name) => `+${name}`).join(' ')}.`,
    },
  ];
}

async function answer(connection: Connection, command: readonly string[]): Promise<unknown> {
  try {
    return await connection.send(command, 'none');
  } catch (error) {
    if (error instanceof RotatedError && ['denied', 'unexpected'].includes(error.code))
      return 'denied';
    throw error;
  }
}

function userFindings(found: AclUser | null, { user, endSessions }: RedisOptions): Finding[] {
  if (found === null) {
    return [
      {
        name: 'user-missing',
        level: 'red',
        message: `There is no ACL user ${user}.`,
        place: user,
        why: 'Its rights are not for this program to choose.',
        mend: `ACL SETUSER ${user} on, with the keys and commands its users need.`,
      },
    ];
  }
  const findings: Finding[] = [];
  if (found.anyPassword) {
    findings.push({
      name: 'user-nopass',
      level: 'red',
      message: `The user ${user} accepts any password (nopass).`,
      place: user,
      why: 'No password of it can be revoked or proven dead.',
      mend: `ACL SETUSER ${user} resetpass, then give it a first password.`,
    });
  }
  if (!found.enabled) {
    findings.push({
      name: 'user-off',
      level: 'red',
      message: `The user ${user} is off.`,
      place: user,
      why: 'No password of it would verify.',
      mend: `ACL SETUSER ${user} on.`,
    });
  }
  findings.push(
    endSessions === 'all'
      ? {
          name: 'sessions-shared',
          level: 'amber',
          message: `At the revoke every session of ${user} that was opened before it is ended, also those of the new password.`,
          place: user,
          why: 'Redis does not tell with which password a session logged in.',
          mend: 'Let the clients reconnect by themselves (most do); or set endSessions: none, and old sessions go on.',
        }
      : {
          name: 'sessions-survive',
          level: 'amber',
          message: `Sessions that logged in with a revoked password of ${user} go on.`,
          place: user,
          why: 'endSessions is none.',
          mend: 'Set endSessions: all where a leaked password must not go on working.',
        },
  );
  return findings;
}

async function serverFindings(
  connection: Connection,
  { aclSave }: RedisOptions,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const info = String(await answer(connection, ['INFO']));
  const value = (name: string): string | undefined =>
    new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  if (Number(value('connected_slaves') ?? 0) > 0 || value('cluster_enabled') === '1') {
    findings.push({
      name: 'acl-not-replicated',
      level: 'amber',
      message: 'This server has replicas or is a cluster node.',
      why: 'Redis does not replicate ACL users: the others keep the old passwords.',
      mend: 'Give each node a policy of its own.',
    });
  }
  if (!(await isPersistent(connection, aclSave, value('config_file') ?? ''))) {
    findings.push({
      name: 'acl-not-saved',
      level: 'amber',
      message: 'ACL changes are lost when this server restarts.',
      why: 'Then the new password stops working, and a revoked one may work again.',
      mend: 'Start Redis with an aclfile (aclSave: aclfile), or with a configuration file that it may write.',
    });
  }
  return findings;
}

async function isPersistent(
  connection: Connection,
  aclSave: RedisOptions['aclSave'],
  configFile: string,
): Promise<boolean> {
  if (aclSave === 'none') return false;
  const reply = await answer(connection, ['CONFIG', 'GET', 'aclfile']);
  const aclfile = Array.isArray(reply) ? String(reply[1] ?? '') : null;
  // May not be asked: the explicit settings are taken at their word.
  if (aclfile === null) return aclSave !== 'auto' || configFile !== '';
  if (aclSave === 'aclfile') return aclfile !== '';
  if (aclSave === 'config') return configFile !== '' && aclfile === '';
  return aclfile !== '' || configFile !== '';
}
