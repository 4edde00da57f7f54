/** What the crash tests rely on: the issuer keeps its word, and breaks it only as told. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { RotatedError } from '../../../src/errors.ts';
import type { CredentialInfo, Minted, ProviderSession } from '../../../src/provider/provider.ts';
import { Secret } from '../../../src/provider/provider.ts';
import { testIssuer, type TestIssuerOptions } from './provider.ts';
import { startIssuer, type PrincipalSettings, type RunningIssuer } from './server.ts';

let directory: string;
let issuer: RunningIssuer;
const never = new AbortController().signal;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rotated-issuer-'));
  issuer = await startIssuer({ directory });
});

afterAll(async () => {
  await issuer?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function world(
  principal: string,
  settings: Partial<PrincipalSettings>,
  options: Partial<TestIssuerOptions> = {},
): Promise<ProviderSession> {
  await issuer.configure(principal, settings);
  const crashClass = settings.crashClass ?? 'listable';
  return testIssuer.open(
    testIssuer.options.parse({ url: issuer.url, principal, crashClass, ...options }),
    {
      secret: principal,
      admin: async () => ({ key: new Secret('the-admin-key') }),
      clock: systemClock(),
      random: systemRandom(),
      directory,
    },
  );
}

async function mint(session: ProviderSession, attempt = 1, signal = never): Promise<Minted> {
  const request = { secret: 's', rotation: 'r1', generation: attempt, current: null };
  const prepared = (await session.prepare?.(request, signal)) ?? null;
  const name = `rotated-s-r1-${attempt}`;
  const more = { idempotencyToken: `t${attempt}`, inventory: [], prepared, predecessor: null };
  return session.mint({ ...request, name, ...more }, signal);
}

async function listed(session: ProviderSession): Promise<readonly CredentialInfo[]> {
  return Array.fromAsync(session.list?.(never) ?? []);
}

async function liveCount(principal: string): Promise<number> {
  return (await issuer.keys(principal)).keys.filter((key) => key.live).length;
}

test.each(['chosen', 'token', 'listable', 'blind'] as const)(
  'class %s: a minted key works until it is revoked, and a second revoke succeeds',
  async (crashClass) => {
    const session = await world(`life-${crashClass}`, { crashClass });
    const minted = await mint(session);
    expect(await session.verify(minted, never)).toMatchObject({
      ok: true,
      scopes: ['read', 'write'],
    });
    await session.disable?.(minted.ref, never);
    expect(await session.verify(minted, never)).toMatchObject({ ok: false, kind: 'rejected' });
    await session.enable?.(minted.ref, never);
    await session.revoke(minted.ref, never);
    await session.revoke(minted.ref, never);
    expect(await session.verify(minted, never)).toMatchObject({ ok: false });
    expect(await liveCount(`life-${crashClass}`)).toBe(0);
    expect(session.list === undefined).toBe(crashClass === 'blind');
  },
);

test('a lost answer leaves the key behind, and only a class that can repeats it', async () => {
  const lost = [{ operation: 'mint', nth: 1, kind: 'lost' }] as const;
  const token = await world('lost-token', { crashClass: 'token', faults: lost });
  await expect(mint(token)).rejects.toMatchObject({ code: 'unavailable', effect: 'unknown' });
  await mint(token);
  expect(await liveCount('lost-token')).toBe(1);

  const listable = await world('lost-listable', { crashClass: 'listable', faults: lost });
  await expect(mint(listable)).rejects.toMatchObject({ effect: 'unknown' });
  expect((await listed(listable)).map((key) => key.name)).toEqual(['rotated-s-r1-1']);
  await mint(listable, 2);
  expect(await liveCount('lost-listable')).toBe(2);
});

test('a late mint is invisible at first and lands after the calls it was told to wait for', async () => {
  const session = await world('late', {
    faults: [{ operation: 'mint', nth: 1, kind: 'late', calls: 1 }],
  });
  await expect(mint(session)).rejects.toMatchObject({ effect: 'unknown' });
  expect(await listed(session)).toEqual([]);
  expect((await listed(session)).length).toBe(1);

  await issuer.configure('late-forced', {
    faults: [{ operation: 'mint', nth: 1, kind: 'late', ms: 3_600_000 }],
  });
  const forced = await world('late-forced', {});
  await expect(mint(forced)).rejects.toThrow(RotatedError);
  expect(await issuer.keys('late-forced')).toEqual({ keys: [], late: 1 });
  expect(await issuer.land('late-forced')).toBe(1);
  expect(await liveCount('late-forced')).toBe(1);
});

test('an error before the commit changes nothing, one after it does', async () => {
  const session = await world('errors', {
    faults: [
      { operation: 'mint', nth: 1, kind: 'error', status: 503 },
      { operation: 'mint', nth: 2, kind: 'error', status: 500, committed: true },
    ],
  });
  await expect(mint(session)).rejects.toMatchObject({ code: 'unavailable', effect: 'none' });
  expect(await liveCount('errors')).toBe(0);
  await expect(mint(session)).rejects.toMatchObject({ code: 'unavailable', effect: 'unknown' });
  expect(await liveCount('errors')).toBe(1);
});

test('a hang ends at the caller’s signal with an unknown effect', async () => {
  const session = await world('hang', {
    faults: [{ operation: 'mint', nth: 1, kind: 'hang', committed: true }],
  });
  const controller = new AbortController();
  const minting = mint(session, 1, controller.signal);
  await expect.poll(() => liveCount('hang')).toBe(1);
  controller.abort();
  await expect(minting).rejects.toMatchObject({ code: 'timeout', effect: 'unknown' });
});

test('propagation: a new key is refused and unlisted for the calls it was told to wait for', async () => {
  const session = await world('lag', { lag: { uses: 2, lists: 1, ms: 0 } });
  const minted = await mint(session);
  const probe = await issuer.probe('lag', minted.fields['value']?.reveal() ?? '');
  expect(probe).toMatchObject({ live: true, accepted: false });
  expect(await listed(session)).toEqual([]);
  expect(await listed(session)).toHaveLength(1);
  const oks: boolean[] = [];
  for (let index = 0; index < 3; index++) oks.push((await session.verify(minted, never)).ok);
  expect(oks).toEqual([false, false, true]);
});

test('the key limit counts live keys and frees a place at a revoke', async () => {
  const session = await world('limit', { liveMax: 1 });
  const minted = await mint(session);
  await expect(mint(session, 2)).rejects.toMatchObject({ code: 'limit-reached', effect: 'none' });
  await session.revoke(minted.ref, never);
  await mint(session, 3);
  expect(await liveCount('limit')).toBe(1);
});

test('a revoke that lies leaves the key alive for the calls it was told', async () => {
  const session = await world('liar', {
    faults: [{ operation: 'revoke', nth: 1, kind: 'lie', calls: 1 }],
  });
  const minted = await mint(session);
  await session.revoke(minted.ref, never);
  expect((await session.verify(minted, never)).ok).toBe(true);
  expect((await session.verify(minted, never)).ok).toBe(false);
});

test('wrong rights, a duplicate, a short life and garbage are given where asked for', async () => {
  const session = await world('odd', {
    faults: [
      { operation: 'mint', nth: 1, kind: 'rights', scopes: ['read'] },
      { operation: 'mint', nth: 2, kind: 'duplicate' },
      { operation: 'mint', nth: 3, kind: 'short-lived', lifetimeMs: -1 },
      { operation: 'mint', nth: 4, kind: 'garbage', body: '<html>' },
    ],
  });
  expect((await mint(session, 1)).scopes).toEqual(['read']);
  await mint(session, 2);
  expect(await liveCount('odd')).toBe(3);
  expect(await session.verify(await mint(session, 3), never)).toMatchObject({ ok: false });
  await expect(mint(session, 4)).rejects.toMatchObject({
    code: 'invalid-answer',
    effect: 'unknown',
  });
});

test('administrative calls without the admin key are refused where one is set', async () => {
  const settings = { adminKey: 'the-admin-key' };
  const stranger = await world('guarded', settings);
  await expect(mint(stranger)).rejects.toMatchObject({ code: 'unauthenticated' });
  expect(await stranger.check(never)).toMatchObject([{ level: 'red' }]);
  const admin = await world('guarded', settings, { authenticate: true });
  expect(await admin.check(never)).toMatchObject([{ level: 'green' }]);
  await mint(admin);
});

test('keys and the event log outlive a kill -9 of the issuer', async () => {
  const session = await world('durable', {});
  const minted = await mint(session);
  await session.verify(minted, never);
  await issuer.restart();
  expect((await session.verify(minted, never)).ok).toBe(true);
  const kinds = (await issuer.events('durable')).map((event) => event.kind);
  expect(kinds).toEqual(['mint', 'verify', 'verify']);
  expect(await session.resolve?.(minted.fields, never)).toBe(minted.ref);
});
