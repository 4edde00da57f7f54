import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isRotatedError } from '../../src/errors.ts';
import type {
  Credential,
  Fields,
  Minted,
  MintRequest,
  ProviderContext,
  ProviderSession,
} from '../../src/provider/provider.ts';
import { type PostgresServer, startPostgres } from '../../test/support/servers/postgres.ts';
import { contextOf } from '../../test/contract/subjects/world.ts';
import { connect } from './connection.ts';
import provider from './index.ts';
import { optionsSchema } from './options.ts';
import { scramVerifier } from './scram.ts';

const adminPassword = 'admin-of-this-test';
/** Never: the runner bounds each test by itself. */
const signal = new AbortController().signal;
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server?.stop();
});

interface Place {
  readonly roles: [string, string];
  readonly grant: string;
  readonly context: ProviderContext;
  open(context?: ProviderContext): Promise<ProviderSession>;
  mint(session: ProviderSession, current?: Credential | null): Promise<Minted>;
  request(session: ProviderSession, current?: Credential | null): Promise<MintRequest>;
}

let places = 0;
async function place(): Promise<Place> {
  const n = ++places;
  const [admin, grant] = [`admin_${n}`, `grant_${n}`];
  const roles: [string, string] = [`login_a_${n}`, `login_b_${n}`];
  await server.sql(
    `CREATE ROLE ${grant}; CREATE ROLE ${admin} LOGIN CREATEROLE PASSWORD '${adminPassword}';
     GRANT ${grant} TO ${admin} WITH ADMIN OPTION; GRANT pg_signal_backend TO ${admin}`,
  );
  const context = contextOf(`s${n}`, adminOf(admin));
  const options = optionsSchema.parse({ roles, grant });
  let rotations = 0;
  const request: Place['request'] = async (session, current = null) => {
    const rotation = `r${++rotations}`;
    const base = { secret: `s${n}`, rotation, generation: rotations, current };
    const inventory = [];
    for await (const info of session.list?.(signal) ?? []) inventory.push(info);
    return {
      ...base,
      name: `rotated-s${n}-${rotation}-1`,
      idempotencyToken: '0'.repeat(32),
      inventory,
      prepared: (await session.prepare?.(base, signal)) ?? null,
      predecessor: null,
    };
  };
  return {
    roles,
    grant,
    context,
    open: (other = context) => provider.open(options, other),
    request,
    mint: async (session, current = null) => session.mint(await request(session, current), signal),
  };
}

function adminOf(username: string): Record<string, string> {
  return {
    username,
    password: adminPassword,
    host: server.host,
    port: String(server.port),
    database: 'postgres',
  };
}

async function failure(work: Promise<unknown>): Promise<{ code: string; effect: string }> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!isRotatedError(error)) throw new Error('no RotatedError');
  return { code: error.code, effect: error.effect };
}

