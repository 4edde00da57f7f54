/** That the check would see an old credential being used: at the key issuer, and at the database. */
import { Client as PostgresClient } from 'pg';
import { expect, test } from 'vitest';
import { startKeyIssuer } from './key-issuer.ts';
import { postgresCase } from './postgres-case.ts';

test('the key issuer refuses a revoked key and logs that it was used', async () => {
  await using issuer = await startKeyIssuer('test-');
  const ask = (method: string, path: string, bearer: string, body?: object) =>
    fetch(issuer.url + path, {
      method,
      headers: { authorization: `Bearer ${bearer}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const minted = await ask('POST', '/keys', issuer.adminToken, { name: 'one', token: 'a' });
  const { ref, value } = (await minted.json()) as { ref: string; value: string };
  expect((await ask('POST', '/search', value, { query: 'x' })).status).toBe(200);
  await ask('DELETE', `/keys/${ref}`, issuer.adminToken);
  expect((await ask('POST', '/search', value, { query: 'x' })).status).toBe(401);
  // Asking whether it is dead is no use of it.
  await ask('POST', '/keys/verify', issuer.adminToken, { value });
  expect(issuer.uses).toEqual([
    { ref, afterRevoke: false, path: '/search' },
    { ref, afterRevoke: true, path: '/search' },
  ]);
});

test('a session of a revoked login is counted, and so is a connection that came and went', async () => {
  await using subject = await postgresCase();
  const url = new URL(subject.launch.command[2] ?? '');
  const { user, password } = { user: 'reports_a', password: 'of-a-test' };
  const at = { host: '127.0.0.1', port: Number(url.port) };
  const superuser = { user: 'postgres', password: 'superuser-of-a-test', database: 'postgres' };
  await once(
    { ...at, ...superuser },
    `CREATE ROLE ${user} LOGIN PASSWORD '${password}' IN ROLE reports_read`,
  );
  subject.watch(user);
  expect(await subject.usesAfterRevoke()).toBe(0);
  subject.watch(user);
  await once({ ...at, user, password, database: 'reports' }, 'SELECT 1');
  expect(await subject.usesAfterRevoke()).toBe(1);
  const session = new PostgresClient({ ...at, user, password, database: 'reports' });
  await session.connect();
  subject.watch(user);
  expect(await subject.usesAfterRevoke()).toBe(2);
  await session.end();
});

async function once(
  to: { host: string; port: number; user: string; password: string; database: string },
  statement: string,
): Promise<void> {
  const client = new PostgresClient(to);
  await client.connect();
  await client.query(statement);
  await client.end();
}
