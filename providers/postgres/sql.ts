/** The statements that change a login role. Names come from a checked policy, values from us; all are quoted all the same. */
import type { Clock } from '../../src/clock.ts';
import { RotatedError } from '../../src/errors.ts';
import type { Connection, Row } from './connection.ts';
import { type Mark, markText, type Slot } from './slots.ts';

/** Sessions that were being opened while the role was closed appear a moment later. */
const stragglerMs = 100;

/** Serializes everything that we do to one role; PostgreSQL frees it at the end of the transaction. */
export async function lockSlot(connection: Connection, role: string): Promise<void> {
  await connection.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [
    `rotated:${role}`,
  ]);
}

/** Makes the role a login in the group with this SCRAM verifier; with null it is closed and accepts nothing. */
export async function setPassword(
  connection: Connection,
  slot: Slot,
  group: string,
  verifier: string | null,
): Promise<void> {
  const role = identifier(slot.role);
  if (verifier === null) {
    await connection.query(`ALTER ROLE ${role} NOLOGIN PASSWORD NULL`);
    return;
  }
  const login = `LOGIN PASSWORD ${literal(verifier)} VALID UNTIL 'infinity'`;
  await connection.query(`${slot.exists ? 'ALTER' : 'CREATE'} ROLE ${role} ${login}`);
  if (!slot.groups.includes(group)) {
    await connection.query(`GRANT ${identifier(group)} TO ${role}`);
  }
}

export async function setLogin(connection: Connection, slot: Slot, on: boolean): Promise<void> {
  await connection.query(`ALTER ROLE ${identifier(slot.role)} ${on ? 'LOGIN' : 'NOLOGIN'}`);
}

export async function setMark(connection: Connection, role: string, mark: Mark): Promise<void> {
  await connection.query(`COMMENT ON ROLE ${identifier(role)} IS ${literal(markText(mark))}`);
}

/**
 * Ends the role's sessions, again and again until none is left: NOLOGIN only keeps new ones out. Sessions opened later
 * than now belong to a later credential of the same role and stay. Bounded by the signal.
 */
export async function endSessions(
  connection: Connection,
  role: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const [row] = await connection.query('SELECT clock_timestamp()::text AS now');
  let quietRounds = 0;
  while (quietRounds < 2) {
    const ended = await terminate(connection, role, row?.['now']);
    quietRounds = ended.length === 0 ? quietRounds + 1 : 0;
    if (quietRounds < 2) await clock.sleep(stragglerMs, signal);
  }
}

async function terminate(
  connection: Connection,
  role: string,
  startedBy: unknown,
): Promise<readonly Row[]> {
  try {
    return await connection.query(
      // Without pg_read_all_stats the start of another role's session is hidden.
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename = $1 AND pid <> pg_backend_pid() AND (backend_start IS NULL OR backend_start <= $2::timestamptz)`,
      [role, startedBy],
    );
  } catch (error) {
    if (!(error instanceof RotatedError)) throw error;
    throw new RotatedError(
      error.code,
      `The login ${role} is closed, but its open sessions go on: ${error.message}`,
      {
        effect: 'applied',
        next: 'GRANT pg_signal_backend to the admin role; the revoke is tried again.',
      },
    );
  }
}

export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function literal(text: string): string {
  // Verifiers and marks hold no backslash, so `standard_conforming_strings` does not matter.
  return `'${text.replaceAll("'", "''")}'`;
}
