import { createHash } from 'node:crypto';
import { createClient } from '@redis/client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isRotatedError } from '../../src/errors.ts';
import type {
  Credential,
  Fields,
  Minted,
  MintRequest,
  ProviderSession,
} from '../../src/provider/provider.ts';
import { startFaultProxy } from '../../test/support/servers/fault-proxy.ts';
import { missingRedis, type RedisServer, startRedis } from '../../test/support/servers/redis.ts';
import { boxed, contextOf } from '../../test/contract/subjects/world.ts';
import provider from './index.ts';
import { optionsSchema } from './options.ts';

const missing = missingRedis();
if (missing !== null) process.stderr.write(`skipped: redis: ${missing}\n`);
/** Never: the runner bounds each test by itself. */
const signal = new AbortController().signal;

async function open(
  server: RedisServer,
  options: object,
  admin: Record<string, string> = { url: server.url() },
): Promise<ProviderSession> {
  return provider.open(optionsSchema.parse(options), contextOf('s', admin));
}

let rotations = 0;
async function request(
  session: ProviderSession,
  current: Credential | null = null,
): Promise<MintRequest> {
  const rotation = `r${++rotations}`;
  const base = { secret: 's', rotation, generation: 1, current };
  return {
    ...base,
    name: `rotated-s-${rotation}-1`,
    idempotencyToken: '0'.repeat(32),
    inventory: [],
    prepared: (await session.prepare?.(base, signal)) ?? null,
    predecessor: null,
  };
}

const mint = async (session: ProviderSession, current: Credential | null = null): Promise<Minted> =>
  session.mint(await request(session, current), signal);

const levels = async (session: ProviderSession): Promise<Record<string, string>> =>
  Object.fromEntries((await session.check(signal)).map(({ name, level }) => [name, level]));

const secretOf = (fields: Fields): string => fields['password']?.reveal() ?? 'missing';

async function client(fields: Fields) {
  const made = createClient({
    url: fields['url']?.reveal() ?? '',
    RESP: 2,
    disableClientInfo: true,
    socket: { reconnectStrategy: false },
  });
  made.on('error', () => undefined);
  await made.connect();
  return made;
}