async function login(fields: Fields): Promise<string> {
  const client = new pg.Client({ connectionString: fields['url']?.reveal() ?? '' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query<{ who: string }>('SELECT current_user AS who');
    return rows[0]?.who ?? '';
  } finally {
    await client.end();
  }
}

test("no password ever stands in the server's log, which logs every statement", async () => {
  const { open, mint, roles } = await place();
  await using session = await open();
  const first = await mint(session);
  const second = await mint(session, first);
  expect(await login(first.fields)).toBe(roles[0]);
  expect(await login(second.fields)).toBe(roles[1]);
  await session.revoke(first.ref, signal);
  const log = server.log();
  // A positive control: the statements are there.
  expect(log).toContain(`ROLE "${roles[0]}" LOGIN PASSWORD`);
  expect(log).toContain('SCRAM-SHA-256$4096:');
  for (const { fields } of [first, second]) {
    expect(log).not.toContain(fields['password']?.reveal() ?? 'missing');
  }
});

test("our verifier is the server's own, byte for byte", async () => {
  await server.sql(`CREATE ROLE scram_check LOGIN PASSWORD 'pencil'`);
  const [row] = await server.sql(`SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_check'`);
  const stored = String(row?.['rolpassword']);
  const salt = Buffer.from(/^SCRAM-SHA-256\$4096:([^$]+)\$/.exec(stored)?.[1] ?? '', 'base64');
  expect(await scramVerifier('pencil', salt)).toBe(stored);
});

test('a mint that was held up until its login was given to another changes nothing', async () => {
  const { open, mint, request } = await place();
  await using session = await open();
  const first = await mint(session);
  // Prepared for the second login, then stopped for a long time.
  const sleeper = await request(session, first);
  const second = await mint(session, first);
  expect(await failure(session.mint(sleeper, signal))).toEqual({
    code: 'conflict',
    effect: 'none',
  });
  expect((await session.verify(second, signal)).ok).toBe(true);
});

test('a mint that was revoked meanwhile does not come back to life', async () => {
  const { open, request } = await place();
  await using session = await open();
  const late = await request(session);
  await session.mint(late, signal);
  await session.revoke(late.prepared?.ref ?? '', signal);
  expect(await failure(session.mint(late, signal))).toEqual({ code: 'conflict', effect: 'none' });
});

test('a revoke that is cut off after closing the login ends its sessions when it is tried again', async () => {
  const { open, mint, roles } = await place();
  await using session = await open();
  const { ref, fields } = await mint(session);
  const client = new pg.Client({ connectionString: fields['url']?.reveal() ?? '' });
  client.on('error', () => undefined);
  await client.connect();
  await server.sql(
    `ALTER ROLE ${roles[0]} NOLOGIN; COMMENT ON ROLE ${roles[0]} IS 'rotated x ${ref} revoked'`,
  );
  await client.query('SELECT 1');
  await session.revoke(ref, signal);
  await expect(client.query('SELECT 1')).rejects.toThrow();
  await client.end();
});

test('a login that was opened by hand after its revoke is not closed by a second one', async () => {
  const { open, mint, roles } = await place();
  await using session = await open();
  const { ref } = await mint(session);
  await session.revoke(ref, signal);
  await server.sql(`ALTER ROLE ${roles[0]} LOGIN PASSWORD 'by-hand'`);
  await session.revoke(ref, signal);
  const [row] = await server.sql(`SELECT rolcanlogin FROM pg_roles WHERE rolname = '${roles[0]}'`);
  expect(row?.['rolcanlogin']).toBe(true);
});

test('a login that was there before is found by its password, and its rotation takes the other', async () => {
  const { open, mint, roles, grant, context } = await place();
  await server.sql(
    `CREATE ROLE ${roles[1]} LOGIN PASSWORD 'chosen-by-hand' IN ROLE ${grant};
     GRANT ${roles[1]} TO admin_${places} WITH ADMIN OPTION`,
  );
  await using session = await open();
  const { username: _username, ...rest } = await context.admin(signal);
  const fields = {
    ...rest,
    username: { reveal: () => roles[1] },
    password: { reveal: () => 'chosen-by-hand' },
  } as unknown as Fields;
  const ref = await session.resolve?.(fields, signal);
  expect(ref).toBe(`${roles[1]}@initial`);
  const fresh = await mint(session, { ref: ref ?? null, fields });
  expect(fresh.fields['username']?.reveal()).toBe(roles[0]);
  await session.revoke(ref ?? '', signal);
  expect((await session.verify({ ref: null, fields }, signal)).ok).toBe(false);
  expect(await session.resolve?.(fields, signal)).toBe(null);
});

test('the rights of a new login are told, so that a lost or gained one shows', async () => {
  const { open, mint, roles, grant } = await place();
  await using session = await open();
  const first = await mint(session);
  expect(first.scopes).toEqual([grant]);
  expect(await session.verify(first, signal)).toEqual({
    ok: true,
    identity: roles[0],
    scopes: [grant],
  });
  await server.sql(`REVOKE ${grant} FROM ${roles[0]} GRANTED BY admin_${places}`);
  expect(await session.verify(first, signal)).toMatchObject({ ok: false, kind: 'restricted' });
});

test('the check is a rehearsal: what is missing is red and names its mend, and nothing has changed', async () => {
  const { open, roles, grant } = await place();
  const options = { roles, grant };
  const names = async (admin: string, more: object = {}): Promise<string[]> => {
    const session = await provider.open(
      optionsSchema.parse({ ...options, ...more }),
      contextOf(`s${places}`, adminOf(admin)),
    );
    const findings = await session.check(signal);
    for (const { level, mend } of findings) if (level === 'red') expect(mend).toBeTruthy();
    return findings.filter(({ level }) => level === 'red').map(({ name }) => name);
  };
  await server.sql(`CREATE ROLE weak_${places} LOGIN PASSWORD '${adminPassword}'`);
  expect(await names(`admin_${places}`)).toEqual([]);
  expect(await names(`weak_${places}`)).toEqual([
    'admin-rights',
    'admin-rights',
    'cannot-end-sessions',
  ]);
  expect(await names(`admin_${places}`, { grant: 'nobody_made_this' })).toEqual(['grant-missing']);
  expect(await names(`nobody_${places}`)).toEqual(['admin-rejected']);
  expect(await names(roles[0])).toEqual(['self-admin', 'admin-rejected']);
  const rows = await server.sql(`SELECT FROM pg_roles WHERE rolname = ANY($1)`, [roles]);
  expect(rows.length).toBe(0);
  await server.sql(`CREATE ROLE ${roles[0]} SUPERUSER`);
  expect(await names(`admin_${places}`)).toEqual(['role-superuser', 'admin-rights']);
  const session = await open();
  await session[Symbol.asyncDispose]();
});

test('an admin credential that is one of the two logins is refused', async () => {
  const { open, roles, request, context } = await place();
  await using session = await open();
  const ready = await request(session);
  await session.mint(ready, signal);
  const fields = ready.prepared?.fields ?? {};
  const own = contextOf(context.secret, {
    ...adminOf(roles[0]),
    password: fields['password']?.reveal() ?? '',
  });
  await using other = await open(own);
  expect(await failure(other.mint(ready, signal))).toEqual({ code: 'self-admin', effect: 'none' });
});

test('a server that sends nonsense under TLS ends the connection, not the process', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-tls-'));
  const [key, cert] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'].concat([
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
      '-subj',
      '/CN=127.0.0.1',
    ]),
    { stdio: 'ignore' },
  );
  const secure = { key: await readFile(key), cert: await readFile(cert) };
  await rm(folder, { recursive: true });
  const open = new Set<net.Socket>();
  const impostor = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('S');
      const upgraded = new tls.TLSSocket(socket, { isServer: true, ...secure });
      upgraded.on('error', () => undefined);
      upgraded.once('data', () => upgraded.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 99])));
    });
  });
  await new Promise<void>((resolve) => {
    impostor.listen(0, '127.0.0.1', resolve);
  });
  const { port } = impostor.address() as net.AddressInfo;
  const at = (rejectUnauthorized: boolean) =>
    connect(
      { host: '127.0.0.1', port, database: 'x', tls: { rejectUnauthorized } },
      { user: 'u', password: 'p' },
      signal,
    );
  try {
    expect(await failure(at(false))).toEqual({ code: 'unavailable', effect: 'none' });
    expect(await failure(at(true))).toEqual({ code: 'unavailable', effect: 'none' });
  } finally {
    for (const socket of open) socket.destroy();
    impostor.close();
  }
});

test('options that cannot work are refused', () => {
  const good = { roles: ['a', 'b'], grant: 'g' };
  expect(optionsSchema.safeParse(good).success).toBe(true);
  const wrong = [
    { ...good, roles: ['a', 'a'] },
    { ...good, roles: ['a'] },
    { ...good, grant: 'a' },
    { ...good, roles: ['a"; DROP ROLE b; --', 'b'] },
    { ...good, passwordLength: 21 },
  ];
  for (const options of wrong) expect(optionsSchema.safeParse(options).success).toBe(false);
});
