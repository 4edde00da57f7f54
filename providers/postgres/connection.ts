/** One connection to PostgreSQL: ends with its signal, and throws only RotatedErrors that quote nothing the server said. */
import type { EventEmitter } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { type ErrorCode, RotatedError } from '../../src/errors.ts';
import type { Fields } from '../../src/provider/provider.ts';
import type { PostgresOptions } from './options.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly tls: ConnectionOptions | false;
}

export interface Login {
  readonly user: string;
  readonly password: string;
}

export type Row = Readonly<Record<string, unknown>>;

export interface Connection extends AsyncDisposable {
  query(sql: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** Commits what `run` did. A failure before the commit has effect none, one of the commit itself unknown. */
  transaction<T>(run: () => Promise<T>): Promise<T>;
}

/** Far above what any of our queries answers; a server that sends more is none. */
const answerBytesMax = 8 * 1024 * 1024;
/** An idle role's row is locked only by another change of that role. */
const lockTimeoutMs = 5_000;

/** `unauthenticated` and `unavailable` have effect none: nothing was sent yet. */
export async function connect(
  endpoint: Endpoint,
  login: Login,
  signal: AbortSignal,
): Promise<Connection> {
  // Inside, so that a deployment without this issuer never loads the driver.
  const { default: pg } = await import('pg');
  signal.throwIfAborted();
  const socket = new net.Socket();
  const client = new pg.Client({
    ...login,
    host: endpoint.host,
    port: endpoint.port,
    database: endpoint.database,
    ssl: endpoint.tls,
    application_name: 'rotated',
    stream: () => socket,
  });
  guard(socket);
  // Not in the driver's types: after the upgrade another stream is read from.
  const { connection } = client as unknown as { connection: EventEmitter & { stream: net.Socket } };
  connection.once('sslconnect', () => guard(connection.stream));
  // An idle connection that breaks says so here; whoever uses it next hears of it again.
  client.on('error', () => undefined);
  const stop = (): void => void socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  const close = async (): Promise<void> => {
    signal.removeEventListener('abort', stop);
    // A goodbye would wait for the server; the server notices a closed socket just as well.
    socket.destroy();
    await client.end().catch(() => undefined);
  };
  let committing = false;

  async function query(sql: string, values: readonly unknown[] = []): Promise<readonly Row[]> {
    try {
      // Without values the simple protocol: one message, as DDL needs it.
      const result =
        values.length === 0 ? await client.query(sql) : await client.query(sql, [...values]);
      return result.rows as Row[];
    } catch (error) {
      throw sanitized(error, signal, committing ? 'unknown' : 'none');
    }
  }

  try {
    await client.connect();
  } catch (error) {
    await close();
    throw sanitized(error, signal, 'none');
  }

  return {
    query,
    async transaction(run) {
      // Here rather than at connect: a pooler refuses settings it does not know.
      await query(`BEGIN; SET LOCAL lock_timeout = ${lockTimeoutMs}`);
      let result: Awaited<ReturnType<typeof run>>;
      try {
        result = await run();
      } catch (error) {
        // The connection may be gone, and then so is the transaction.
        await query('ROLLBACK').catch(() => undefined);
        throw error;
      }
      committing = true;
      await query('COMMIT');
      committing = false;
      return result;
    },
    [Symbol.asyncDispose]: close,
  };
}

/** Throws `invalid-answer` where the admin credential names no user; the values are never quoted. */
export async function adminAccess(
  admin: Fields,
  options: PostgresOptions,
  directory: string,
): Promise<{ readonly endpoint: Endpoint; readonly login: Login }> {
  const url = parseUrl(admin['url']?.reveal());
  const text = (name: string): string | undefined => admin[name]?.reveal();
  const user = text('username') ?? text('user') ?? decoded(url?.username);
  if (user === undefined) {
    throw new RotatedError(
      'provider-options',
      'The admin credential of PostgreSQL names no user.',
      {
        next: 'Give it the fields username and password (and host, port, database), or one field url.',
      },
    );
  }
  const host = text('host') ?? decoded(url?.hostname) ?? options.host ?? '127.0.0.1';
  return {
    login: { user, password: text('password') ?? decoded(url?.password) ?? '' },
    endpoint: {
      host,
      port: Number(text('port') ?? decoded(url?.port) ?? options.port ?? 5432),
      database:
        text('database') ?? decoded(url?.pathname.slice(1)) ?? options.database ?? 'postgres',
      tls: await tlsOf(options, host, url?.searchParams.get('sslmode') ?? null, directory),
    },
  };
}

/** Where users of the minted login connect: as the options say, else where the admin does. */
export async function userEndpoint(
  options: PostgresOptions,
  admin: Endpoint,
  directory: string,
): Promise<Endpoint> {
  const host = options.host ?? admin.host;
  return {
    host,
    port: options.port ?? admin.port,
    database: options.database ?? admin.database,
    tls: host === admin.host ? admin.tls : await tlsOf(options, host, null, directory),
  };
}

/** SQLSTATE → what it means here; by class (two characters) where the code itself is not listed. */
const states: Readonly<Record<string, ErrorCode>> = {
  '28': 'unauthenticated',
  '42501': 'denied',
  '3D000': 'not-found',
  '42704': 'not-found',
  '08': 'unavailable',
  '53': 'unavailable',
  '57P': 'unavailable',
  '57014': 'timeout',
  '55P03': 'conflict',
  '40': 'conflict',
};

/** The server's messages quote statements and values, so only the SQLSTATE is kept. */
function sanitized(error: unknown, signal: AbortSignal, effect: 'none' | 'unknown'): RotatedError {
  if (error instanceof RotatedError) return error;
  if (signal.aborted) {
    return new RotatedError('timeout', 'The call to PostgreSQL was ended at its deadline.', {
      effect,
    });
  }
  const code = (error as { code?: unknown }).code;
  if (typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code)) {
    const known = states[code] ?? states[code.slice(0, 3)] ?? states[code.slice(0, 2)];
    return new RotatedError(known ?? 'unexpected', `PostgreSQL refused with SQLSTATE ${code}.`, {
      effect,
      next: nextStep(known),
    });
  }
  const system = typeof code === 'string' && /^E[A-Z]{3,15}$/.test(code) ? ` (${code})` : '';
  return new RotatedError('unavailable', `The connection to PostgreSQL failed${system}.`, {
    effect,
    next: 'Check host, port and TLS settings, and that the server runs.',
  });
}

