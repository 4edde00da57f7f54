/** Whether PostgreSQL lets a login in, and what it says where it does not. */
import { Client } from 'pg';
import { database } from './messages.ts';

export interface Login {
  readonly generation: number;
  readonly user: string;
  readonly password: string;
}

export type Attempt =
  | { readonly accepted: true }
  | { readonly accepted: false; readonly code: string; readonly message: string };

/**
 * SQLSTATE class 28, "Invalid Authorization Specification": the issuer's own no. Anything else (no connection, too many of
 * them) proves nothing about the login, and throws.
 */
const refusalClass = '28';

export async function tryLogin(port: number, login: Login): Promise<Attempt> {
  const { user, password } = login;
  const client = new Client({ host: '127.0.0.1', port, database, user, password });
  try {
    await client.connect();
    await client.query('SELECT 1');
    return { accepted: true };
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    if (code?.startsWith(refusalClass) !== true) throw error;
    return { accepted: false, code, message: message ?? '' };
  } finally {
    await client.end().catch(() => undefined);
  }
}
