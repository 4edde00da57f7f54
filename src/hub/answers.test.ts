/** What a reference stands for, and what a granted server is answered. */
import { describe, expect, test, vi } from 'vitest';
import type { ItemVersion } from '../backend/backend.ts';
import { RotatedError } from '../errors.ts';
import type { Policy } from '../policy/policy.ts';
import { Secret } from '../secret/secret.ts';
import { answerTo } from './answers.ts';
import { covers, indexReferences } from './references.ts';

const asker = { server: 'db', hash: 'h', what: 'db', references: [] };
const signal = () => AbortSignal.timeout(10_000);

function policy(name: string, item: string, more: object = {}): Policy {
  const whole = {
    name,
    provider: { use: 'generated', admin: null, options: {} },
    backend: { scheme: 'local', item, fields: null },
    consumers: [],
    ...more,
  };
  return whole as unknown as Policy;
}

const fields = (...names: string[]) => ({
  backend: {
    scheme: 'local',
    item: 'mcp/db',
    fields: Object.fromEntries(names.map((n) => [n, n])),
  },
});
const indexOf = (...policies: Policy[]) =>
  indexReferences(new Map(policies.map((one) => [one.name, one])));

const shared = indexOf(
  policy('login', 'mcp/db', fields('USER', 'PASSWORD')),
  policy('token', 'mcp/db', fields('TOKEN')),
  policy('search', 'mcp/search'),
);

/** A backend with these items; each read is counted. */
function backend(items: Readonly<Record<string, Record<string, string>>>, owners: object = {}) {
  return vi.fn(async (_scheme: string, item: string): Promise<ItemVersion | null> => {
    const found = items[item];
    if (found === undefined) return null;
    return {
      version: '1',
      txn: null,
      createdAt: 0,
      owners: owners as ItemVersion['owners'],
      fields: Object.fromEntries(Object.entries(found).map(([k, v]) => [k, new Secret(v)])),
    };
  });
}

function answer(references: readonly string[], read: ReturnType<typeof backend>, index = shared) {
  const check = async () => references.map((text) => index.meaningOf(text));
  return answerTo({ ...asker, references }, { check }, read, signal());
}

describe('an answer', () => {
  test('reads each item once, however many of its fields are asked for, and keeps the order', async () => {
    const read = backend(
      { 'mcp/db': { USER: 'u', PASSWORD: 'p', TOKEN: 't' }, 'mcp/search': { value: 's' } },
      { login: { generation: 7 }, token: { generation: 2 } },
    );
    const { values, generations } = await answer(
      [
        'local://mcp/db#PASSWORD',
        'local://mcp/search',
        'local://mcp/db#USER',
        'local://mcp/db#TOKEN',
      ],
      read,
    );
    expect(values.map((value) => value.reveal())).toEqual(['p', 's', 'u', 't']);
    // What stood there before its first rotation is generation 0.
    expect(generations).toEqual({ login: 7, token: 2, search: 0 });
    expect(read).toHaveBeenCalledTimes(2);
  });

  test('names only the secrets whose fields are asked for; an item without a policy has none', async () => {
    const read = backend(
      { 'mcp/db': { TOKEN: 't' }, own: { key: 'k' } },
      { login: {}, token: { generation: 2 } },
    );
    const { generations } = await answer(['local://mcp/db#TOKEN', 'local://own#key'], read);
    expect(generations).toEqual({ token: 2 });
  });

  test('what is not there says what to do, without any value', async () => {
    const read = backend({ 'mcp/db': { USER: 'u-value', PASSWORD: 'p-value' } });
    const failed = async (reference: string) => {
      const error: unknown = await answer([reference], read).catch((thrown: unknown) => thrown);
      expect(JSON.stringify(error)).not.toContain('-value');
      return error;
    };
    expect(await failed('local://mcp/search')).toMatchObject({
      code: 'not-found',
      next: expect.stringContaining('rotate run search'),
    });
    expect(await failed('local://mcp/none')).toMatchObject({ code: 'not-found' });
    expect(await failed('local://mcp/db#OTHER')).toMatchObject({ code: 'not-found' });
    expect(await failed('local://mcp/db')).toMatchObject({
      code: 'policy-invalid',
      next: expect.stringContaining('local://mcp/db#PASSWORD'),
    });
  });

  test('nothing is read before the grant was checked', async () => {
    const read = backend({ 'mcp/db': { USER: 'u' } });
    const check = async () => {
      throw new RotatedError('not-granted', 'No.');
    };
    const asked = answerTo(
      { ...asker, references: ['local://mcp/db#USER'] },
      { check },
      read,
      signal(),
    );
    await expect(asked).rejects.toMatchObject({ code: 'not-granted' });
    expect(read).not.toHaveBeenCalled();
  });
});

describe('a reference', () => {
  test('is the same however it is written, and covered by a grant of its whole item alone', () => {
    const meaning = shared.meaningOf('local://mcp/db#TOKEN');
    expect(meaning).toMatchObject({ item: 'mcp/db', field: 'TOKEN', isAdmin: false });
    expect(covers('local://mcp/db', meaning)).toBe(true);
    expect(covers('local://mcp/db#TOKEN', meaning)).toBe(true);
    expect(covers('local://mcp/db#USER', meaning)).toBe(false);
    expect(covers('local://mcp', meaning)).toBe(false);
    // A grant of one field is none of the whole.
    expect(covers('local://mcp/db#TOKEN', shared.meaningOf('local://mcp/db'))).toBe(false);
    expect(shared.secretsOf(['local://mcp/db', 'no reference'])).toEqual(['login', 'token']);
    expect(() => shared.meaningOf('file:///etc/passwd')).toThrow(
      expect.objectContaining({ code: 'policy-invalid' }),
    );
  });

  test('to anything a policy authenticates with is an admin credential, whichever field of it', () => {
    const http = { kind: 'http', url: 'http://h', key: 'local://keys/a#k' };
    const report = {
      kind: 'file',
      report: { kind: 'http', url: 'http://h', key: 'local://keys/b' },
    };
    const index = indexOf(
      policy('one', 'mcp/one', {
        provider: {
          use: 'postgres',
          admin: 'local://admin/pg#url',
          options: { probe: [{ with: 'local://admin/probe' }], url: 'https://example.com' },
        },
        consumers: [{ report: null, ...http }, report],
      }),
      policy('two', 'admin/pg'),
    );
    for (const item of ['admin/pg', 'admin/pg#other', 'admin/probe', 'keys/a', 'keys/b#x']) {
      expect(index.meaningOf(`local://${item}`).isAdmin, item).toBe(true);
    }
    expect(index.meaningOf('local://mcp/one').isAdmin).toBe(false);
    expect(index.meaningOf('local://admin').isAdmin).toBe(false);
  });
});