describe.skipIf(missing !== null)('redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startRedis({ persist: 'aclfile' });
  });
  afterAll(async () => {
    await server?.stop();
  });
  const user = async (...rules: string[]): Promise<string> => {
    const name = `user-${++rotations}`;
    await server.command('ACL', 'SETUSER', name, 'reset', 'on', '~*', '+@all', ...rules);
    return name;
  };

  test('the admin connection carries the hash of a password, never the password', async () => {
    const name = await user();
    await using proxy = await startFaultProxy(server);
    await using session = await open(
      server,
      { user: name, host: server.host, port: server.port },
      { host: proxy.host, port: String(proxy.port), password: server.password },
    );
    const { ref, fields } = await mint(session);
    expect((await session.verify({ ref, fields }, signal)).ok).toBe(true);
    await session.revoke(ref, signal);
    const hash = createHash('sha256').update(secretOf(fields)).digest('hex');
    expect(proxy.requests).toContain(`#${hash}`);
    expect(proxy.requests).toContain(`!${hash}`);
    expect(proxy.requests).not.toContain(secretOf(fields));
  });

  test('a mint outlives a restart of the server, and so does a revoke', async () => {
    const name = await user();
    await using session = await open(server, { user: name });
    const first = await mint(session);
    const second = await mint(session, first);
    await session.revoke(first.ref, signal);
    await server.restart();
    expect((await session.verify(second, signal)).ok).toBe(true);
    expect((await session.verify(first, signal)).ok).toBe(false);
  });

  test('at the revoke a session opened before it ends, one opened after it does not', async () => {
    const name = await user();
    await using session = await open(server, { user: name });
    const first = await mint(session);
    const second = await mint(session, first);
    const old = await client(first.fields);
    const revoked = session.revoke(first.ref, signal);
    // Opened once the old password is gone: as a client would that reconnects while the revoke still waits.
    await expect
      .poll(async () => (await session.verify(first, signal)).ok, { interval: 5 })
      .toBe(false);
    const fresh = await client(second.fields);
    await revoked;
    await expect(old.ping()).rejects.toThrow();
    expect(await fresh.ping()).toBe('PONG');
    fresh.destroy();
  });

  test('a client that never pauses is ended all the same', async () => {
    const name = await user();
    await using session = await open(server, { user: name });
    const { ref, fields } = await mint(session);
    const busy = await client(fields);
    let calls = 0;
    const ended = (async () => {
      for (;;) {
        await busy.ping();
        calls++;
      }
    })().catch(() => 'ended');
    await session.revoke(ref, signal);
    expect(await ended).toBe('ended');
    expect(calls).toBeGreaterThan(10);
  });

  test('endSessions: none leaves sessions alone, and the check says so', async () => {
    const name = await user();
    await using session = await open(server, { user: name, endSessions: 'none' });
    const { ref, fields } = await mint(session);
    const old = await client(fields);
    await session.revoke(ref, signal);
    expect(await old.ping()).toBe('PONG');
    old.destroy();
    expect(await levels(session)).toMatchObject({ 'sessions-survive': 'amber' });
  });

  test('a user that accepts anything, is off or missing is red', async () => {
    const open_ = (name: string) => open(server, { user: name });
    expect(await levels(await open_(await user('nopass')))).toMatchObject({ 'user-nopass': 'red' });
    expect(await levels(await open_(await user('off')))).toMatchObject({ 'user-off': 'red' });
    expect(await levels(await open_('nobody-made-this'))).toMatchObject({ 'user-missing': 'red' });
    const session = await open_(await user('nopass'));
    await expect(mint(session)).rejects.toMatchObject({ code: 'refused', effect: 'none' });
  });

  test('an admin credential that is the rotating user, or is not accepted, is red', async () => {
    const name = await user('>its-own');
    const at = { host: server.host, port: String(server.port) };
    const self = await open(server, { user: name }, { ...at, username: name, password: 'its-own' });
    expect(await levels(self)).toMatchObject({ 'self-admin': 'red' });
    const error: unknown = await mint(self).catch((thrown: unknown) => thrown);
    expect(isRotatedError(error, 'self-admin')).toBe(true);
    const wrong = await open(server, { user: name }, { ...at, username: name, password: 'wrong' });
    expect(await levels(wrong)).toMatchObject({ 'admin-rejected': 'red' });
  });

  test('a password that a person chose is found by its value, and replaced', async () => {
    const name = await user('>chosen-by-hand');
    await using session = await open(server, { user: name });
    const fields = boxed({ username: name, password: 'chosen-by-hand' });
    const ref = (await session.resolve?.(fields, signal)) ?? '';
    expect(ref).toMatch(new RegExp(`^${name}#[0-9a-f]{16}$`));
    const fresh = await mint(session, { ref, fields });
    await session.revoke(ref, signal);
    expect((await session.verify({ ref: null, fields }, signal)).ok).toBe(false);
    expect((await session.verify(fresh, signal)).ok).toBe(true);
  });

  test('a user without the right to ask who it is verifies all the same', async () => {
    const name = await user('-@all', '+get');
    await using session = await open(server, { user: name });
    expect((await session.verify(await mint(session), signal)).ok).toBe(true);
  });
});

describe.skipIf(missing !== null)('where ACL changes can be saved', () => {
  test('in the configuration file: a mint outlives a restart', async () => {
    await using server = await startRedis({ persist: 'config' });
    await server.command('ACL', 'SETUSER', 'app', 'on', '~*', '+@all');
    await using session = await open(server, { user: 'app' });
    const minted = await mint(session);
    expect(await levels(session)).not.toHaveProperty('acl-not-saved');
    await server.restart();
    expect((await session.verify(minted, signal)).ok).toBe(true);
  });

  test('nowhere: the check warns, auto mints, and an explicit aclfile says what it did', async () => {
    await using server = await startRedis();
    await server.command('ACL', 'SETUSER', 'app', 'on', '~*', '+@all');
    await using session = await open(server, { user: 'app' });
    expect(await levels(session)).toMatchObject({ 'acl-not-saved': 'amber' });
    expect((await session.verify(await mint(session), signal)).ok).toBe(true);
    await using strict = await open(server, { user: 'app', aclSave: 'aclfile' });
    await expect(mint(strict)).rejects.toMatchObject({ effect: 'applied' });
  });
});
