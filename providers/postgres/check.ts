/** Which rights the admin role has: tried for real inside a transaction that is rolled back. */
import { RotatedError } from '../../src/errors.ts';
import type { Finding } from '../../src/provider/provider.ts';
import { type Connection, connect, type Endpoint, type Login } from './connection.ts';
import type { PostgresOptions } from './options.ts';
import { readSlots, type Slot } from './slots.ts';
import { identifier, lockSlot, setMark } from './sql.ts';

export async function checkAdmin(
  { endpoint, login }: { readonly endpoint: Endpoint; readonly login: Login },
  options: PostgresOptions,
  secret: string,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  if (options.roles.includes(login.user)) findings.push(selfAdmin(login.user));
  try {
    await using connection = await connect(endpoint, login, signal);
    findings.push(...(await probeGroup(connection, options)));
    const slots = await readSlots(connection, options.roles);
    for (const slot of slots) {
      findings.push(...slotFindings(slot, options, secret));
      findings.push(...(await probeSlot(connection, slot, options)));
    }
    findings.push(...(await serverFindings(connection)));
    return findings;
  } catch (error) {
    if (!(error instanceof RotatedError) || error.code !== 'unauthenticated') throw error;
    return [...findings, adminRejected];
  }
}

const adminRejected: Finding = {
  name: 'admin-rejected',
  level: 'red',
  message: 'PostgreSQL does not accept the admin credential.',
  why: 'Nothing can be minted or revoked.',
  mend: 'Correct the credential that `admin:` names.',
};

function selfAdmin(user: string): Finding {
  return {
    name: 'self-admin',
    level: 'red',
    message: `The admin role ${user} is one of the two logins that rotate.`,
    place: user,
    why: 'Revoking the old login would take away the right to mint the next.',
    mend: 'Use an admin role of its own.',
  };
}

async function probeGroup(connection: Connection, { grant }: PostgresOptions): Promise<Finding[]> {
  const rows = await connection.query('SELECT rolsuper FROM pg_roles WHERE rolname = $1', [grant]);
  if (rows.length > 0) return [];
  return [
    {
      name: 'grant-missing',
      level: 'red',
      message: `There is no group role ${grant}.`,
      place: grant,
      why: 'The logins take their rights from it.',
      mend: `CREATE ROLE ${identifier(grant)} NOLOGIN, and grant it what the users need.`,
    },
  ];
}

function slotFindings(slot: Slot, { grant }: PostgresOptions, secret: string): Finding[] {
  const findings: Finding[] = [];
  const { role: place, mark } = slot;
  if (slot.superuser) {
    findings.push({
      name: 'role-superuser',
      level: 'red',
      message: `The login ${place} is a superuser.`,
      place,
      why: 'Its holder can read every secret of the server and undo any revoke.',
      mend: `ALTER ROLE ${identifier(place)} NOSUPERUSER.`,
    });
  }
  if (mark !== null && !mark.name.startsWith(`rotated-${secret}-`)) {
    findings.push({
      name: 'role-shared',
      level: 'amber',
      message: `The login ${place} was last set for another secret.`,
      place,
      why: 'Two policies that rotate one login end each other.',
      mend: 'Make sure that no other policy names this role; after a rename nothing is to be done.',
    });
  }
  const others = slot.groups.filter((group) => group !== grant);
  if (others.length > 0) {
    findings.push({
      name: 'role-extra-groups',
      level: 'amber',
      message: `The login ${place} is also a member of ${others.join(', ')}.`,
      place,
      why: 'Rights that only one of the two logins has come and go with every rotation.',
      mend: `Grant these to ${grant} instead.`,
    });
  }
  return findings;
}

/** Everything that mint and revoke do to the role, then rolled back: no other session sees any of it. */
async function probeSlot(
  connection: Connection,
  slot: Slot,
  { grant }: PostgresOptions,
): Promise<Finding[]> {
  const role = identifier(slot.role);
  const rollback = new Error('only a probe');
  try {
    await connection.transaction(async () => {
      // Two that change one role at once: the server would refuse the second with an internal error.
      await lockSlot(connection, slot.role);
      await connection.query(
        slot.exists ? `ALTER ROLE ${role} NOLOGIN PASSWORD NULL` : `CREATE ROLE ${role} NOLOGIN`,
      );
      await connection.query(`GRANT ${identifier(grant)} TO ${role}`);
      await setMark(connection, slot.role, {
        name: 'probe',
        ref: `${slot.role}@probe`,
        revoked: true,
      });
      throw rollback;
    });
    return [];
  } catch (error) {
    if (error === rollback) return [];
    if (!(error instanceof RotatedError)) throw error;
    // A group that does not exist has a finding of its own.
    if (error.code === 'not-found') return [];
    if (error.code === 'conflict') return [];
    if (error.code !== 'denied') throw error;
    return [
      {
        name: 'admin-rights',
        level: 'red',
        message: `The admin role may not change the login ${slot.role} or put it into ${grant}.`,
        place: slot.role,
        why: 'The mint would be refused.',
        mend: `Give it CREATEROLE, ${identifier(grant)} WITH ADMIN OPTION${slot.exists ? `, ${role} WITH ADMIN OPTION` : ''}.`,
      },
    ];
  }
}

async function serverFindings(connection: Connection): Promise<Finding[]> {
  const [row] = await connection.query(
    `SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS signals,
            current_setting('is_superuser') = 'on' AS super,
            current_setting('log_statement') IN ('ddl', 'mod', 'all') AS logs`,
  );
  const findings: Finding[] = [];
  if (row?.['signals'] !== true && row?.['super'] !== true) {
    findings.push({
      name: 'cannot-end-sessions',
      level: 'red',
      message: 'The admin role may not end sessions of the logins.',
      why: 'Sessions survive NOLOGIN and a changed password: a revoked login would go on working where it is connected.',
      mend: 'GRANT pg_signal_backend to the admin role.',
    });
  }
  if (row?.['super'] === true) {
    findings.push({
      name: 'admin-superuser',
      level: 'amber',
      message: 'The admin role is a superuser.',
      why: 'Far more than rotation needs.',
      mend: 'Use a role with CREATEROLE, ADMIN OPTION on the group role, and pg_signal_backend.',
    });
  }
  if (row?.['logs'] === true) {
    findings.push({
      name: 'statements-logged',
      level: 'amber',
      message: 'The server logs the statements that set passwords.',
      why: 'They hold the SCRAM verifier, not the password: enough to impersonate the server, not to log in.',
      mend: "Keep the server's log as private as its tables, or set log_statement for the admin role.",
    });
  }
  return findings;
}
