/** Which credential each of the two login roles holds: kept as a comment on the role, so that the server itself says it. */
import type { CredentialInfo, Ref } from '../../src/provider/provider.ts';
import type { Connection } from './connection.ts';

export interface Slot {
  readonly role: string;
  readonly exists: boolean;
  readonly canLogin: boolean;
  readonly superuser: boolean;
  /** The groups it is a direct member of, sorted: the rights of its credential. */
  readonly groups: readonly string[];
  /** What our comment says; null where there is none of ours. */
  readonly mark: Mark | null;
}

export interface Mark {
  /** The mint that set it: `rotated-<secret>-<rotation>-<attempt>`. */
  readonly name: string;
  readonly ref: Ref;
  readonly revoked: boolean;
}

/** The credential of a role that was there before us, or was changed by hand since. */
const unmarked = 'initial';

export function makeRef(role: string, rotation: string, salt: string): Ref {
  return `${role}@${rotation}-${salt}`;
}

export function roleOf(ref: Ref): string {
  return ref.slice(0, Math.max(0, ref.indexOf('@')));
}

/** The ref of what the role accepts now; null where it accepts nothing for good (never made, or revoked). */
export function refOf(slot: Slot): Ref | null {
  if (slot.mark !== null && !slot.mark.revoked) return slot.mark.ref;
  return slot.canLogin ? `${slot.role}@${unmarked}` : null;
}

export function infoOf(slot: Slot): CredentialInfo | null {
  const ref = refOf(slot);
  if (ref === null) return null;
  const name = slot.mark?.ref === ref ? { name: slot.mark.name } : {};
  return { ref, ...name, scopes: slot.groups, enabled: slot.canLogin };
}

export async function readSlots(
  connection: Connection,
  roles: readonly string[],
): Promise<readonly Slot[]> {
  const rows = await connection.query(
    `SELECT r.rolname, r.rolcanlogin, r.rolsuper, shobj_description(r.oid, 'pg_authid') AS comment,
            ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                  WHERE m.member = r.oid ORDER BY 1) AS groups
       FROM pg_roles r WHERE r.rolname = ANY($1)`,
    [roles],
  );
  return roles.map((role) => {
    const row = rows.find((one) => one['rolname'] === role);
    return {
      role,
      exists: row !== undefined,
      canLogin: row?.['rolcanlogin'] === true,
      superuser: row?.['rolsuper'] === true,
      groups: [...new Set((row?.['groups'] ?? []) as string[])],
      mark: parseMark(row?.['comment']),
    };
  });
}

export function markText({ name, ref, revoked }: Mark): string {
  return `rotated ${encodeURIComponent(name)} ${ref}${revoked ? ' revoked' : ''}`;
}

function parseMark(comment: unknown): Mark | null {
  if (typeof comment !== 'string') return null;
  const match = /^rotated (\S+) (\S+@\S+?)( revoked)?$/.exec(comment);
  const [, name, ref, revoked] = match ?? [];
  if (name === undefined || ref === undefined) return null;
  try {
    return { name: decodeURIComponent(name), ref, revoked: revoked !== undefined };
  } catch {
    return null;
  }
}