function nextStep(code: ErrorCode | undefined): string {
  if (code === 'denied') {
    return 'Give the admin role CREATEROLE, ADMIN OPTION on the group role and on both logins, and pg_signal_backend.';
  }
  if (code === 'unauthenticated') return 'Check the admin credential that the policy names.';
  return "Look the code up in PostgreSQL's manual, appendix A, and in the server's log.";
}

/**
 * The driver parses inside the stream's 'data' event, where what it throws at a malformed message would end this whole
 * process; and it would buffer without end. Both end the connection instead.
 */
function guard(stream: net.Socket): void {
  const emit = stream.emit.bind(stream) as (event: string | symbol, ...args: unknown[]) => boolean;
  let bytes = 0;
  stream.emit = (event: string | symbol, ...args: unknown[]): boolean => {
    if (event !== 'data') return emit(event, ...args);
    bytes += Buffer.isBuffer(args[0]) ? args[0].length : 0;
    try {
      if (bytes <= answerBytesMax) return emit(event, ...args);
    } catch {
      // Not handed on: it may quote the message.
    }
    stream.destroy(new Error('not an answer of PostgreSQL'));
    return true;
  };
}

async function tlsOf(
  { tls, ca }: PostgresOptions,
  host: string,
  sslmode: string | null,
  directory: string,
): Promise<ConnectionOptions | false> {
  const mode = tls === 'auto' ? autoTls(host, sslmode) : tls;
  if (mode === 'off') return false;
  const trust = ca === undefined ? {} : { ca: await readCa(path.resolve(directory, ca)) };
  const servername = net.isIP(host) === 0 ? { servername: host } : {};
  return { ...trust, ...servername, rejectUnauthorized: mode === 'verify' };
}

function autoTls(host: string, sslmode: string | null): 'off' | 'verify' | 'encrypt' {
  if (sslmode === 'disable') return 'off';
  if (sslmode === 'require') return 'encrypt';
  if (sslmode === 'verify-ca' || sslmode === 'verify-full') return 'verify';
  const isHere = host.startsWith('/') || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
  return isHere ? 'off' : 'verify';
}

async function readCa(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch {
    throw new RotatedError(
      'provider-options',
      `The file of certificate authorities ${file} cannot be read.`,
      {
        next: 'Correct `ca` in the policy, or make the file readable.',
      },
    );
  }
}

function parseUrl(text: string | undefined): URL | null {
  if (text === undefined) return null;
  const url = URL.parse(text);
  if (url !== null && /^postgres(ql)?:$/.test(url.protocol)) return url;
  throw new RotatedError(
    'provider-options',
    'The url of the PostgreSQL admin credential cannot be read.',
    {
      next: 'Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters percent-encoded.',
    },
  );
}

function decoded(part: string | undefined): string | undefined {
  if (part === undefined || part === '') return undefined;
  try {
    return decodeURIComponent(part.replace(/^\[|\]$/g, ''));
  } catch {
    return part;
  }
}
